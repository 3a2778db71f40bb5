//! Ctrl-C ends a run early and keeps what it has; twice ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on signals end the run instead of the process.
pub(crate) fn listen() {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the second signal finds the flag set by the first. Without handlers signals end the process.
        let _ = flag::register_conditional_shutdown(signal, 1, asked.clone());
        let _ = flag::register(signal, asked.clone());
    }
}

/// The run is to end.
pub(crate) fn is_asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed))
}
