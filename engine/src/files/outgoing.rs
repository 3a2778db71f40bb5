//! One channel of a sender: file after file.
//!
//! In:    files of the common list; the receiver's answers on the channel.
//! Out:   offers and blocks; news.
//! Holds: after an offer nothing is offered on the channel before its last word has come: SKIP or RESULT.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin_codec::bytes::Writer;
use dunlin_codec::file::{
    BLOCK_HEADER_LEN, BLOCK_LEN, FileMessage, NAME_LEN_MAX, Offer, Outcome, block_header,
};
use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};

use super::news::{News, Transfer, Watch};
use super::{FILES_AT_ONCE, FIRST_CHANNEL};
use crate::api::{Channel, Peer, SendError, SendOptions};
use crate::clock::Clock;
use crate::mailbox::lock;

/// Files up to this many bytes travel with their offers.
pub(super) const INLINE_LEN_MAX: u64 = 16 << 10;

/// What the receiver said on a channel, or what became of the session.
pub(super) enum Answer {
    Accept {
        first_missing: u64,
        had: u64,
    },
    Skip,
    Result {
        outcome: Outcome,
        text: String,
    },
    /// The receiver restarted: what was offered must be offered again, on the channels of this epoch.
    Restarted(u32),
    /// The session ended: why.
    Ended(String),
}

/// A file that is ready to be offered.
pub(super) struct Prepared {
    pub(super) transfer: Transfer,
    file: File,
    name: String,
    sha256: [u8; 32],
    /// All its bytes, when they travel with the offer.
    inline: Vec<u8>,
}

/// Why a file did not get to the receiver.
pub(super) enum Setback {
    /// The file's own fault: the next one may do better.
    File(String),
    /// There is nobody to send to.
    Session(String),
    Restarted(u32),
}

impl From<io::Error> for Setback {
    fn from(error: io::Error) -> Self {
        Self::File(format!("cannot read it: {error}"))
    }
}

/// What all channels of a sender share.
pub(super) struct Desk {
    pub(super) watch: Box<dyn Watch>,
    pub(super) clock: Clock,
    pub(super) files: Mutex<VecDeque<(u64, PathBuf)>>,
    pub(super) stored: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) stopped: AtomicBool,
    /// How often the receiver has restarted.
    pub(super) epoch: AtomicU32,
}

impl Desk {
    pub(super) fn next_file(&self) -> Option<(u64, PathBuf)> {
        lock(&self.files).pop_front()
    }

    pub(super) fn fail(&self, transfer: &Transfer, why: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.watch.on_news(transfer, News::Failed { why });
    }

    /// Opens a file and hashes it. None: that failed, and was said.
    pub(super) fn prepare(&self, number: u64, path: &Path) -> Option<Prepared> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let name = name[..name.floor_char_boundary(NAME_LEN_MAX)].to_owned();
        let transfer = Transfer { number, name: path.display().to_string(), length: 0, peer: None };
        match self.hash(transfer.clone(), path, name) {
            Ok(prepared) => Some(prepared),
            Err(error) => {
                self.fail(&transfer, format!("cannot read it: {error}"));
                None
            }
        }
    }

    fn hash(&self, mut transfer: Transfer, path: &Path, name: String) -> io::Result<Prepared> {
        // A pipe without a writer must not stop us.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut file = File::options().read(true).custom_flags(nonblock).open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("it is not a plain file"));
        }
        transfer.length = about.len();
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        let mut hash = Sha256::new();
        let mut inline = Vec::new();
        let mut position = 0;
        let mut buffer = vec![0; BLOCK_LEN as usize];
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(io::Error::other("stopped"));
            }
            let len = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hash.update(&buffer[..len]);
            position += len as u64;
            if transfer.length <= INLINE_LEN_MAX && position <= transfer.length {
                inline.extend_from_slice(&buffer[..len]);
            }
            self.watch.on_news(&transfer, News::Hashing { position });
        }
        if position != transfer.length {
            return Err(io::Error::other("its length changes"));
        }
        Ok(Prepared { transfer, file, name, sha256: hash.finalize().into(), inline })
    }
}

impl Prepared {
    /// The offer, with the file's bytes when they fit so many bytes together.
    pub(super) fn offer(&self, len_max: usize) -> Vec<u8> {
        let mut offer = Offer {
            name: &self.name,
            length: self.transfer.length,
            sha256: self.sha256,
            block_len: BLOCK_LEN,
            inline: &self.inline,
        };
        if FileMessage::Offer(offer).encoded_len() > len_max {
            offer.inline = &[];
        }
        let mut bytes = vec![0; FileMessage::Offer(offer).encoded_len()];
        FileMessage::Offer(offer).write(&mut Writer::new(&mut bytes)).expect("it is as long as it says");
        bytes
    }
}

/// A channel of a sender.
pub(super) struct Outgoing {
    pub(super) desk: Arc<Desk>,
    pub(super) peer: Peer,
    /// Which of the sender's channels.
    pub(super) index: u32,
    pub(super) answers: Receiver<Answer>,
    /// A file whose offer is under way already.
    pub(super) offered: Option<Prepared>,
    pub(super) block: Vec<u8>,
}

/// The channel that a sender's nth has after so many restarts of the receiver.
pub(super) fn channel_of(epoch: u32, index: u32) -> Channel {
    Channel(FIRST_CHANNEL.0 + epoch * FILES_AT_ONCE as u32 + index)
}

impl Outgoing {
    /// Sends files of the list until there are none left, or nobody to send to.
    pub(super) fn run(mut self) {
        if let Some(prepared) = self.offered.take()
            && !self.send(prepared, true)
        {
            return;
        }
        while let Some((number, path)) = self.desk.next_file() {
            let Some(prepared) = self.desk.prepare(number, &path) else { continue };
            if !self.send(prepared, false) {
                return;
            }
        }
    }

    /// Sends a file and says what became of it. False: there is nobody to send to any more.
    fn send(&mut self, mut prepared: Prepared, mut is_offered: bool) -> bool {
        prepared.transfer.peer = Some(self.peer.id());
        let begun = self.desk.clock.instant();
        let mut epoch = self.desk.epoch.load(Ordering::Acquire);
        let why = loop {
            match self.try_send(&prepared, epoch, is_offered, begun) {
                Ok(()) => return true,
                Err(Setback::Restarted(next)) => (epoch, is_offered) = (next, false),
                Err(Setback::File(why)) => {
                    self.desk.fail(&prepared.transfer, why);
                    return true;
                }
                Err(Setback::Session(why)) => break why,
            }
        };
        self.desk.fail(&prepared.transfer, why);
        false
    }

    fn try_send(
        &mut self,
        prepared: &Prepared,
        epoch: u32,
        is_offered: bool,
        begun: dunlin_shards::time::Instant,
    ) -> Result<(), Setback> {
        let channel = channel_of(epoch, self.index);
        let desk = self.desk.clone();
        if !is_offered {
            self.say(channel, &prepared.offer(usize::MAX))?;
        }
        let (mut moved, mut resent) = (prepared.inline.len() as u64, 0);
        loop {
            let took = || desk.clock.instant().since(begun);
            match self.answer(epoch)? {
                Answer::Accept { first_missing, had } if first_missing <= prepared.transfer.length => {
                    desk.watch.on_news(&prepared.transfer, News::Started { first_missing, had });
                    (moved, resent) = (prepared.transfer.length - first_missing, had - first_missing);
                    if let Some(last_word) = self.stream(prepared, (epoch, channel), first_missing)? {
                        return self.close(prepared, last_word, (moved, resent), took());
                    }
                }
                Answer::Accept { .. } => {
                    return Err(Setback::Session("the receiver wants more than there is".to_owned()));
                }
                last_word => return self.close(prepared, last_word, (moved, resent), took()),
            }
        }
    }

    /// Takes the receiver's last word on a file.
    fn close(
        &self,
        prepared: &Prepared,
        last_word: Answer,
        (moved, resent): (u64, u64),
        took: Duration,
    ) -> Result<(), Setback> {
        let (count, news) = match last_word {
            Answer::Skip => (&self.desk.skipped, News::Skipped),
            Answer::Result { outcome: Outcome::Verified, text: name } => {
                (&self.desk.stored, News::Stored { name, moved, resent, took })
            }
            Answer::Result { outcome, text } => {
                let what = match outcome {
                    Outcome::DiskFull => "the receiver's disk is full",
                    Outcome::NoPermission => "the receiver may not write there",
                    Outcome::Mismatch => "the receiver threw it away",
                    _ => "the receiver could not take it",
                };
                return Err(Setback::File(format!("{what}: {}", text.escape_debug())));
            }
            _ => return Err(Setback::Session("the receiver's answers do not follow each other".to_owned())),
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.desk.watch.on_news(&prepared.transfer, news);
        Ok(())
    }

    /// Sends the file from this byte on. Some: the receiver's last word came before the end.
    fn stream(
        &mut self,
        prepared: &Prepared,
        (epoch, channel): (u32, Channel),
        from: u64,
    ) -> Result<Option<Answer>, Setback> {
        let length = prepared.transfer.length;
        let mut position = from;
        while position < length {
            if let Ok(answer) = self.answers.try_recv() {
                return self.check(epoch, answer).map(Some);
            }
            let len = usize::try_from(length - position).unwrap_or(usize::MAX).min(BLOCK_LEN as usize);
            let mut block = std::mem::take(&mut self.block);
            block.resize(BLOCK_HEADER_LEN + len, 0);
            block[..BLOCK_HEADER_LEN].copy_from_slice(&block_header(position));
            let read = prepared.file.read_exact_at(&mut block[BLOCK_HEADER_LEN..], position);
            let said = match read {
                Ok(()) => self.say(channel, &block),
                Err(error) => self.abort(channel, &error),
            };
            self.block = block;
            match said {
                Ok(()) => {}
                Err(Setback::Session(why)) => return self.last_word(why).map(Some),
                Err(setback) => return Err(setback),
            }
            position += len as u64;
            self.desk.watch.on_news(&prepared.transfer, News::Moved { position });
        }
        match self.tell(channel, &FileMessage::Done { length }) {
            Err(Setback::Session(why)) => self.last_word(why).map(Some),
            told => told.map(|()| None),
        }
    }

    /// The session has ended while we were sending: the receiver may have said why before.
    fn last_word(&self, why: String) -> Result<Answer, Setback> {
        match self.answers.recv() {
            Ok(Answer::Ended(_)) | Err(_) => Err(Setback::Session(why)),
            Ok(answer) => Ok(answer),
        }
    }

    /// The file cannot be read to its end: the receiver is told, and has the last word.
    fn abort(&self, channel: Channel, error: &io::Error) -> Result<(), Setback> {
        self.tell(channel, &FileMessage::Abort { text: &error.to_string() })?;
        // Whatever it is, nothing else will come for this file.
        let _ = self.answers.recv();
        Err(Setback::File(format!("cannot read it: {error}")))
    }

    /// The next answer of this epoch.
    fn answer(&self, epoch: u32) -> Result<Answer, Setback> {
        loop {
            let answer = self.answers.recv();
            let answer = answer.map_err(|_| Setback::Session("the sender ends".to_owned()))?;
            match self.check(epoch, answer) {
                // Told before the offer was made.
                Err(Setback::Restarted(next)) if next <= epoch => {}
                checked => return checked,
            }
        }
    }

    fn check(&self, _epoch: u32, answer: Answer) -> Result<Answer, Setback> {
        match answer {
            Answer::Ended(why) => Err(Setback::Session(why)),
            Answer::Restarted(next) => Err(Setback::Restarted(next)),
            answer => Ok(answer),
        }
    }

    fn tell(&self, channel: Channel, message: &FileMessage<'_>) -> Result<(), Setback> {
        let mut bytes = [0; 160];
        let mut out = Writer::new(&mut bytes);
        message.write(&mut out).expect("these messages are short");
        self.say(channel, out.written())
    }

    fn say(&self, channel: Channel, bytes: &[u8]) -> Result<(), Setback> {
        let options = SendOptions { channel, ..SendOptions::default() };
        match self.peer.send_with(bytes, options) {
            Ok(_) => Ok(()),
            Err(SendError::Closed(reason)) => Err(Setback::Session(reason.to_string())),
            Err(error) => Err(Setback::File(error.to_string())),
        }
    }
}
