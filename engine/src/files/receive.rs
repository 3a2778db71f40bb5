//! The receiver: takes files from whoever offers them, into one folder.
//!
//! In:    an engine, whose events it takes; a folder.
//! Out:   files in the folder, news of them.
//! Holds: a sender that vanishes costs nothing but its parts; a full disk ends the receiver, once its sender knows.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use dunlin_codec::bytes::Writer;
use dunlin_codec::file::{FileMessage, Outcome};
use dunlin_shards::event::CloseReason;

use super::claims::Claims;
use super::folder::Folder;
use super::incoming::{Counts, Desk, Incoming, Job};
use super::news::Watch;
use super::{CODE_BUSY, CODE_DONE, FILES_AT_ONCE, GOODBYE};
use crate::api::{Channel, Event, Message, Peer, SendOptions};
use crate::clock::Clock;
use crate::engine::Engine;

/// Senders at once at most; each has a thread, and two for each of its files.
const SENDERS_MAX: usize = 256;
/// How often the receiver looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What to receive.
#[derive(Clone, Debug)]
pub struct ReceiveOptions {
    /// Where files go. Made when it is not there.
    pub folder: PathBuf,
    /// End when the first sender has said that it is done.
    pub once: bool,
}

/// Why a receiver ended by itself. Parts of files are kept for another try.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The folder cannot be used. The operator's to mend.
    #[error("cannot receive into {}: {source}; give a folder that you may write to with --dir", .folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no room for a file that was offered. Its sender was told; what arrived is kept.
    #[error("the disk of {} is full; make room and have the file sent again: it goes on where it stopped", .folder.display())]
    Full {
        /// The folder on it.
        folder: PathBuf,
    },
    /// The system gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// What came of a receiver.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Received {
    /// Files that arrived.
    pub stored: u64,
    /// Files that were there already.
    pub skipped: u64,
    /// Files that did not arrive; with `once` those of the sender that was done.
    pub failed: u64,
}

/// A receiver that is ready to run.
pub struct Receiving {
    engine: Engine,
    options: ReceiveOptions,
    desk: Arc<Desk>,
    notices: Receiver<Notice>,
    sender: Sender<Notice>,
}

/// Ends a receiver from another thread.
#[derive(Clone)]
pub struct StopReceiving(Sender<Notice>);

impl StopReceiving {
    /// Ends it; transfers under way are broken off and their parts kept.
    pub fn stop(&self) {
        // A receiver that is gone has ended.
        let _ = self.0.send(Notice::Stop);
    }
}

enum Notice {
    Event(Event),
    /// A sender is gone. Some: it had offered files and said that it was done; so many of them did not arrive.
    Left {
        peer: Peer,
        done: Option<u64>,
    },
    /// A transfer has failed for want of room.
    Full,
    Stop,
}

impl Receiving {
    /// Opens the folder.
    ///
    /// # Errors
    /// [`ReceiveError::Folder`]: nothing was changed, but for the folder itself.
    pub fn new(
        engine: &Engine,
        options: ReceiveOptions,
        watch: impl Watch + 'static,
    ) -> Result<Self, ReceiveError> {
        let opened = Folder::open(&options.folder);
        let folder =
            opened.map_err(|source| ReceiveError::Folder { folder: options.folder.clone(), source })?;
        let (sender, notices) = channel();
        let full = sender.clone();
        let desk = Desk {
            folder,
            claims: Arc::new(Claims::new()),
            watch: Box::new(watch),
            counts: Counts::default(),
            clock: Clock::start(),
            on_full: Box::new(move || {
                // A receiver that is gone has ended.
                let _ = full.send(Notice::Full);
            }),
        };
        Ok(Self { engine: engine.clone(), options, desk: Arc::new(desk), notices, sender })
    }

    /// Where the files go.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.desk.folder.path()
    }

    /// What ends it from another thread.
    #[must_use]
    pub fn stopper(&self) -> StopReceiving {
        StopReceiving(self.sender.clone())
    }

    /// Receives until it is stopped, or with `once` until the first sender is done.
    ///
    /// # Errors
    /// The disk is full, or the system gives no threads.
    pub fn run(self) -> Result<Received, ReceiveError> {
        let ended = Arc::new(AtomicBool::new(false));
        let done = self.listen(&ended).and_then(|()| self.serve());
        ended.store(true, Ordering::Relaxed);
        let failed = done?;
        let counts = &self.desk.counts;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Received { stored: of(&counts.stored), skipped: of(&counts.skipped), failed })
    }

    /// Brings the engine's events in.
    fn listen(&self, ended: &Arc<AtomicBool>) -> Result<(), ReceiveError> {
        let (engine, sender, ended) = (self.engine.clone(), self.sender.clone(), ended.clone());
        let listen = move || {
            while !ended.load(Ordering::Relaxed) {
                let Some(event) = engine.event_timeout(LOOK_EVERY) else { continue };
                let is_last = matches!(event, Event::Stopped);
                if sender.send(Notice::Event(event)).is_err() || is_last {
                    return;
                }
            }
        };
        let spawned = thread::Builder::new().name("file-events".to_owned()).spawn(listen);
        spawned.map(drop).map_err(ReceiveError::Thread)
    }

    /// How many files did not arrive.
    fn serve(&self) -> Result<u64, ReceiveError> {
        let mut senders: Vec<Peer> = Vec::new();
        for notice in &self.notices {
            match notice {
                // Two sessions with one peer share its handle.
                Notice::Event(Event::Accepted(peer)) if !senders.contains(&peer) => {
                    if senders.len() >= SENDERS_MAX {
                        peer.close(CODE_BUSY);
                        continue;
                    }
                    self.start_sender(peer.clone())?;
                    senders.push(peer);
                }
                Notice::Event(Event::Stopped) | Notice::Stop => break,
                Notice::Event(_) => {}
                Notice::Left { peer, done } => {
                    senders.retain(|other| *other != peer);
                    if let (Some(failed), true) = (done, self.options.once) {
                        return Ok(failed);
                    }
                }
                Notice::Full => return Err(ReceiveError::Full { folder: self.options.folder.clone() }),
            }
        }
        Ok(self.desk.counts.failed.load(Ordering::Relaxed))
    }

    fn start_sender(&self, peer: Peer) -> Result<(), ReceiveError> {
        let dispatcher = Dispatcher {
            desk: self.desk.clone(),
            peer,
            notices: self.sender.clone(),
            channels: HashMap::new(),
            threads: Vec::new(),
        };
        let spawned = thread::Builder::new().name("file-sender".to_owned()).spawn(move || dispatcher.run());
        spawned.map(drop).map_err(ReceiveError::Thread)
    }
}

/// Sorts a sender's messages by their channels.
struct Dispatcher {
    desk: Arc<Desk>,
    peer: Peer,
    notices: Sender<Notice>,
    channels: HashMap<Channel, Sender<Job>>,
    threads: Vec<thread::JoinHandle<u64>>,
}

impl Dispatcher {
    fn run(mut self) {
        let mut is_through = false;
        while !is_through && let Ok(message) = self.peer.recv() {
            is_through = is_goodbye(&message);
            self.on_message(message);
        }
        let reason = self.peer.close_reason();
        let is_done = is_through || matches!(reason, Some(CloseReason::Peer { code: CODE_DONE, .. }));
        let why = reason.map_or_else(|| "the session ended".to_owned(), |reason| reason.to_string());
        let has_offered = !self.channels.is_empty();
        for channel in self.channels.values() {
            // One that is gone has ended already.
            let _ = channel.send(Job::Ended(why.clone()));
        }
        // A thread's panic was printed; the others go on.
        let failed = self.threads.drain(..).map(|thread| thread.join().unwrap_or(1)).sum();
        let done = (is_done && has_offered).then_some(failed);
        // The sender closes too, but that may be lost.
        self.peer.close(CODE_DONE);
        let _ = self.notices.send(Notice::Left { peer: self.peer, done });
    }

    fn on_message(&mut self, message: Message) {
        let channel = message.channel();
        if let Some(jobs) = self.channels.get(&channel) {
            // Its thread lives as long as the session.
            let _ = jobs.send(Job::Message(message));
            return;
        }
        if !matches!(FileMessage::parse(&message), Ok(FileMessage::Offer(_))) {
            return;
        }
        if self.channels.len() >= 2 * FILES_AT_ONCE {
            return self.refuse(channel, "this is too many files at once");
        }
        match self.start_channel(channel) {
            Ok(jobs) => {
                let _ = jobs.send(Job::Message(message));
                self.channels.insert(channel, jobs);
            }
            Err(error) => self.refuse(channel, &format!("cannot start a thread: {error}")),
        }
    }

    fn start_channel(&mut self, number: Channel) -> io::Result<Sender<Job>> {
        let (own, jobs) = channel();
        let incoming = Incoming {
            desk: self.desk.clone(),
            peer: self.peer.clone(),
            channel: number,
            jobs,
            own: own.clone(),
        };
        let spawned = thread::Builder::new().name("file-write".to_owned()).spawn(move || incoming.run());
        self.threads.push(spawned?);
        Ok(own)
    }

    fn refuse(&self, channel: Channel, text: &str) {
        let mut buffer = [0; 160];
        let mut out = Writer::new(&mut buffer);
        let refusal = FileMessage::Result { outcome: Outcome::Failed, text };
        refusal.write(&mut out).expect("a refusal fits the buffer");
        let _ = self.peer.send_with(out.written(), SendOptions { channel, ..SendOptions::default() });
    }
}

/// The sender has no more files.
fn is_goodbye(message: &Message) -> bool {
    message.channel() == GOODBYE && matches!(FileMessage::parse(message), Ok(FileMessage::Done { .. }))
}
