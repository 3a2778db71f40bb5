//! The built `dunlin` in processes of its own, and places for their files.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use dunlin_tests::capability::Capability;

/// The program, built once with the profile of this test.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "dunlin", "--bin", "dunlin", "--target-dir"]);
        build.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "dunlin does not build");
        profile.join("dunlin")
    })
}

/// The back ends that this machine has.
pub(crate) fn back_ends(test: &str) -> Vec<&'static str> {
    if Capability::IoUring.is_missing(test) { vec!["mmsg"] } else { vec!["mmsg", "uring"] }
}

/// A folder of its own, 0700, gone with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dunlin-live-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A file of so many bytes that no two places share.
    pub(crate) fn file(&self, name: &str, len: usize) -> String {
        let mut rng = dunlin_shards::rng::Rng::from_number(len as u64 ^ name.len() as u64);
        let mut bytes = vec![0; len];
        rng.fill(&mut bytes);
        std::fs::write(self.0.join(name), bytes).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `dunlin node` or `dunlin receive`; killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) uri: String,
}

impl Server {
    /// Starts it on a port of its own and waits for its URI.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(program())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let uri = lines.next().expect("it prints its URI").unwrap();
        assert!(uri.starts_with("dunlin://"), "{uri}");
        // The pipe is read to its end, so that the child never waits for it.
        std::thread::spawn(move || for _ in lines.by_ref() {});
        Self { child, uri }
    }

    /// host:port.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.uri.rsplit('@').next().unwrap().parse().unwrap()
    }

    /// The same node, reached at another address.
    pub(crate) fn uri_at(&self, address: std::net::SocketAddr) -> String {
        format!("{}@{address}", self.uri.split('@').next().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

/// What it told on standard error.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The value behind `"key":` in the last line of JSON that has it.
pub(crate) fn number_of(output: &Output, key: &str) -> u64 {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut values = text.lines().rev().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.get(key)?.as_u64()
    });
    values.next().unwrap_or_else(|| panic!("no {key} in {text}"))
}
