//! Rings between the application and a shard, and between shards.
//!
//! In:    letters and blocks from any thread; deliveries from the shard's own.
//! Out:   the same on the other side, in order per ring.
//! Holds: every ring is bounded; a block is owned by exactly one side at any time.
//!
//! A shard never takes a lock here: its ends of the rings are its own. Application threads share theirs under a
//! mutex that is held for a push or a drain, never across a system call.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam::utils::{Backoff, CachePadded};
use dunlin_codec::ids::{ChannelId, SessionId};
use dunlin_shards::arq::sender::Outgoing;
use dunlin_shards::blocks::{Block, BlockPool};
use dunlin_shards::mail::Mail;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::socket::Doorbell;

/// Letters that wait for a shard at most, per ring.
pub(crate) const LETTERS: usize = 4_096;
/// Deliveries that wait for the application at most, per shard.
const DELIVERIES: usize = 8_192;
/// Blocks on their way home at most.
const RETURNS: usize = 8_192;
/// Bytes read by the application after which the shard is woken to tell the peer.
const CONSUMED_WAKE: usize = 32 << 10;
/// Bytes of blocks that the application's side of one shard may hold.
const SEND_POOL: usize = 256 << 20;

/// The application's side of one shard. `D` is what the shard delivers.
pub(crate) struct Port<D> {
    letters: Mutex<Letters>,
    home: Mutex<Producer<Mail>>,
    deliveries: Mutex<Consumer<D>>,
    doorbell: Doorbell,
    consumed: CachePadded<AtomicUsize>,
}

struct Letters {
    producer: Producer<Mail>,
    returns: Consumer<Block>,
    pool: BlockPool,
}

/// The shard's side.
pub(crate) struct Desk<D> {
    pub(crate) letters: Consumer<Mail>,
    pub(crate) home: Consumer<Mail>,
    pub(crate) deliveries: Producer<D>,
    pub(crate) returns: Producer<Block>,
}

/// Both sides of one shard's rings.
pub(crate) fn connect<D>(doorbell: Doorbell, message_len_max: usize) -> (Port<D>, Desk<D>) {
    let (letters_in, letters_out) = RingBuffer::new(LETTERS);
    let (home_in, home_out) = RingBuffer::new(RETURNS);
    let (deliveries_in, deliveries_out) = RingBuffer::new(DELIVERIES);
    let (returns_in, returns_out) = RingBuffer::new(RETURNS);
    let letters = Letters {
        producer: letters_in,
        returns: returns_out,
        pool: BlockPool::new(SEND_POOL, message_len_max),
    };
    let port = Port {
        letters: Mutex::new(letters),
        home: Mutex::new(home_in),
        deliveries: Mutex::new(deliveries_out),
        doorbell,
        consumed: CachePadded::new(AtomicUsize::new(0)),
    };
    let desk = Desk { letters: letters_out, home: home_out, deliveries: deliveries_in, returns: returns_in };
    (port, desk)
}

/// A letter that found its ring full, or its pool empty; try again when the shard has worked.
#[derive(Debug)]
pub(crate) struct Full;

/// A mutex whose holder panicked still guards plain data: nothing here is left half-done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D> Port<D> {
    /// Hands a letter over and wakes the shard if it sleeps.
    pub(crate) fn post(&self, mail: Mail) -> Result<(), Full> {
        lock(&self.letters).producer.push(mail).map_err(|_| Full)?;
        self.doorbell.ring();
        Ok(())
    }

    /// Copies `bytes` into a pooled block and hands it over as the message that `describe` makes of it, unless the session is not
    /// the right one any more.
    pub(crate) fn send(
        &self,
        (session, is_current): (SessionId, impl FnOnce() -> bool),
        bytes: &[u8],
        describe: impl FnOnce(Block) -> Outgoing,
    ) -> Result<(), Full> {
        {
            let mut letters = lock(&self.letters);
            let Letters { producer, returns, pool } = &mut *letters;
            if producer.is_full() || !is_current() {
                return Err(Full);
            }
            while let Ok(block) = returns.pop() {
                pool.give(block);
            }
            let mut block = pool.take(bytes.len()).ok_or(Full)?;
            block.fill_from(bytes);
            let mail = Mail::Send { session, message: describe(block) };
            producer.push(mail).map_err(|_| Full)?;
        }
        self.doorbell.ring();
        Ok(())
    }

    /// Whoever was about to send has done so afterwards, and whoever comes later sees what the caller wrote before.
    pub(crate) fn await_senders(&self) {
        drop(lock(&self.letters));
    }

    /// A block for early data, which travels with a request to connect.
    pub(crate) fn block_of(&self, bytes: &[u8]) -> Option<Block> {
        let mut block = lock(&self.letters).pool.take(bytes.len())?;
        block.fill_from(bytes);
        Some(block)
    }

    /// A message was read: its block goes home. The shard is woken when the peer may be waiting for that.
    pub(crate) fn give_back(&self, (session, channel, charge): (SessionId, ChannelId, u32), block: Block) {
        let bytes = block.len();
        // The ring is as long as there can be deliveries and inbox entries in flight; when it is full all the
        // same, the shard is behind, and waiting a little is right.
        let mut mail = Mail::Consumed { session, channel, charge, block };
        let backoff = Backoff::new();
        loop {
            // The guard must be gone before `is_abandoned` takes it again.
            let pushed = lock(&self.home).push(mail);
            let Err(rtrb::PushError::Full(back)) = pushed else { break };
            mail = back;
            self.doorbell.ring();
            if self.is_abandoned() {
                return;
            }
            backoff.snooze();
        }
        if self.consumed.fetch_add(bytes, Ordering::Relaxed) + bytes >= CONSUMED_WAKE {
            self.consumed.store(0, Ordering::Relaxed);
            self.doorbell.ring();
        }
    }

    /// The shard is gone: nobody reads the rings any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        lock(&self.home).is_abandoned()
    }

    /// The ring of deliveries, to be drained by whoever needs something from it.
    pub(crate) fn deliveries(&self) -> MutexGuard<'_, Consumer<D>> {
        lock(&self.deliveries)
    }

    /// Wakes the shard.
    pub(crate) fn ring(&self) {
        self.doorbell.ring();
    }
}
