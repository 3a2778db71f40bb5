//! A holder: keeps what it is told to keep, when it may, and says so once it is on disk.
//!
//! In:    STORE, FIND_VALUE, the disk's word, time.
//! Out:   answers, rows to be written, values to be stored again elsewhere, events.
//! Holds: what is told is durable: a store is in nobody's sight before the disk has confirmed it. One store of a key or
//!        group is on its way at a time, the others wait in line. Everything has its bound (T11, T12).
//!
//! A disk that fails refuses stores, and nothing else. Copies beside the path never see the disk and promise nothing.
//!
//! spec: p2p/holder

mod decide;
mod handing;
mod inventory;
mod leases;
mod line;
mod pace;
mod sweep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use core::net::IpAddr;

use dunlin_codec::args::{Ack, FindValue, Found, Metadata, Nack, Reason, Request, RollKey, Store, StoreNack};
use dunlin_codec::ids::{Address, NodeId};
use dunlin_codec::label::Network;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::Key;

use super::check::{Rules, address, is_address_of};
use super::durable::{DiskRow, ReadRow, ValueRow, read_row};
use super::plain::{Entry, Kept, Ruling, charged, rule};
use super::quota::{Charge, Ledger, Quotas};
use super::roll::List;
use super::state::scope_of;
use super::{Answer, Asker, SMALL_LEN_MAX};
use crate::dht::known::Known;
use crate::dht::space::{Distance, Space};
use crate::identity::chain::Kin;
use crate::limits::{CACHE_LEN_MAX, SWEEP_INTERVAL, WRITES_OPEN_MAX};
use crate::mutants::{Mutant, planted};
use crate::time::{Instant, Now, WallMillis};
pub use inventory::Inventory;

use decide::{KeptRegister, StagedRegister};
use handing::Handing;
use leases::Leases;
use line::Lines;
use pace::Pace;

/// What a holder goes by.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Who it is.
    pub own: NodeId,
    /// Its network: part of everything that is signed.
    pub network: Network,
    /// The space of addresses.
    pub space: Space,
    /// How much it keeps.
    pub quotas: Quotas,
    /// The hash of the network's descriptor: under it lies its roll.
    pub roll: [u8; 32],
}

/// What happened to a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// It is another now.
    Update,
    /// It was deleted: nil was stored.
    Delete,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Write these rows, all or none, after those of lower tickets; [`Holder::on_written`] when they are durable.
    Write {
        /// What its end is told with.
        ticket: u64,
        /// The rows.
        rows: Vec<DiskRow>,
    },
    /// Answer a STORE.
    Answer {
        /// Whom.
        to: Asker,
        /// What.
        answer: Answer,
    },
    /// Store this again at the holders that are closest by now, or at one that has come.
    Republish {
        /// Whom; none: all.
        to: Option<NodeId>,
        /// The key's bytes.
        key: Vec<u8>,
        /// The arguments of STORE.
        store: Vec<u8>,
    },
    /// This holder does not know what the others decided before it came: find those closest to the key's address and have
    /// [`super::survey::Survey`] read them; [`Holder::on_settled`] hears of it.
    Settle {
        /// What [`Holder::on_settled`] is told with.
        scope: Vec<u8>,
        /// A key of the register.
        key: Vec<u8>,
    },
    /// Have [`super::decision::Decision::refresh`] bring what was decided to those closest to the key's address by now.
    Refresh {
        /// A key of the register.
        key: Vec<u8>,
    },
    /// An identity has these leases here: tell the other shards' holders, [`Holder::on_leased_elsewhere`].
    Leased {
        /// Who.
        holder: NodeId,
        /// When each ends.
        ends: Box<[Instant]>,
    },
    /// A value changed here.
    Changed {
        /// The key's bytes.
        key: Vec<u8>,
        /// How.
        event: Event,
    },
}

/// What a holder says to FIND_VALUE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// This.
    Answer(Answer),
    /// It has no such value: the nodes closest to this place are the answer.
    Nowhere(Address),
}

/// What was found on disk at start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Restored {
    /// Rows that are kept.
    pub kept: usize,
    /// Rows whose time was over.
    pub expired: usize,
    /// Rows that were none: somebody else's, or damaged.
    pub bad: usize,
}

/// What becomes true when a write is durable.
#[derive(Debug)]
enum Staged {
    /// A plain value.
    Plain { key: Vec<u8>, entry: Entry, event: Option<Event> },
    /// A register.
    Register(Box<StagedRegister>),
    /// Nothing: rows went.
    Removal,
}

/// A write that the disk has not confirmed.
#[derive(Debug)]
struct Open {
    /// Whose line waits for it; none: nobody's.
    scope: Option<Vec<u8>>,
    to: Option<(Asker, Answer)>,
    staged: Staged,
}

/// What a store comes to.
enum Step {
    Answer(Answer),
    Write(Staged, Vec<DiskRow>, Answer),
}

/// A holder of values.
#[derive(Debug)]
pub struct Holder {
    setup: Setup,
    /// Which keys became which.
    kin: Kin,
    /// Whom the node knows.
    known: Arc<Known>,
    plain: BTreeMap<Vec<u8>, Entry>,
    registers: BTreeMap<Vec<u8>, KeptRegister>,
    leases: Leases,
    /// Copies beside the path, the farthest last.
    caches: BTreeSet<(Distance, Vec<u8>)>,
    caches_len: usize,
    ledger: Ledger,
    lines: Lines,
    pace: Pace,
    roll: List,
    handing: Handing,
    open: BTreeMap<u64, Open>,
    tickets: u64,
    sweep_at: Instant,
    /// The last key that was looked at.
    swept: Vec<u8>,
    swept_register: Vec<u8>,
    actions: VecDeque<Action>,
}

fn refusal(reason: Reason, metadata: Option<Metadata<'_>>) -> Answer {
    Answer::nack(&Nack::Store(StoreNack { reason, metadata, promised: None }))
}

fn kept_answer(key: Key<'_>, metadata: Metadata<'_>) -> Answer {
    Answer::ack(&Ack::Stored(Found { key, value: Encoded::NIL, metadata }, None), SMALL_LEN_MAX)
}

impl Holder {
    /// A holder of nothing.
    #[must_use]
    pub fn new(setup: Setup, now: Now) -> Self {
        Self {
            setup,
            kin: Kin::default(),
            known: Arc::new(Known::nobody(setup.own, setup.space)),
            plain: BTreeMap::new(),
            registers: BTreeMap::new(),
            leases: Leases::default(),
            caches: BTreeSet::new(),
            caches_len: 0,
            ledger: Ledger::new(setup.quotas),
            lines: Lines::default(),
            pace: Pace::default(),
            roll: List::new(setup.own, setup.network),
            handing: Handing::new(now.instant),
            open: BTreeMap::new(),
            tickets: 0,
            sweep_at: now.instant + SWEEP_INTERVAL,
            swept: Vec::new(),
            swept_register: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// Keys became others: whoever has one of them now owns what the others own.
    pub fn on_kin(&mut self, kin: Kin) {
        self.roll.on_kin(&kin);
        self.kin = kin;
    }

    /// Whom the node knows by now: told to whoever asks about a register that was never decided here.
    pub fn on_known(&mut self, known: &Arc<Known>) {
        self.known = Arc::clone(known);
    }

    /// Who of [`Self::on_known`] has come; so many are the holders of a key. Newcomers are given what they are to keep.
    pub fn on_newcomers(&mut self, now: Now, replication: usize) {
        self.handing.on_known(now.instant, (&self.known, replication));
    }

    /// The node has another key: it stands elsewhere, and what it decides from now on is said by that key.
    pub fn on_new_key(&mut self, own: NodeId) {
        self.roll.on_new_key(own);
        self.setup.own = own;
    }

    const fn rules(&self) -> Rules<'_> {
        Rules { network: &self.setup.network, kin: &self.kin }
    }

    /// Takes what is on disk, before anything is asked.
    pub fn restore<'r>(
        &mut self,
        now: Now,
        rows: impl IntoIterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Restored {
        let mut restored = Restored::default();
        for (key, value) in rows {
            match read_row(key, value) {
                Ok(ReadRow::Register(_)) if planted(Mutant::RegisterForgotten) => {}
                Ok(ReadRow::Register(row)) => {
                    restored.kept += 1;
                    self.restore_register(now, &row);
                }
                Ok(ReadRow::Value(row)) if row.keep_until <= now.wall => restored.expired += 1,
                Ok(ReadRow::Value(row)) => {
                    restored.kept += 1;
                    self.restore_value(now, &row);
                }
                Err(_) => restored.bad += 1,
            }
        }
        let holders = self.leases.holders().collect();
        self.tell_leases_of(holders);
        restored
    }

    fn restore_value(&mut self, now: Now, row: &ValueRow<'_>) {
        let len = row.key.bytes().len() + row.value.bytes().len();
        let entry = Entry {
            value: row.value.bytes().into(),
            record: row.record.map(|record| record.bytes().into()),
            keep_until: row.keep_until,
            told_at: now.instant,
            charge: Charge::new(charged(row.record, self.setup.own), None, len),
            is_cache: false,
        };
        self.ledger.restore(entry.charge);
        self.plain.insert(row.key.bytes().to_vec(), entry);
    }

    /// Bytes of the values that it keeps, with their keys.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.ledger.len()
    }

    /// It keeps nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.registers.is_empty()
    }

    /// Answers FIND_VALUE of somebody at this address. Never waits: what is told is in memory; but for the roll it is durable.
    #[must_use]
    pub fn on_find(&mut self, now: Now, from: IpAddr, payload: &[u8]) -> Finding {
        let refuse = |reason| Finding::Answer(Answer::nack(&Nack::Plain(Operation::FindValue, reason)));
        let Ok(Request::FindValue(FindValue { address, key })) =
            Request::parse(Operation::FindValue, payload)
        else {
            return refuse(Reason::Malformed);
        };
        if !is_address_of(self.setup.space, &address, &key) {
            return refuse(Reason::WrongAddress);
        }
        if RollKey::read(&key, &self.setup.roll) == Some(RollKey::All) {
            return self.tell_roll(now, from, (key, address));
        }
        if let Some(cell) = self.decided(now, &key) {
            let found = Found { key, value: cell.value(), metadata: cell.metadata() };
            return Finding::Answer(Answer::ack(&Ack::Value(found), SMALL_LEN_MAX + cell.value.len()));
        }
        let entry = self.plain.get(key.bytes()).filter(|entry| entry.is_live(now.wall));
        entry.map_or(Finding::Nowhere(address), |entry| {
            let found = Found { key, value: entry.value(), metadata: entry.metadata() };
            Finding::Answer(Answer::ack(&Ack::Value(found), SMALL_LEN_MAX + entry.value.len()))
        })
    }

    fn tell_roll(&mut self, now: Now, from: IpAddr, (key, address): (Key<'_>, Address)) -> Finding {
        let Some(value) = self.roll.tell(now, from) else { return Finding::Nowhere(address) };
        let value_view = Encoded::parse(&value).expect("a roll is a value");
        let found = Found { key, value: value_view, metadata: Metadata::default() };
        Finding::Answer(Answer::ack(&Ack::Value(found), SMALL_LEN_MAX + value.len()))
    }

    /// A STORE that has to do with the roll is answered at once: nothing of it goes to the disk.
    // spec: p2p/roll
    fn on_roll(&mut self, now: Now, asker: Asker, (store, key): (&Store<'_>, RollKey)) {
        let entered = match key {
            RollKey::Of(node) if store.options.count() == 0 && self.kin.present(&node) == node => {
                self.roll.enter(now, asker, (node, store.value))
            }
            RollKey::Of(_) | RollKey::All => Err(Reason::NotAllowed),
        };
        let answer = match entered {
            Ok(()) => kept_answer(store.key, Metadata::default()),
            Err(reason) => refusal(reason, None),
        };
        self.answer(asker, answer);
    }

    /// Takes a STORE. Its answer is an action, perhaps a later one.
    pub fn on_store(&mut self, now: Now, asker: Asker, payload: &[u8]) {
        let reason = match Request::parse(Operation::Store, payload) {
            Ok(Request::Store(store)) if is_address_of(self.setup.space, &store.address, &store.key) => {
                if let Some(key) = RollKey::read(&store.key, &self.setup.roll) {
                    return self.on_roll(now, asker, (&store, key));
                }
                match self.lines.join(&scope_of(&store.key), asker, payload) {
                    line::Place::First => return self.work(now, asker, &store),
                    line::Place::Waits => return,
                    line::Place::None => Reason::Busy,
                }
            }
            Ok(Request::Store(_)) => Reason::WrongAddress,
            _ => Reason::Malformed,
        };
        self.answer(asker, refusal(reason, None));
    }

    fn answer(&mut self, to: Asker, answer: Answer) {
        self.actions.push_back(Action::Answer { to, answer });
    }

    /// Whoever is first in line.
    fn work(&mut self, now: Now, asker: Asker, store: &Store<'_>) {
        match self.step(now, asker, store) {
            Step::Answer(answer) => self.answer(asker, answer),
            Step::Write(staged, rows, answer) => {
                let scope = scope_of(&store.key);
                self.lines.hold(&scope);
                let scope = Some(scope);
                self.write(rows, Open { scope, to: Some((asker, answer)), staged });
            }
        }
    }

    fn write(&mut self, rows: Vec<DiskRow>, open: Open) {
        self.tickets += 1;
        self.open.insert(self.tickets, open);
        self.actions.push_back(Action::Write { ticket: self.tickets, rows });
    }

    /// The disk is behind by as much as it may be.
    fn is_behind(&self) -> bool {
        self.open.len() >= WRITES_OPEN_MAX
    }

    fn step(&mut self, now: Now, asker: Asker, store: &Store<'_>) -> Step {
        if self.is_behind() {
            return Step::Answer(refusal(Reason::Busy, None));
        }
        match (store.options.prepare, store.options.accept) {
            (None, None) => {}
            (Some(ballot), None) => return self.prepare(now, asker, (store, ballot)),
            (None, Some(ballot)) => return self.accept(now, asker, (store, ballot)),
            (Some(_), Some(_)) => return Step::Answer(refusal(Reason::Malformed, None)),
        }
        if let Some(answer) = self.away(now, store) {
            return Step::Answer(answer);
        }
        let current = self.plain.get(store.key.bytes()).filter(|entry| entry.is_live(now.wall));
        let told = current.filter(|entry| !entry.is_cache || store.options.is_cache);
        match rule(told, store, (self.rules(), now.wall)) {
            Err(reason) => Step::Answer(refusal(reason, current.map(Entry::metadata))),
            Ok(Ruling::Same(kept)) => self.keep(now, asker, (store, kept, false)),
            Ok(Ruling::Keep(kept)) => self.keep(now, asker, (store, kept, true)),
        }
    }

    /// Keeps a value, when there is room.
    fn keep(&mut self, now: Now, asker: Asker, (store, kept, is_new): (&Store<'_>, Kept, bool)) -> Step {
        let (key, record) = (store.key, store.options.record);
        let answer = kept_answer(key, Metadata { record, lease: None });
        let there = self.plain.get(key.bytes());
        if store.options.is_cache {
            // What is kept in earnest is no worse than a copy.
            if there.is_none_or(|there| there.is_cache || !there.is_live(now.wall)) {
                self.keep_copy(now, store, kept);
            }
            return Step::Answer(answer);
        }
        let freed = there.filter(|there| !there.is_cache).map(|there| there.charge);
        let len = key.bytes().len() + kept.value.len();
        let charge = Charge::new(charged(record, asker.peer), Some(asker.from), len);
        if let Err(reason) = self.ledger.take(charge, freed) {
            return Step::Answer(refusal(reason, there.map(Entry::metadata)));
        }
        let entry = Entry {
            value: kept.value,
            record: record.map(|record| record.bytes().into()),
            keep_until: kept.keep_until,
            told_at: now.instant,
            charge,
            is_cache: false,
        };
        let value = entry.value();
        let row = ValueRow { key, keep_until: entry.keep_until, record, value }.to_row();
        let event = if value.is_nil() { Event::Delete } else { Event::Update };
        let event = is_new.then_some(event);
        Step::Write(Staged::Plain { key: key.bytes().to_vec(), entry, event }, vec![row], answer)
    }

    /// Keeps a copy beside the path; the farthest copies make place.
    fn keep_copy(&mut self, now: Now, store: &Store<'_>, kept: Kept) {
        let key = store.key.bytes();
        self.forget(key);
        let len = key.len() + kept.value.len();
        let distance = self.setup.space.distance(&Space::place(&self.setup.own), &address(&store.key));
        while self.caches_len + len > CACHE_LEN_MAX {
            let Some((_, farthest)) = self.caches.last().filter(|last| last.0 >= distance).cloned() else {
                return;
            };
            self.forget(&farthest);
        }
        let record = store.options.record;
        let entry = Entry {
            value: kept.value,
            record: record.map(|record| record.bytes().into()),
            keep_until: kept.keep_until,
            told_at: now.instant,
            charge: Charge::new(self.setup.own, None, len),
            is_cache: true,
        };
        self.caches_len += len;
        self.caches.insert((distance, key.to_vec()));
        self.plain.insert(key.to_vec(), entry);
    }

    /// Forgets what is in memory of a key.
    fn forget(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.plain.remove(key)?;
        if entry.is_cache {
            let place = Key::parse(key).ok().flatten().map(|key| address(&key));
            let own = Space::place(&self.setup.own);
            let distance = place.map(|place| self.setup.space.distance(&own, &place));
            distance.map(|distance| self.caches.remove(&(distance, key.to_vec())));
            self.caches_len -= key.len() + entry.value.len();
        } else {
            self.ledger.give_back(entry.charge);
        }
        Some(entry)
    }

    /// A write is durable; or it failed, and nothing of it is on disk or ever will be.
    pub fn on_written(&mut self, now: Now, ticket: u64, is_durable: bool) {
        let Some(Open { scope, to, staged }) = self.open.remove(&ticket) else { return };
        if is_durable {
            self.take_effect(now, staged);
        } else {
            self.undo(staged);
        }
        if let Some((asker, answer)) = to {
            self.answer(asker, if is_durable { answer } else { refusal(Reason::Full, None) });
        }
        let Some(scope) = scope else { return };
        self.lines.release(&scope);
        while let Some((asker, payload)) = self.lines.next(&scope) {
            if let Ok(Request::Store(store)) = Request::parse(Operation::Store, &payload) {
                self.work(now, asker, &store);
            }
        }
    }

    fn take_effect(&mut self, now: Now, staged: Staged) {
        match staged {
            Staged::Plain { key, entry, event } => {
                self.forget(&key);
                self.plain.insert(key.clone(), entry);
                self.actions.extend(event.map(|event| Action::Changed { key, event }));
            }
            Staged::Register(staged) => self.take_register(now, *staged),
            Staged::Removal => {}
        }
    }

    fn undo(&mut self, staged: Staged) {
        match staged {
            Staged::Plain { entry, .. } => self.ledger.give_back(entry.charge),
            Staged::Register(staged) => self.ledger.give_back(staged.kept.charge),
            Staged::Removal => {}
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When `handle_timeout` is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_idle = self.is_empty() && self.pace.is_empty() && !self.leases.knows_elsewhere();
        (!is_idle).then_some(self.sweep_at)
    }
}

/// Whether a value's time is over.
const fn is_over(until: WallMillis, now: WallMillis) -> bool {
    until.0 <= now.0
}
