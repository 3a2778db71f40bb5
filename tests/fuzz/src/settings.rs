//! The configuration: a file's text, and single values as flags and variables give them.

use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use dunlin::Config;
use dunlin::config::{Flag, Loaded, print_sources};
use rustix::fs::{MemfdFlags, memfd_create};

use super::packets::assert_shows;

/// A file in memory: the configuration is read by its path.
fn load(text: &[u8]) -> Result<Loaded, dunlin::config::ConfigError> {
    let handle = memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("Linux has memory files");
    let mut file = std::fs::File::from(handle);
    file.write_all(text).and_then(|()| file.rewind()).expect("memory takes it");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Config::load(Some(&path), [], &[])
}

/// The lines of `print_sources`, each key with its value as TOML.
fn printed(loaded: &Loaded) -> Vec<(String, String)> {
    let shown = print_sources(loaded);
    let line = |line: &str| {
        let (key, rest) = line.split_once(" = ").expect("a key and its value");
        let value = rest.strip_suffix(&loaded.place(key).to_string()).expect("the place comes last");
        (key.to_owned(), value.trim_end().to_owned())
    };
    shown.lines().map(line).collect()
}

fn assert_reads_back(loaded: &Loaded) {
    let text: String = printed(loaded).iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    match load(text.as_bytes()) {
        Ok(again) => assert_eq!(again.config, loaded.config, "what is printed reads back as the same"),
        Err(error) => panic!("what was printed is refused: {error}\n{text}"),
    }
}

/// A configuration file.
pub fn config(input: &[u8]) {
    match load(input) {
        Ok(loaded) => assert_reads_back(&loaded),
        Err(error) => drop(assert_shows(&error)),
    }
}

/// One value as text, given to every key in turn.
pub fn setting(input: &[u8]) {
    let Ok(value) = core::str::from_utf8(input) else { return };
    let defaults = Config::load(None, [], &[]).expect("the defaults are in range");
    for (key, _) in printed(&defaults) {
        let flag = Flag { name: "--set", key: &key, value: value.to_owned() };
        let by_flag = Config::load(None, [], &[flag]);
        let variable = format!("DUNLIN_{}", key.replace('.', "_").to_uppercase());
        let by_variable = Config::load(None, [(variable, value.to_owned())], &[]);
        match (by_flag, by_variable) {
            (Ok(flag), Ok(variable)) => {
                assert_eq!(flag.config, variable.config, "{key} means the same from both");
                if flag.config != defaults.config {
                    assert_reads_back(&flag);
                }
            }
            (Err(flag), Err(variable)) => {
                assert_shows(&flag);
                assert_shows(&variable);
            }
            (flag, variable) => panic!("{key}: {flag:?} as a flag, {variable:?} as a variable"),
        }
    }
}
