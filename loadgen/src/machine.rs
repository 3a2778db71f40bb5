//! Where and by what a run was made: all that a reader needs to judge its figures.
//!
//! In:    files under /proc and /sys, what the build knew.
//! Out:   a JSON object.
//! Holds: what cannot be found out is `null`; nothing fails.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::thread::sched_getaffinity;
use serde_json::{Map, Value, json};

use crate::options::NodeOptions;

/// Processor features that the data path may use, and whether there is a hypervisor below.
const CPU_FLAGS: [&str; 8] =
    ["aes", "vaes", "avx2", "avx512f", "pclmulqdq", "vpclmulqdq", "sha_ni", "hypervisor"];
/// More cores than this are not looked for.
const CORES_MAX: usize = 1_024;

/// The environment, and what all runs of it are started with.
pub(crate) fn environment_of(node: &NodeOptions) -> Map<String, Value> {
    let mut environment = environment();
    environment.insert("settings".to_owned(), json!({ "arguments": node.to_arguments().join(" ") }));
    environment
}

/// The environment, without what the engines say of themselves.
pub(crate) fn environment() -> Map<String, Value> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let sysctl = |name: &str| line_of(&format!("/proc/sys/{name}"));
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).ok();
    let environment = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": env!("LOADGEN_REVISION"),
        "compiler": env!("LOADGEN_COMPILER"),
        "profile": env!("LOADGEN_PROFILE"),
        "command": std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        "time_unix": time,
        "kernel": line_of("/proc/sys/kernel/osrelease"),
        "kernel_build": line_of("/proc/sys/kernel/version"),
        "architecture": std::env::consts::ARCH,
        "cpu": cpu_line(&cpu, "model name"),
        "cpu_flags": cpu_flags(&cpu),
        "cores_allowed": cores_allowed(),
        "governor": line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_kib": memory_kib(&memory),
        "load_average": line_of("/proc/loadavg"),
        "mtu": mtus(),
        "rmem_max": sysctl("net/core/rmem_max"),
        "wmem_max": sysctl("net/core/wmem_max"),
        "netdev_budget": sysctl("net/core/netdev_budget"),
        "busy_poll": sysctl("net/core/busy_poll"),
        "io_uring_disabled": sysctl("kernel/io_uring_disabled"),
    });
    match environment {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The first line of a file.
fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

fn cpu_line<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn cpu_flags(text: &str) -> Vec<&'static str> {
    let flags = cpu_line(text, "flags").or_else(|| cpu_line(text, "Features")).unwrap_or_default();
    CPU_FLAGS.into_iter().filter(|flag| flags.split(' ').any(|own| own == *flag)).collect()
}

fn cores_allowed() -> Option<usize> {
    let allowed = sched_getaffinity(None).ok()?;
    Some((0..CORES_MAX).filter(|core| allowed.is_set(*core)).count())
}

fn memory_kib(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The MTU of each network interface.
fn mtus() -> Map<String, Value> {
    let mut mtus = Map::new();
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let mtu = fs::read_to_string(entry.path().join("mtu")).ok();
        let mtu = mtu.and_then(|text| text.trim().parse::<u64>().ok());
        mtus.insert(entry.file_name().to_string_lossy().into_owned(), mtu.into());
    }
    mtus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_what_a_reader_asks_for() {
        let environment = environment();
        for key in ["kernel", "cpu", "version", "revision", "compiler", "profile", "command", "mtu"] {
            assert!(!environment[key].is_null(), "{key}");
        }
        assert!(environment["mtu"]["lo"].as_u64().is_some_and(|mtu| mtu > 0), "{environment:?}");
    }

    #[test]
    fn flags_are_whole_words() {
        let text = "model name\t: A CPU\nflags\t\t: fpu vaes sha_ni\n";
        assert_eq!((cpu_line(text, "model name"), cpu_flags(text)), (Some("A CPU"), vec!["vaes", "sha_ni"]));
    }
}
