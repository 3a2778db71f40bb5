//! The sender: brings files to one receiver.
//!
//! In:    an engine, whose events it takes; the receiver's URI; paths.
//! Out:   files at the receiver, news of them.
//! Holds: every path is accounted for: stored, skipped or failed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dunlin_codec::bytes::Writer;
use dunlin_codec::file::{FileMessage, Outcome};
use dunlin_codec::uri::DunlinUri;
use dunlin_shards::event::{CloseReason, EarlyData};

use super::news::{Transfer, Watch};
use super::outgoing::{Answer, Desk, Outgoing, Prepared, channel_of};
use super::{CODE_BUSY, CODE_DONE, CODE_STOPPED, FILES_AT_ONCE, GOODBYE, RESTARTS_MAX};
use crate::api::{
    ConnectError, ConnectOptions, Connected, EARLY_OVERHEAD, EARLY_ROOM, Early, Event, Peer, RecvError,
    SendOptions,
};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::mailbox::lock;

/// How often the sender looks for events while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the receiver may take to acknowledge that there are no more files.
const GOODBYE_WAIT: Duration = Duration::from_secs(5);

/// What to send.
#[derive(Clone, Debug)]
pub struct SendFiles {
    /// To whom.
    pub uri: DunlinUri,
    /// The files.
    pub files: Vec<PathBuf>,
    /// Whether the first offers, and their files as far as they fit, ride in the first datagram. What rides there has no forward
    /// secrecy, and whoever records it can send it to the receiver's next start again: there it is found to be there already.
    pub zero_rtt: bool,
}

/// Why nothing could be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendFilesError {
    /// No session with the receiver.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The system gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What came of a sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// Files that arrived.
    pub stored: u64,
    /// Files that were there already.
    pub skipped: u64,
    /// Files that did not arrive.
    pub failed: u64,
    /// What became of the offers in the first datagram.
    pub early: EarlyData,
}

/// A sender that is ready to run.
pub struct Sending {
    engine: Engine,
    order: SendFiles,
    desk: Arc<Desk>,
    peer: Arc<Mutex<Option<Peer>>>,
}

/// Ends a sender from another thread.
#[derive(Clone)]
pub struct StopSending {
    desk: Arc<Desk>,
    peer: Arc<Mutex<Option<Peer>>>,
}

/// The threads that read files, and where each file's answers go.
type Readers = (Vec<JoinHandle<()>>, Vec<Sender<Answer>>);

impl StopSending {
    /// Ends it; the receiver keeps what it has for another try.
    pub fn stop(&self) {
        self.desk.stopped.store(true, Ordering::Relaxed);
        if let Some(peer) = &*lock(&self.peer) {
            peer.close(CODE_STOPPED);
        }
    }
}

impl Sending {
    /// Nothing happens yet.
    pub fn new(engine: &Engine, order: SendFiles, watch: impl Watch + 'static) -> Self {
        let files: VecDeque<(u64, PathBuf)> = (0..).zip(order.files.iter().cloned()).collect();
        let desk = Desk {
            watch: Box::new(watch),
            clock: Clock::start(),
            files: Mutex::new(files),
            stored: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
        };
        Self { engine: engine.clone(), order, desk: Arc::new(desk), peer: Arc::new(Mutex::new(None)) }
    }

    /// What ends it from another thread.
    #[must_use]
    pub fn stopper(&self) -> StopSending {
        StopSending { desk: self.desk.clone(), peer: self.peer.clone() }
    }

    /// Sends everything and closes the session.
    ///
    /// # Errors
    /// There is no session, or no thread. What happened to single files is told to the watch, and counted.
    pub fn run(self, on_connected: impl FnOnce(&Connected)) -> Result<Sent, SendFilesError> {
        let desk = self.desk.clone();
        let early = if self.order.zero_rtt { self.prepare_early() } else { Vec::new() };
        if early.is_empty() && !self.has_files() {
            return Ok(self.sum(EarlyData::None));
        }
        let (offered, offers): (Vec<Prepared>, Vec<Early>) = early.into_iter().unzip();
        let connected = self.engine.connect_with(&self.order.uri, &ConnectOptions { early: offers })?;
        on_connected(&connected);
        let peer = connected.peer.clone();
        *lock(&self.peer) = Some(peer.clone());
        if desk.stopped.load(Ordering::Relaxed) {
            peer.close(CODE_STOPPED);
        }
        let (threads, answers) = self.start_channels(&peer, offered)?;
        let router = Router { engine: self.engine.clone(), peer: peer.clone(), desk, answers, epoch: 0 };
        let spawned = thread::Builder::new().name("file-answers".to_owned()).spawn(move || router.run());
        let router = spawned.map_err(SendFilesError::Thread)?;
        for thread in threads {
            // Its panic was printed; its file counts as not sent.
            let _ = thread.join();
        }
        self.say_goodbye(&peer);
        peer.close(CODE_DONE);
        let _ = router.join();
        self.fail_rest(&peer);
        Ok(self.sum(connected.early))
    }

    /// Tells the receiver that there are no more files, and waits until it knows.
    // spec: atp/file-goodbye
    fn say_goodbye(&self, peer: &Peer) {
        if self.desk.stopped.load(Ordering::Relaxed) {
            return;
        }
        let mut bytes = [0; 16];
        let mut out = Writer::new(&mut bytes);
        FileMessage::Done { length: 0 }.write(&mut out).expect("a DONE fits");
        let options = SendOptions { channel: GOODBYE, ..SendOptions::default() };
        // A receiver that is gone by now has heard enough.
        let _ = peer.send_with(out.written(), options).map(|_| peer.flush(GOODBYE_WAIT));
    }

    fn sum(&self, early: EarlyData) -> Sent {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (stored, skipped) = (of(&self.desk.stored), of(&self.desk.skipped));
        // Whoever is not accounted for has failed, however that came about.
        let failed = of(&self.desk.failed).max(self.order.files.len() as u64 - stored - skipped);
        Sent { stored, skipped, failed, early }
    }

    /// Whether a file could be opened; those that cannot be found are said and dropped.
    fn has_files(&self) -> bool {
        let mut files = lock(&self.desk.files);
        files.retain(|(number, path)| match std::fs::metadata(path) {
            Ok(_) => true,
            Err(error) => {
                let name = path.display().to_string();
                let transfer = Transfer { number: *number, name, length: 0, peer: None };
                self.desk.fail(&transfer, format!("cannot read it: {error}"));
                false
            }
        });
        !files.is_empty()
    }

    /// The first offers, as far as they fit the first datagram.
    fn prepare_early(&self) -> Vec<(Prepared, Early)> {
        let mut ready = Vec::new();
        let mut room = EARLY_ROOM;
        while ready.len() < FILES_AT_ONCE
            && let Some((number, path)) = self.desk.next_file()
        {
            let Some(prepared) = self.desk.prepare(number, &path) else { continue };
            let bytes = prepared.offer(room.saturating_sub(EARLY_OVERHEAD));
            room = room.saturating_sub(bytes.len() + EARLY_OVERHEAD);
            let channel = channel_of(0, ready.len() as u32);
            let options = SendOptions { channel, ..SendOptions::default() };
            // One that does not fit follows right behind the handshake.
            ready.push((prepared, Early { bytes, options }));
        }
        ready
    }

    fn start_channels(&self, peer: &Peer, offered: Vec<Prepared>) -> Result<Readers, SendFilesError> {
        let mut offered = offered.into_iter();
        let (mut threads, mut senders) = (Vec::new(), Vec::new());
        for index in 0..FILES_AT_ONCE.min(self.order.files.len()) as u32 {
            let (sender, answers) = channel();
            let outgoing = Outgoing {
                desk: self.desk.clone(),
                peer: peer.clone(),
                index,
                answers,
                offered: offered.next(),
                block: Vec::new(),
            };
            let spawned = thread::Builder::new().name(format!("file-{index}")).spawn(move || outgoing.run());
            threads.push(spawned.map_err(SendFilesError::Thread)?);
            senders.push(sender);
        }
        Ok((threads, senders))
    }

    /// What was never begun because the session ended.
    fn fail_rest(&self, peer: &Peer) {
        let why = ended(peer);
        while let Some((number, path)) = self.desk.next_file() {
            let name = path.display().to_string();
            self.desk.fail(&Transfer { number, name, length: 0, peer: Some(peer.id()) }, why.clone());
        }
    }
}

/// Why the session has ended, for people.
fn ended(peer: &Peer) -> String {
    match peer.close_reason() {
        Some(CloseReason::Peer { code: CODE_BUSY, .. }) => {
            "the receiver has too many senders; try again later".to_owned()
        }
        Some(CloseReason::Local) | None => "stopped".to_owned(),
        Some(reason) => reason.to_string(),
    }
}

/// Brings answers to their channels.
struct Router {
    engine: Engine,
    peer: Peer,
    desk: Arc<Desk>,
    answers: Vec<Sender<Answer>>,
    epoch: u32,
}

impl Router {
    fn run(mut self) {
        loop {
            match self.peer.recv_timeout(LOOK_EVERY) {
                Ok(message) => {
                    let (channel, message) = (message.channel(), FileMessage::parse(&message));
                    let first = channel_of(self.epoch, 0).0;
                    let index = channel.0.checked_sub(first).and_then(|index| usize::try_from(index).ok());
                    let to = index.and_then(|index| self.answers.get(index));
                    if let (Some(to), Some(answer)) = (to, message.ok().and_then(answer_of)) {
                        // A channel that is through with its files wants no answer.
                        let _ = to.send(answer);
                    }
                }
                Err(RecvError::Timeout) => {}
                Err(RecvError::Closed(_) | RecvError::Forked) => break,
            }
            self.look_for_restarts();
        }
        let why = ended(&self.peer);
        for channel in &self.answers {
            let _ = channel.send(Answer::Ended(why.clone()));
        }
    }

    fn look_for_restarts(&mut self) {
        while let Some(event) = self.engine.try_event() {
            match event {
                Event::PeerRestarted { peer, .. } if peer == self.peer => {}
                Event::Stopped => return,
                _ => continue,
            }
            if self.epoch == RESTARTS_MAX {
                self.peer.close(CODE_STOPPED);
                return;
            }
            self.epoch += 1;
            self.desk.epoch.store(self.epoch, Ordering::Release);
            for channel in &self.answers {
                let _ = channel.send(Answer::Restarted(self.epoch));
            }
        }
    }
}

fn answer_of(message: FileMessage<'_>) -> Option<Answer> {
    Some(match message {
        FileMessage::Accept { first_missing, had } => Answer::Accept { first_missing, had },
        FileMessage::Skip { .. } => Answer::Skip,
        FileMessage::Result { outcome, text } => Answer::Result { outcome, text: text.to_owned() },
        FileMessage::Abort { text } => Answer::Result { outcome: Outcome::Failed, text: text.to_owned() },
        _ => return None,
    })
}
