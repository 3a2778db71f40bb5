//! Where the command `dunlin` is: beside this test, built with it or, where cargo did not, by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Folders whose files the command is made of.
const SOURCES: [&str; 3] = ["codec/src", "shards/src", "engine/src"];

/// The path of the command, which is as new as its sources.
pub(crate) fn dunlin() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        // …/PROFILE/deps/live-HASH
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap().to_owned();
        let path = folder.join("dunlin");
        if is_stale(&path) {
            build(&folder);
        }
        path
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn is_stale(path: &Path) -> bool {
    let Ok(built) = fs::metadata(path).and_then(|about| about.modified()) else { return true };
    SOURCES.iter().any(|folder| newest(&root().join(folder)) > built)
}

fn newest(path: &Path) -> SystemTime {
    let Ok(entries) = fs::read_dir(path) else { return SystemTime::UNIX_EPOCH };
    let times = entries.flatten().map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => newest(&entry.path()),
        Ok(about) => about.modified().unwrap(),
        Err(_) => SystemTime::UNIX_EPOCH,
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// With the profile of this test, into the same target folder.
fn build(folder: &Path) {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "test",
        Some(other) => other,
    };
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--package", "dunlin", "--bin", "dunlin", "--profile", profile, "--target-dir"])
        .arg(folder.parent().unwrap())
        .current_dir(root())
        .status()
        .expect("cargo is there, since it built this test");
    assert!(status.success(), "the command does not build");
}
