//! One channel of one sender, at the receiver: file after file.
//!
//! In:    the channel's messages, in order.
//! Out:   answers; files in the folder; news.
//! Holds: each offer gets exactly one last word: SKIP or RESULT. What was written is on the disk under its name, or kept as a part.
//!
//! Two threads share the work of a file: this one writes, the other hashes what is written and records it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use dunlin_codec::bytes::Writer;
use dunlin_codec::file::{BLOCK_HEADER_LEN, FileMessage, Offer, Outcome, SkipReason, TEXT_LEN_MAX};
use rustix::io::Errno;

use super::claims::{Claim, Claims};
use super::folder::{Folder, Place};
use super::names::SafeName;
use super::news::{News, Transfer, Watch};
use super::partial::{Partial, Record};
use crate::api::{Channel, Message, Peer, SendOptions};
use crate::clock::Clock;

/// Blocks that were written and wait for their hash at most.
const HASH_QUEUE: usize = 64;

/// What a channel's thread is told.
pub(crate) enum Job {
    /// A message came.
    Message(Message),
    /// The sender offers the file again elsewhere.
    TakenOver,
    /// The session ended: why.
    Ended(String),
}

/// What all channels of a receiver share.
pub(crate) struct Desk {
    pub(crate) folder: Folder,
    pub(crate) claims: Arc<Claims>,
    pub(crate) watch: Box<dyn Watch>,
    pub(crate) counts: Counts,
    pub(crate) clock: Clock,
    /// Called when the disk is full, once the sender has been told.
    pub(crate) on_full: Box<dyn Fn() + Send + Sync>,
}

/// How transfers ended.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) begun: AtomicU64,
    pub(crate) stored: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// A channel of a sender.
pub(crate) struct Incoming {
    pub(crate) desk: Arc<Desk>,
    pub(crate) peer: Peer,
    pub(crate) channel: Channel,
    pub(crate) jobs: Receiver<Job>,
    /// The other end of `jobs`.
    pub(crate) own: Sender<Job>,
}

/// Why a transfer ended without its file.
enum Broken {
    /// The sender is told: how it went, and why.
    Told(Outcome, String),
    /// The sender knows, or is gone.
    Silent(String),
    /// The sender offers something else on the channel.
    Replaced(Message),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        let outcome = match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Outcome::DiskFull,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Outcome::NoPermission,
            _ => Outcome::Failed,
        };
        Self::Told(outcome, error.to_string())
    }
}

/// How a transfer ended well.
enum Good {
    Stored { name: String, moved: u64, resent: u64 },
    Skipped,
}

impl Incoming {
    /// Serves the channel until the session ends; how many of its files did not arrive.
    pub(crate) fn run(self) -> u64 {
        let (mut waiting, mut failed) = (None, 0);
        loop {
            let message = match waiting.take() {
                Some(message) => message,
                None => match self.jobs.recv() {
                    Ok(Job::Message(message)) => message,
                    Ok(Job::TakenOver) => continue,
                    Ok(Job::Ended(_)) | Err(_) => return failed,
                },
            };
            // Anything else belongs to a transfer that has ended.
            if let Ok(FileMessage::Offer(offer)) = FileMessage::parse(&message) {
                waiting = self.on_offer(&offer, &mut failed);
            }
        }
    }

    /// Takes a file in. Some: an offer came in the middle of it.
    fn on_offer(&self, offer: &Offer<'_>, failed: &mut u64) -> Option<Message> {
        let desk = &*self.desk;
        let name = SafeName::of(offer.name);
        let transfer = Transfer {
            number: desk.counts.begun.fetch_add(1, Ordering::Relaxed),
            name: name.as_str().to_owned(),
            length: offer.length,
            peer: Some(self.peer.id()),
        };
        let begun = desk.clock.instant();
        let (count, news, next) = match self.take_in(&transfer, &name, offer) {
            Ok(Good::Skipped) => (&desk.counts.skipped, News::Skipped, None),
            Ok(Good::Stored { name, moved, resent }) => {
                let took = desk.clock.instant().since(begun);
                (&desk.counts.stored, News::Stored { name, moved, resent, took }, None)
            }
            Err(Broken::Told(outcome, why)) => {
                self.answer(&FileMessage::Result { outcome, text: text_of(&why) });
                if outcome == Outcome::DiskFull {
                    (desk.on_full)();
                }
                (&desk.counts.failed, News::Failed { why }, None)
            }
            Err(Broken::Silent(why)) => (&desk.counts.failed, News::Failed { why }, None),
            Err(Broken::Replaced(message)) => {
                let why = "the sender began anew".to_owned();
                (&desk.counts.failed, News::Failed { why }, Some(message))
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        *failed += u64::from(matches!(news, News::Failed { .. }));
        desk.watch.on_news(&transfer, news);
        next
    }

    fn take_in(&self, transfer: &Transfer, name: &SafeName, offer: &Offer<'_>) -> Result<Good, Broken> {
        let folder = &self.desk.folder;
        let (part, record) = name.unfinished(&offer.sha256);
        let claim = self.desk.claims.take(&part, &self.own, || !self.peer.is_closed());
        let claim = claim.ok_or_else(|| Broken::Silent("the session ended".to_owned()))?;
        if let Place::Present(_) = folder.place(name, offer.length, &offer.sha256)? {
            self.answer(&FileMessage::Skip { reason: SkipReason::AlreadyThere });
            return Ok(Good::Skipped);
        }
        let partial = Partial::open(folder, (&part, &record), offer.length)?;
        let (believed, had) = (partial.believed(), partial.had());
        if offer.length - believed > folder.free_len()? {
            return Err(io::Error::from(Errno::NOSPC).into());
        }
        self.desk.watch.on_news(transfer, News::Started { first_missing: believed, had });
        let mut body = Body::new(partial, offer.length);
        if offer.is_complete() {
            body.take_whole(offer.inline)?;
        } else {
            claim.touch();
            self.answer(&FileMessage::Accept { first_missing: believed, had });
            self.take_blocks(transfer, &claim, offer.block_len, &mut body)?;
        }
        if body.close()? != offer.sha256 {
            folder.remove(&part);
            folder.remove(&record);
            let why =
                "the bytes that arrived do not have the offered SHA-256: the file changed while it was sent";
            return Err(Broken::Told(Outcome::Mismatch, why.to_owned()));
        }
        body.file.sync_all()?;
        let stored = self.put_in_place(name, offer, &part)?;
        folder.remove(&record);
        self.answer(&FileMessage::Result { outcome: Outcome::Verified, text: text_of(&stored) });
        Ok(Good::Stored { name: stored, moved: offer.length - believed, resent: had - believed })
    }

    /// Gives the file its name; whatever got it in the meantime keeps it.
    fn put_in_place(&self, name: &SafeName, offer: &Offer<'_>, part: &str) -> Result<String, Broken> {
        let folder = &self.desk.folder;
        loop {
            match folder.place(name, offer.length, &offer.sha256)? {
                Place::Present(present) => {
                    folder.remove(part);
                    return Ok(present);
                }
                Place::Free(free) if folder.put_in_place(part, &free)? => return Ok(free),
                Place::Free(_) => {}
            }
        }
    }

    fn take_blocks(
        &self,
        transfer: &Transfer,
        claim: &Claim,
        block_len: u32,
        body: &mut Body,
    ) -> Result<(), Broken> {
        loop {
            let message = match self.jobs.recv() {
                Ok(Job::Message(message)) => message,
                Ok(Job::TakenOver) if !claim.is_silent() => continue,
                Ok(Job::TakenOver) => {
                    let text = "the same file is being sent by somebody else";
                    self.answer(&FileMessage::Result { outcome: Outcome::Failed, text });
                    return Err(Broken::Silent("the sender was silent and offered it again".to_owned()));
                }
                Ok(Job::Ended(why)) => return Err(Broken::Silent(why)),
                Err(_) => return Err(Broken::Silent("the receiver ends".to_owned())),
            };
            claim.touch();
            match FileMessage::parse(&message) {
                Ok(FileMessage::Block { offset, bytes }) => {
                    let len = u64::from(block_len).min(body.length - body.position);
                    if offset != body.position || bytes.len() as u64 != len {
                        return Err(out_of_turn());
                    }
                    body.take(message)?;
                    let position = body.position;
                    self.desk.watch.on_news(transfer, News::Moved { position });
                }
                Ok(FileMessage::Done { length }) if length == body.length && body.is_complete() => {
                    return Ok(());
                }
                Ok(FileMessage::Abort { text }) => {
                    let why = format!("the sender gave up: {}", text.escape_debug());
                    return Err(Broken::Told(Outcome::Failed, why));
                }
                Ok(FileMessage::Offer(_)) => return Err(Broken::Replaced(message)),
                _ => return Err(out_of_turn()),
            }
        }
    }

    fn answer(&self, message: &FileMessage<'_>) {
        let mut buffer = [0; 2 + TEXT_LEN_MAX + 16];
        let mut out = Writer::new(&mut buffer);
        message.write(&mut out).expect("an answer fits the buffer");
        // Urgent: a file's last word does not wait for another file's blocks.
        let options = SendOptions { channel: self.channel, priority: 64, ..SendOptions::default() };
        // Whoever has closed the session does not wait for an answer.
        let _ = self.peer.send_with(out.written(), options);
    }
}

fn out_of_turn() -> Broken {
    Broken::Told(Outcome::Failed, "the sender's messages do not follow each other".to_owned())
}

/// What fits an answer.
fn text_of(why: &str) -> &str {
    &why[..why.floor_char_boundary(TEXT_LEN_MAX)]
}

/// A file's bytes on their way to the disk and through the hash.
struct Body {
    file: File,
    position: u64,
    length: u64,
    written: Option<SyncSender<Message>>,
    hasher: Hasher,
}

enum Hasher {
    Running(JoinHandle<io::Result<Record>>),
    /// It is needed only once there is a block.
    Waiting(Record),
    Gone,
}

impl Body {
    fn new(partial: Partial, length: u64) -> Self {
        let position = partial.believed();
        let (file, record) = partial.split();
        Self { file, position, length, written: None, hasher: Hasher::Waiting(record) }
    }

    const fn is_complete(&self) -> bool {
        self.position == self.length
    }

    /// All the bytes there are, with the offer.
    fn take_whole(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Hasher::Waiting(record) = &mut self.hasher else { return Ok(()) };
        let rest = usize::try_from(self.position).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(rest, self.position)?;
        record.push(rest)?;
        self.position = self.length;
        Ok(())
    }

    /// A block that is next.
    fn take(&mut self, block: Message) -> io::Result<()> {
        let bytes = &block[BLOCK_HEADER_LEN..];
        self.file.write_all_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        if self.written.is_none() {
            self.start_hasher()?;
        }
        let sent = self.written.as_ref().is_some_and(|written| written.send(block).is_ok());
        if sent { Ok(()) } else { self.stop_hasher().map(drop) }
    }

    fn start_hasher(&mut self) -> io::Result<()> {
        let Hasher::Waiting(mut record) = std::mem::replace(&mut self.hasher, Hasher::Gone) else {
            return Ok(());
        };
        let (sender, receiver) = sync_channel::<Message>(HASH_QUEUE);
        let hash = move || {
            for block in receiver {
                record.push(&block[BLOCK_HEADER_LEN..])?;
            }
            Ok(record)
        };
        self.hasher = Hasher::Running(thread::Builder::new().name("file-hash".to_owned()).spawn(hash)?);
        self.written = Some(sender);
        Ok(())
    }

    fn stop_hasher(&mut self) -> io::Result<Record> {
        self.written = None;
        match std::mem::replace(&mut self.hasher, Hasher::Gone) {
            Hasher::Waiting(record) => Ok(record),
            Hasher::Running(thread) => {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("the hashing thread has died")))
            }
            Hasher::Gone => Err(io::Error::other("the hashing thread has ended")),
        }
    }

    /// The hash of all bytes.
    fn close(&mut self) -> io::Result<[u8; 32]> {
        Ok(self.stop_hasher()?.sha256())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // The files must be closed before somebody else may have them.
        let _ = self.stop_hasher();
    }
}
