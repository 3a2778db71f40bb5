//! A running `dunlin`, what it says, and how it ends.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::DEADLINE;
use crate::binary::dunlin;
use crate::scratch::Scratch;

/// A process that is killed when its test ends before it.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

/// What a process said and came to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: String,
}

impl Ended {
    /// The JSON lines with this event.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        let parsed = self.stdout.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|value| value["event"] == event).collect()
    }

    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// The one line of an error.
    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        let mut errors = self.stderr.lines().filter(|line| line.starts_with("dunlin: "));
        let error = errors.next().unwrap_or_else(|| panic!("no error was said: {self:#?}"));
        assert_eq!(errors.next(), None, "more than one line: {self:#?}");
        error
    }
}

/// The command with these arguments, in an environment of its own.
pub(crate) fn command<A: AsRef<OsStr>>(scratch: &Scratch, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(dunlin());
    command.args(arguments);
    settle(&mut command, scratch);
    command
}

/// Gives a command the test's folder, and takes this process's settings away.
pub(crate) fn settle(command: &mut Command, scratch: &Scratch) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DUNLIN_") {
            command.env_remove(name);
        }
    }
    command.env("XDG_STATE_HOME", scratch.at("state")).current_dir(scratch.path());
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            // How far a file is would only make a failure hard to read.
            let is_worth_keeping = |line: &String| !line.contains(r#""event":"progress""#);
            for line in stdout.lines().map_while(Result::ok).filter(is_worth_keeping) {
                let _ = sender.send(line);
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, lines, stderr: Some(stderr) }
    }

    pub(crate) fn dunlin(scratch: &Scratch, arguments: &[&str]) -> Self {
        Self::start(command(scratch, arguments))
    }

    /// Its next line.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(_) => {
                let _ = self.child.kill();
                panic!("it said nothing: {}", self.stderr.take().unwrap().join().unwrap());
            }
        }
    }

    /// Its number in /proc.
    pub(crate) fn number(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it until `Signal::CONT`, and waits until each of its threads stands still.
    pub(crate) fn suspend(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            // The name may hold anything but is in parentheses, and the state is behind it.
            stat.rsplit(") ").next().unwrap().starts_with('T')
        };
        wait_until("all its threads stand still", || std::fs::read_dir(&tasks).unwrap().all(is_stopped));
    }

    /// Kills it, and waits until its port is free again.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(self) -> Ended {
        self.wait_for(DEADLINE)
    }

    /// Waits so long for its end.
    #[track_caller]
    pub(crate) fn wait_for(mut self, deadline: Duration) -> Ended {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > deadline => {
                    let _ = self.child.kill();
                    let said: Vec<String> = self.lines.iter().collect();
                    let stderr = self.stderr.take().unwrap().join().unwrap();
                    panic!("it does not end: {said:#?} {stderr}");
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let stdout = self.lines.iter().collect();
        Ended { code: status.code(), stdout, stderr: self.stderr.take().unwrap().join().unwrap() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the command to its end.
#[track_caller]
pub(crate) fn run(scratch: &Scratch, arguments: &[&str]) -> Ended {
    Process::dunlin(scratch, arguments).wait()
}

/// A node or receiver, and where to call it.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) uri: String,
}

impl Node {
    /// Starts `dunlin node` or `dunlin receive` with these arguments and waits until it can be called.
    #[track_caller]
    pub(crate) fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        Self::start_command(command(scratch, arguments))
    }

    #[track_caller]
    pub(crate) fn start_command(command: Command) -> Self {
        let mut process = Process::start(command);
        let line = process.line();
        let uri = match serde_json::from_str::<Value>(&line) {
            Ok(listening) => listening["uris"][0].as_str().unwrap().to_owned(),
            Err(_) => line,
        };
        assert!(uri.starts_with("dunlin://"), "{uri}");
        Self { process, uri }
    }

    /// Ends it as an operator does.
    #[track_caller]
    pub(crate) fn stop(self) -> Ended {
        self.process.signal(Signal::TERM);
        self.process.wait()
    }

    /// Its URI with another port, such as that of a bad link before it.
    pub(crate) fn uri_at(&self, port: u16) -> String {
        let (front, _) = self.uri.rsplit_once(':').unwrap();
        format!("{front}:{port}")
    }

    pub(crate) fn port(&self) -> u16 {
        self.uri.rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

/// A port that nobody has right now.
pub(crate) fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "never came true: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes of the one unfinished file in a folder; 0 while there is none.
pub(crate) fn part_len(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let parts = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    parts.filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).max().unwrap_or(0)
}
