//! The commands' side: one request, and the answers to it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::error::ControlError;
use super::line::{self, Lines};
use super::listener::{Address, is_trusted};
use super::protocol::{Answer, Command, open};

/// Bytes of an answer's line.
const ANSWER_LEN_MAX: usize = 16 << 20;

/// The answers to a request, one after the other.
pub struct Answers {
    lines: Lines,
    path: PathBuf,
}

/// Asks the node whose admin socket is at `path`.
///
/// # Errors
/// There is no node, it is not this user's, or the system refuses.
pub fn call(path: &Path, command: &Command) -> Result<Answers, ControlError> {
    let system = |what| move |why| ControlError::System { what, path: path.to_owned(), why };
    let mut stream = connect(path).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NoNode(path.to_owned()),
        _ => system("connect to it")(why),
    })?;
    // Somebody else's socket would be told what this user says.
    if !is_trusted(&stream).map_err(system("see whose it is"))? {
        return Err(ControlError::NotOurs(path.to_owned()));
    }
    match line::write(&mut stream, command) {
        // It has answered before it was asked, such as that too many ask.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => {}
        asked => asked.map_err(system("ask it"))?,
    }
    Ok(Answers { lines: Lines::new(stream), path: path.to_owned() })
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.connect(&Address::of(path)?.address()?)?;
    Ok(UnixStream::from(OwnedFd::from(socket)))
}

/// Says more on the connection of a request, while another thread waits for answers.
pub struct Teller {
    stream: UnixStream,
    path: PathBuf,
}

impl Teller {
    /// Says this.
    ///
    /// # Errors
    /// The node is gone, or the system refuses.
    pub fn say(&mut self, command: &Command) -> Result<(), ControlError> {
        let failed = |why| ControlError::System { what: "ask it", path: self.path.clone(), why };
        line::write(&mut self.stream, command).map_err(failed)
    }
}

impl Answers {
    /// To say more on this connection.
    ///
    /// # Errors
    /// The system refuses.
    pub fn teller(&mut self) -> Result<Teller, ControlError> {
        let failed = |why| ControlError::System { what: "ask it", path: self.path.clone(), why };
        let stream = self.lines.stream().try_clone().map_err(failed)?;
        Ok(Teller { stream, path: self.path.clone() })
    }

    /// The next answer, which must come in time; None: there are no more.
    ///
    /// # Errors
    /// `Refused` with what the node says; no answer in time; one that makes no sense.
    pub fn next_within(&mut self, wait: Duration) -> Result<Option<Answer>, ControlError> {
        let line = self.lines.next_within(ANSWER_LEN_MAX, wait);
        let what = "get an answer";
        let line = line.map_err(|why| ControlError::System { what, path: self.path.clone(), why })?;
        let Some(line) = line else { return Ok(None) };
        match open(&line) {
            Ok(Answer::Refused(why)) => Err(ControlError::Refused(why)),
            Ok(answer) => Ok(Some(answer)),
            Err(why) => Err(ControlError::Nonsense { path: self.path.clone(), why }),
        }
    }
}
