//! Being told to end: SIGTERM and SIGINT.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use dunlin::clock::Clock;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// A signal that follows the first one sooner is the same wish: whoever starts commands may send it to each process and to the group.
const SAME_WISH: Duration = Duration::from_millis(500);

/// Calls `stop` at the first signal; another one later ends the process at once.
pub(crate) fn on_stop(stop: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(format_args!("cannot listen to signals: {error}"));
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let watch = move || {
        let clock = Clock::start();
        let mut arriving = signals.forever();
        arriving.next();
        let first = clock.instant();
        stop();
        for _ in arriving {
            if clock.instant().since(first) >= SAME_WISH {
                process::exit(1);
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
    Ok(())
}
