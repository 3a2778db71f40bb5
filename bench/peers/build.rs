//! What the tables say of the binary: the revision it was built from, and the compiler.
//!
//! Holds: a tree without git, or a machine without it, builds all the same and says `unknown`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = said_by("git", &["rev-parse", "--git-path", name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let revision = said_by("git", &["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    println!("cargo::rustc-env=PEERS_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = said_by(&compiler, &["--version"]);
    println!("cargo::rustc-env=PEERS_COMPILER={}", version.as_deref().unwrap_or("unknown"));
}

/// The first line that a program says, if it can be run and likes its arguments.
fn said_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().filter(|line| output.status.success() && !line.is_empty()).map(str::to_owned)
}
