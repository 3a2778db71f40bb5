//! Lines of JSON on a stream, bounded in length and time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;

use super::LINE_WAIT;
use super::protocol::Envelope;
use crate::clock::Clock;

/// The lines that come on a stream.
pub(super) struct Lines {
    stream: UnixStream,
    /// What came after the last line's end.
    held: Vec<u8>,
}

impl Lines {
    pub(super) const fn new(stream: UnixStream) -> Self {
        Self { stream, held: Vec::new() }
    }

    /// Where to write.
    pub(super) const fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    /// The next line, which must come whole in time and within so many bytes. None: the stream has ended.
    pub(super) fn next_within(&mut self, len_max: usize, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        let clock = Clock::start();
        let mut searched = 0;
        loop {
            if let Some(end) = self.held[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.held.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.held, rest);
                line.pop();
                return Ok(Some(line));
            }
            searched = self.held.len();
            if searched >= len_max {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {len_max} bytes")));
            }
            if self.fill(wait.saturating_sub(clock.elapsed()))? == 0 {
                let is_between = self.held.is_empty();
                return if is_between { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Takes what comes, some bytes at least unless the stream has ended.
    fn fill(&mut self, left: Duration) -> io::Result<usize> {
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut part = [0; 8_192];
        loop {
            match self.stream.read(&mut part) {
                Ok(count) => {
                    self.held.extend_from_slice(&part[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes a line; whoever does not take it in time is given up.
pub(super) fn write<T: Serialize>(stream: &mut UnixStream, content: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Envelope::new(content))?;
    line.push(b'\n');
    let clock = Clock::start();
    let mut rest = &line[..];
    while !rest.is_empty() {
        let left = LINE_WAIT.saturating_sub(clock.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
