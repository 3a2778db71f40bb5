//! What the figures were measured on.

use serde::Serialize;

/// The machine, its kernel, and how busy it was when the run began.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Runnable threads over the last minute before the run, as the kernel counts them.
    pub(crate) load: String,
    /// Of this repository.
    pub(crate) revision: &'static str,
    pub(crate) compiler: &'static str,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            revision: env!("PEERS_REVISION"),
            compiler: env!("PEERS_COMPILER"),
        }
    }
}
