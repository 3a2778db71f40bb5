//! Two child processes of this binary: a server on one core, a client on another, and what they say.
//!
//! In:    a job, how long.
//! Out:   [`Outcome`], or why there is none.
//! Holds: no child outlives its [`Side`].

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::gauge::{Mark, Said};
use crate::job::Job;
use crate::works::Work;

/// How long a child may take to start, connect or answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long all connections of the memory work may take.
const CONNECTIONS: Duration = Duration::from_secs(180);
/// How much of a child's complaints is kept.
const COMPLAINT_MAX: usize = 300;

/// What both sides counted, at the start and in the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) server: (Mark, Mark),
    pub(crate) client: (Mark, Mark),
}

/// The cores of the two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) client: usize,
}

/// Does the job for so long.
pub(crate) fn run(job: &Job, cores: Cores, span: Duration) -> Result<Outcome, String> {
    let mut server = Side::start("serve", job, cores.server)?;
    let address = server.ready()?;
    let mut client = Side::start("call", &Job { address, ..job.clone() }, cores.client)?;
    client.ready()?;
    if let Work::Memory { connections } = job.work {
        return fill(&mut server, &mut client, connections, job.work.warm_up());
    }
    std::thread::sleep(job.work.warm_up());
    let before = (server.mark()?, client.mark()?);
    std::thread::sleep(span);
    let after = (server.mark()?, client.mark()?);
    Ok(Outcome { server: (before.0, after.0), client: (before.1, after.1) })
}

/// Waits for the connections, and then until both sides have calmed down.
fn fill(server: &mut Side, client: &mut Side, connections: usize, calm: Duration) -> Result<Outcome, String> {
    let start = Instant::now();
    // The server's may come later: what was lost on the way is sent again.
    let mut stand = client.mark()?.connections.min(server.mark()?.connections);
    while stand < connections as u64 {
        if start.elapsed() > CONNECTIONS {
            return Err(format!("{stand} of {connections} connections after {CONNECTIONS:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
        stand = client.mark()?.connections.min(server.mark()?.connections);
    }
    std::thread::sleep(calm);
    let nothing = Mark::default;
    Ok(Outcome { server: (nothing(), server.mark()?), client: (nothing(), client.mark()?) })
}

/// One of the two.
struct Side {
    role: &'static str,
    child: Child,
    input: ChildStdin,
    said: Receiver<Said>,
    complaints: Receiver<String>,
}

impl Side {
    fn start(role: &'static str, job: &Job, core: usize) -> Result<Self, String> {
        let job = serde_json::to_string(job).map_err(|error| error.to_string())?;
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["child", role, "--core", &core.to_string(), "--job", &job]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cannot start a child: {error}"))?;
        let input = child.stdin.take().ok_or("a child has no input")?;
        let output = child.stdout.take().ok_or("a child has no output")?;
        let complaints = child.stderr.take().ok_or("a child has no error output")?;
        let (teller, said) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            for said in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                if teller.send(said).is_err() {
                    return;
                }
            }
        });
        Ok(Self { role, child, input, said, complaints: collect(complaints) })
    }

    fn ready(&mut self) -> Result<String, String> {
        match self.next()? {
            Said::Ready(address) => Ok(address),
            other => Err(format!("{}: {other:?} before it was ready", self.role)),
        }
    }

    fn mark(&mut self) -> Result<Mark, String> {
        // A child that has ended has said why, or `next` finds out.
        let _ = writeln!(self.input, "mark").and_then(|()| self.input.flush());
        match self.next()? {
            Said::Marked(mark) => Ok(*mark),
            other => Err(format!("{}: {other:?} instead of its counters", self.role)),
        }
    }

    fn next(&mut self) -> Result<Said, String> {
        match self.said.recv_timeout(ANSWER) {
            Ok(Said::Failed(why)) => Err(format!("{}: {why}", self.role)),
            Ok(said) => Ok(said),
            Err(RecvTimeoutError::Timeout) => Err(format!("{}: no answer within {ANSWER:?}", self.role)),
            Err(RecvTimeoutError::Disconnected) => Err(self.obituary()),
        }
    }

    /// How it ended, and its last words.
    fn obituary(&mut self) -> String {
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let words = self.complaints.recv_timeout(ANSWER).unwrap_or_default();
        let from = words.ceil_char_boundary(words.len().saturating_sub(COMPLAINT_MAX));
        format!("{} ended ({status}): {}", self.role, words[from..].trim().replace('\n', "; "))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Nothing that it could still say is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all that comes, so that the child never waits, and gives it out at the end.
fn collect(mut complaints: impl Read + Send + 'static) -> Receiver<String> {
    let (teller, told) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = complaints.read_to_end(&mut bytes);
        let _ = teller.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    told
}
