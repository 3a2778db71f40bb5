//! Everything that one core does: datagrams, mail and time in; datagrams, mail and events out.
//!
//! In:    `handle_datagram`, `handle_mail`, `handle_timeout`, `handle_transmit_error`.
//! Out:   `poll_transmit`, `poll_mail`, `poll_event`, `poll_timeout`.
//! Holds: any number of `handle_*` for one instant, then drain the polls, then wait.
//!
//! The order of the cheap checks is that of limits.md section 1: length and type, source, then for data
//! slot, replay, tag; for handshakes mac1, cookie, budget, queue and only then a Diffie-Hellman.

mod gate;
mod initiate;
mod mailroom;
mod opened;
mod own_keys;
mod renew;
mod resets;
mod respond;
mod sessions;
mod table;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dunlin_codec::ids::{InstanceId, NodeId, SessionId};
use dunlin_codec::packet::{Packet, PacketKind};

use crate::admission::{Admission, Prefix};
use crate::blocks::{Block, BlockPool};
use crate::event::Event;
use crate::hash::HashKey;
use crate::identity::Identity;
use crate::limits::Limits;
use crate::mail::{Destination, Mail};
use crate::mutants::{Mutant, planted};
use crate::note::Note;
use crate::peers::Directory;
use crate::placement::Placement;
use crate::rng::{Entropy, Rng};
use crate::route::{Arrival, Transmit};
use crate::session::crypto::{Crypto, Suite};
use crate::session::live::Settings;
use crate::stats::{DropReason, Stats};
use crate::surroundings::Surroundings;
use crate::time::{Instant, Now};
use crate::timers::Timers;

pub use crate::session::inbound::code;

/// What a shard is told once.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its index.
    pub index: u8,
    /// Which shard owns what, one for all shards.
    pub placement: Placement,
    /// The kernel sends each datagram to the shard that the placement names; otherwise to any, the same for each pair of addresses.
    pub steered: bool,
    /// SHA-256 of the network's name.
    pub network: [u8; 32],
    /// The cipher of sessions that we initiate.
    pub suite: Suite,
    /// The node's start.
    pub instance: InstanceId,
    /// The root of the cookie secrets, one for all shards.
    pub cookie_root: [u8; 32],
    /// The secret behind reset tokens; survives a restart.
    pub reset_secret: [u8; 32],
    /// Early data is accepted.
    pub zero_rtt: bool,
    /// Several devices use this identity.
    pub shared_identity: bool,
    /// The identity was made at this start: nothing can have been accepted before.
    pub fresh_identity: bool,
    /// Our own addresses, where known: datagrams from them are dropped.
    pub own_addresses: Vec<core::net::SocketAddr>,
    /// Prefixes that have no handshake budget.
    pub trusted: Vec<Prefix>,
    /// When a handshake of ours is given up.
    pub handshake_deadline: core::time::Duration,
    /// What sessions share.
    pub settings: Settings,
}

impl ShardConfig {
    /// The key of hashes over bytes that peers choose.
    pub(crate) fn hash_key(&self) -> HashKey {
        HashKey(self.placement.seeds().keys)
    }
}

/// Why `poll_timeout` wants to be called back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timer {
    /// A session's timer.
    Session,
    /// A handshake waits for its turn, or is no more to be answered.
    Handshake,
    /// Letters that found their ring full are to be sent again.
    Mail,
    /// Free blocks are looked at: a shard that was quiet gives them back.
    Memory,
}

/// One core's worth of protocol.
pub struct Shard<C: Crypto, E: Entropy> {
    config: ShardConfig,
    /// Those of `config`: sessions share them, as there are many.
    settings: Arc<Settings>,
    limits: Limits,
    own: own_keys::OwnKeys<C>,
    entropy: E,
    around: Surroundings,
    table: Table<C>,
    timers: Timers,
    ready: VecDeque<SessionId>,
    directory: Directory,
    admission: Admission,
    gate: gate::Gate<C>,
    responders: respond::Responders<C>,
    /// Sessions by the hash of the token that would reset them: our own, and all of those whose hash falls to us.
    resets: HashMap<u64, SessionId, HashKey>,
    /// Sessions of ours whose peers write an id of another shard, which began their handshake.
    adopted: HashMap<SessionId, SessionId, HashKey>,
    /// Stateless replies: where to, and their bytes.
    replies: VecDeque<(Arrival, Reply)>,
    /// Since when blocks in use take more than their share of memory.
    short_since: Option<Instant>,
    /// When free blocks are looked at, and how many had been taken before.
    rest_at: Option<(Instant, u64)>,
    /// Sessions that ended in others, and in which: the last few.
    heirs: VecDeque<(SessionId, SessionId)>,
    /// Letters that found their ring full and must arrive: they are sent again later.
    postponed: VecDeque<(Destination, Mail)>,
    postponed_until: Instant,
    /// What came for the neighbours beside it.
    notes: VecDeque<Note>,
    batch_had_data: bool,
    batch_fresh: bool,
    shutting_down: bool,
}

use table::{Slot, Table};

/// What asking a session for a train came to.
enum Polled {
    /// This, and there may be more.
    More(Transmit),
    /// This, and nothing more for now.
    Last(Transmit),
    /// Nothing.
    Nothing,
}

/// A stateless reply: at most a Hello's length, sent before anything else.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: Block,
}

/// Stateless replies and handshake packets that wait to be sent at most.
const REPLIES_MAX: usize = 1_024;

impl<C: Crypto, E: Entropy> Shard<C, E> {
    /// A shard without peers.
    pub fn new(config: ShardConfig, identity: Identity, mut entropy: E, limits: Limits) -> Self {
        let rng = Rng::from_seed(entropy.array());
        let own = own_keys::OwnKeys::new(&identity);
        Self {
            around: Surroundings {
                now: Now::default(),
                events: VecDeque::new(),
                mail: VecDeque::new(),
                stats: Stats::default(),
                pool: BlockPool::new(limits.memory, limits.message_len_max),
                rng,
            },
            table: Table::new(config.index, limits.sessions),
            timers: Timers::with_keys(0),
            ready: VecDeque::new(),
            directory: Directory::new(config.hash_key()),
            admission: Admission::new(config.hash_key(), config.trusted.clone()),
            gate: gate::Gate::new(&config, C::static_public(own.pair())),
            responders: respond::Responders::new(&config, &limits),
            resets: HashMap::with_hasher(config.hash_key()),
            adopted: HashMap::with_hasher(config.hash_key()),
            replies: VecDeque::new(),
            short_since: None,
            rest_at: None,
            heirs: VecDeque::new(),
            postponed: VecDeque::new(),
            postponed_until: Instant::ZERO,
            notes: VecDeque::new(),
            batch_had_data: false,
            batch_fresh: false,
            shutting_down: false,
            settings: Arc::new(config.settings),
            config,
            limits,
            own,
            entropy,
        }
    }

    /// The node's identity.
    pub fn id(&self) -> NodeId {
        self.own.id()
    }

    /// What the shard has done so far.
    pub fn stats(&self) -> &Stats {
        &self.around.stats
    }

    /// Sessions and half-open handshakes that exist.
    pub fn sessions(&self) -> usize {
        self.table.used()
    }

    /// Sessions that other shards began and this one has: each still takes a slot there.
    pub fn adopted(&self) -> usize {
        self.adopted.len()
    }

    /// The shard was asked to shut down, and nothing is left that it must do.
    pub fn is_drained(&self) -> bool {
        self.shutting_down && self.table.is_quiet()
    }

    /// Bytes of message blocks that the shard has allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.around.pool.allocated_bytes()
    }

    /// Bytes of message blocks among them that hold something.
    pub fn used_bytes(&self) -> usize {
        self.around.pool.allocated_bytes() - self.around.pool.free_bytes()
    }

    /// A block of at least `len` bytes from the shard's own pool, for an answer made on this core; none: its memory is used up.
    pub fn take_block(&mut self, len: usize) -> Option<Block> {
        self.around.pool.lend(len)
    }

    /// A block that is no longer needed.
    pub fn give_block(&mut self, block: Block) {
        self.around.pool.receive(block);
    }

    /// Takes in a train: datagrams of `arrival.segment_len` bytes each, the last perhaps shorter, from one address.
    pub fn handle_datagram(&mut self, now: Now, arrival: &Arrival, bytes: &mut [u8]) {
        self.begin(now);
        let stats = &mut self.around.stats;
        stats.trains_in += 1;
        stats.bytes_in += bytes.len() as u64;
        if let Err(reason) = self.gate.check_source(arrival) {
            self.around.stats.count_drop(reason);
            return;
        }
        if bytes.is_empty() {
            self.around.stats.datagrams_in += 1;
            self.around.stats.count_drop(DropReason::TooShort);
        }
        for datagram in bytes.chunks_mut(arrival.segment_len.max(1)) {
            self.around.stats.datagrams_in += 1;
            if let Err(reason) = self.accept_datagram(self.config.index, arrival, datagram) {
                if planted(Mutant::DropNotCounted) && reason == DropReason::Forged {
                    continue;
                }
                self.around.stats.count_drop(reason);
            }
        }
    }

    /// A datagram, and the shard whose socket took it.
    #[inline]
    fn accept_datagram(
        &mut self,
        landed: u8,
        arrival: &Arrival,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        let first = *datagram.first().ok_or(DropReason::TooShort)?;
        if first & 0x80 != 0 {
            return self.on_sealed(landed, arrival, datagram);
        }
        self.accept_handshake(landed, arrival, datagram)
    }

    #[inline]
    fn on_sealed(&mut self, landed: u8, arrival: &Arrival, datagram: &mut [u8]) -> Result<(), DropReason> {
        if datagram.len() < dunlin_codec::sealed::OVERHEAD_LEN && !planted(Mutant::LengthNotChecked) {
            return Err(DropReason::TooShort);
        }
        let mut id = SessionId(u32::from_be_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]));
        if id.shard() != self.config.index {
            match self.adopted.get(&id) {
                Some(adopted) => id = *adopted,
                // The shard that the id names thought it ours: it may have taken the session back meanwhile, so no Reset.
                None if landed == id.shard() => return Err(DropReason::UnknownSession),
                None => return self.misroute(Destination::Shard(id.shard()), arrival, datagram),
            }
        }
        let Some(session) = self.table.live(id) else {
            return self.on_absent_session(arrival, id, datagram);
        };
        self.batch_had_data = true;
        let result = session.on_datagram(&mut self.around, arrival, datagram);
        session.deliver(&mut self.around);
        if !session.queued {
            session.queued = true;
            self.ready.push_back(id);
        }
        if session.phase_changed {
            self.on_phase_changed(id);
        }
        result
    }

    fn accept_handshake(
        &mut self,
        landed: u8,
        arrival: &Arrival,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        match Packet::kind_of(datagram[0]) {
            Some(PacketKind::Krpc) => return Err(DropReason::KrpcNotServed),
            None => return Err(DropReason::UnknownType),
            Some(_) => {}
        }
        match Packet::parse(datagram).map_err(gate::refusal_of)? {
            Packet::Hello(_) => self.on_hello(arrival, datagram),
            Packet::Welcome(welcome) => self.on_welcome(landed, arrival, &welcome),
            Packet::Cookie(cookie) => self.on_cookie(arrival, &cookie),
            Packet::Finish(finish) => self.on_finish(arrival, &finish),
            Packet::Reset(reset) => self.on_reset(landed, arrival, reset.session(), reset.token()),
            Packet::Krpc(_) | Packet::Sealed(_) => Err(DropReason::UnknownType),
        }
    }

    /// A datagram for another shard goes there by mail: correct, but slow (T24).
    fn misroute(&mut self, to: Destination, arrival: &Arrival, datagram: &[u8]) -> Result<(), DropReason> {
        let Destination::Shard(shard) = to;
        if usize::from(shard) >= self.config.placement.shard_count() {
            return Err(DropReason::UnknownSession);
        }
        if !self.admission.take_misrouted(self.around.now.instant) {
            return Err(DropReason::MisroutedRate);
        }
        if planted(Mutant::MisroutedDropped) {
            return Err(DropReason::UnknownSession);
        }
        let mut block = self.around.pool.take(datagram.len()).ok_or(DropReason::NoMemory)?;
        block.copy_from_slice(datagram);
        self.around.pool.disown(block.capacity());
        self.around.stats.misrouted += 1;
        let arrival = Arrival { segment_len: datagram.len(), ..*arrival };
        self.around.mail.push_back((to, Mail::Misrouted { arrival, datagram: block }));
        Ok(())
    }

    /// Time has come for something.
    pub fn handle_timeout(&mut self, now: Now) {
        self.begin(now);
        while let Some(key) = self.timers.expire(now.instant) {
            let Some(id) = self.table.id_of(key) else { continue };
            self.on_slot_timeout(id);
        }
        self.expire_responders();
        self.expire_own_keys();
        self.check_rest();
        if self.postponed_until <= now.instant {
            self.postponed.append(&mut self.around.mail);
            core::mem::swap(&mut self.postponed, &mut self.around.mail);
        }
    }

    fn on_slot_timeout(&mut self, id: SessionId) {
        match self.table.get_mut(id) {
            Some(Slot::Live(session)) => {
                session.on_timeout(&mut self.around);
                session.deliver(&mut self.around);
                self.touch(id);
                self.on_phase_changed(id);
            }
            Some(Slot::Connecting(_)) => self.on_connecting_timeout(id),
            Some(Slot::Finishing(_)) => drop(self.table.free(id)),
            Some(Slot::Handed(_) | Slot::Free) | None => {}
        }
    }

    /// Sessions that may have something to send.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Letters that come next: what they need is fetched for all of them at once. Changes nothing.
    #[inline]
    pub fn glance<'a>(&mut self, letters: impl Iterator<Item = &'a Mail>) {
        let mut last = None;
        for letter in letters {
            let Mail::Send { session, .. } = letter else { continue };
            if last.replace(*session) != Some(*session)
                && let Some(live) = self.table.live(*session)
            {
                core::hint::black_box(live.glance());
            }
        }
    }

    fn begin(&mut self, now: Now) {
        self.around.now = now;
        self.batch_fresh = true;
    }

    /// The session may have something to send.
    fn touch(&mut self, id: SessionId) {
        if let Some(session) = self.table.live(id)
            && !session.queued
        {
            session.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Writes the next train into `frame` (65,536 bytes hold any); None when there is nothing to send now.
    pub fn poll_transmit(&mut self, now: Now, frame: &mut [u8]) -> Option<Transmit> {
        self.around.now = now;
        if self.batch_fresh {
            self.batch_fresh = false;
            self.work_handshakes();
            self.check_memory();
        }
        if let Some((arrival, reply)) = self.replies.pop_front() {
            return Some(self.write_reply(&arrival, reply, frame));
        }
        while let Some(id) = self.ready.pop_front() {
            match self.poll_slot(id, frame) {
                Polled::More(transmit) => {
                    self.ready.push_back(id);
                    return Some(transmit);
                }
                Polled::Last(transmit) => return Some(transmit),
                Polled::Nothing => {}
            }
        }
        None
    }

    fn poll_slot(&mut self, id: SessionId, frame: &mut [u8]) -> Polled {
        let polled = match self.table.get_mut(id) {
            Some(Slot::Live(session)) => match session.poll_train(&mut self.around, frame) {
                // Asked again later, it would have to be fetched into the caches again to say no.
                Some(transmit) if session.settle(self.around.now.instant) => Polled::Last(transmit),
                Some(transmit) => return Polled::More(transmit),
                None => Polled::Nothing,
            },
            Some(Slot::Connecting(_)) => {
                return self.poll_hello(id, frame).map_or(Polled::Nothing, Polled::More);
            }
            _ => return Polled::Nothing,
        };
        if let Some(session) = self.table.live(id) {
            session.queued = false;
            session.release(&mut self.around);
            let deadline = session.deadline();
            self.timers.set(id.slot() as u32, deadline);
            self.on_phase_changed(id);
        }
        polled
    }

    fn write_reply(&mut self, arrival: &Arrival, reply: Reply, frame: &mut [u8]) -> Transmit {
        let len = reply.bytes.len();
        frame[..len].copy_from_slice(&reply.bytes);
        self.around.pool.give(reply.bytes);
        let stats = &mut self.around.stats;
        stats.trains_out += 1;
        stats.datagrams_out += 1;
        stats.bytes_out += len as u64;
        stats.stateless_bytes_out += len as u64;
        Transmit {
            local: arrival.local,
            remote: arrival.remote,
            socket: arrival.socket,
            ecn: crate::route::Ecn::NotEct,
            len,
            segment_len: len,
        }
    }

    /// Queues a reply to whoever sent `arrival`.
    fn reply(&mut self, arrival: &Arrival, bytes: &[u8]) -> Result<(), DropReason> {
        if self.replies.len() >= REPLIES_MAX {
            return Err(DropReason::ReplyRate);
        }
        let mut block = self.around.pool.take(bytes.len()).ok_or(DropReason::NoMemory)?;
        block.copy_from_slice(bytes);
        self.replies.push_back((*arrival, Reply { bytes: block }));
        Ok(())
    }

    /// The next letter.
    pub fn poll_mail(&mut self) -> Option<(Destination, Mail)> {
        loop {
            let (to, mut mail) = self.around.mail.pop_front()?;
            if !self.waits_behind(to, &mail) {
                let pool = &mut self.around.pool;
                mail.each_message_block(&mut |block| pool.let_go(block));
                return Some((to, mail));
            }
            self.postponed.push_back((to, mail));
        }
    }

    /// Key material for whoever stands beside it.
    #[must_use]
    pub fn draw(&mut self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.entropy.array())
    }

    /// The next note for the neighbours beside it.
    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// The next fact for the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.around.events.pop_front()
    }

    /// When `handle_timeout` is to be called, and for what; None: not before something else happens.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let waiting = self.next_handshake().map(|at| (at, Timer::Handshake));
        let sessions = self.timers.next().map(|at| (at, Timer::Session));
        let responders = self.responders.next_expiry().map(|at| (at, Timer::Handshake));
        let postponed = (!self.postponed.is_empty()).then_some((self.postponed_until, Timer::Mail));
        let keys = self.next_key_look().map(|at| (at, Timer::Handshake));
        let rest = self.rest_at.map(|(at, _)| (at, Timer::Memory));
        let others = responders.into_iter().chain(waiting).chain(postponed).chain(keys).chain(rest);
        sessions.into_iter().chain(others).min_by_key(|(at, _)| *at)
    }
}
