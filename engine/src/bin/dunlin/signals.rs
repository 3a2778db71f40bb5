//! Being told to end: SIGTERM and SIGINT.

use std::io;
use std::process;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// Calls `stop` at the first signal; a second one ends the process at once.
pub(crate) fn on_stop(stop: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(format_args!("cannot listen to signals: {error}"));
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let watch = move || {
        let mut arriving = signals.forever();
        arriving.next();
        stop();
        arriving.next();
        process::exit(1);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
    Ok(())
}
