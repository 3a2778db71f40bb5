//! What the stories of values are made of: keys, records, a holder with a disk in memory.

use std::collections::BTreeMap;

use dunlin_codec::args::{Ack, FindValue, Nack, Reason, Request, Store, StoreNack, StoreOptions};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::{Encoded, write};
use dunlin_codec::record::{Key, NOBODY, ValueFields, ValueRecord};

use super::super::*;
use crate::dht::space::Space;
use crate::identity::Identity;
use crate::identity::chain::{KeyChains, Kin, Word};
use crate::identity::change::SignedChange;
use crate::time::{Instant, Now, WallMillis};

pub(super) const NETWORK: Network = Network([7; 32]);
/// Whoever asks is on a private address.
pub(super) const HERE: core::net::IpAddr = core::net::IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);
/// The hash of the network's descriptor.
pub(super) const ROLL: [u8; 32] = [0x52; 32];
pub(super) const START: u64 = 1_760_000_000_000;
pub(super) const HOUR: u64 = 3_600_000;

pub(super) fn identity(number: u8) -> Identity {
    Identity::from_seed([number; 32])
}

/// The key of one number became that of another.
pub(super) fn kin(old: u8, new: u8) -> Kin {
    let mut chains = KeyChains::default();
    let signed = SignedChange::sign((&identity(old), &identity(new)), &identity(250).id(), (1, START));
    chains.on_change(&signed, at(0).wall, Word::Of(identity(old).id())).unwrap();
    chains.kin()
}

pub(super) fn at(millis: u64) -> Now {
    Now { instant: Instant::from_nanos(millis * 1_000_000), wall: WallMillis(START + millis) }
}

pub(super) fn encoded(write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    encode(1 << 20, write)
}

pub(super) fn name(text: &str) -> Vec<u8> {
    encoded(|out| write::str(out, text))
}

pub(super) fn grouped(group: &str, text: &str) -> Vec<u8> {
    encoded(|out| {
        write::array(out, 2)?;
        write::str(out, group)?;
        write::str(out, text)
    })
}

pub(super) fn number(value: u64) -> Vec<u8> {
    encoded(|out| write::unsigned(out, value))
}

pub(super) fn key(bytes: &[u8]) -> Key<'_> {
    Key::parse(bytes).unwrap().unwrap()
}

pub(super) fn value(bytes: &[u8]) -> Encoded<'_> {
    Encoded::parse(bytes).unwrap()
}

/// What a record is to say, but for its value.
#[derive(Clone, Copy)]
pub(super) struct Says<'a> {
    pub(super) key: &'a [u8],
    pub(super) owner: NodeId,
    pub(super) sequence: u64,
    pub(super) time: u64,
    pub(super) expiry: u64,
}

impl<'a> Says<'a> {
    pub(super) fn nobodys(key: &'a [u8], sequence: u64) -> Self {
        Self { key, owner: NOBODY, sequence, time: 0, expiry: HOUR }
    }

    pub(super) fn signed(&self, writer: &Identity, value_bytes: &[u8]) -> Vec<u8> {
        self.granted(writer, value_bytes, None)
    }

    pub(super) fn granted(
        &self,
        writer: &Identity,
        value_bytes: &[u8],
        leave: Option<&GivenLeave>,
    ) -> Vec<u8> {
        let fields = ValueFields {
            key: key(self.key),
            owner: self.owner,
            sequence: self.sequence,
            time_ms: START + self.time,
            expiry_ms: START + self.expiry,
            value_hash: &value_hash(value(value_bytes)),
            writer: writer.id(),
            token: 0,
        };
        sign_record(writer, &NETWORK, &fields, leave)
    }
}

pub(super) fn store(key_bytes: &[u8], value_bytes: &[u8], options: StoreOptions<'_>) -> Vec<u8> {
    let key = key(key_bytes);
    let request = Store { address: address(&key), key, value: value(value_bytes), options };
    encoded(|out| Request::Store(request).write(out))
}

pub(super) fn with_record(record: &[u8]) -> StoreOptions<'_> {
    StoreOptions { record: Some(ValueRecord::parse(record).unwrap()), ..StoreOptions::default() }
}

pub(super) fn find(key_bytes: &[u8]) -> Vec<u8> {
    let key = key(key_bytes);
    encoded(|out| Request::FindValue(FindValue { address: address(&key), key }).write(out))
}

pub(super) fn peer(number: u8) -> Asker {
    Asker { peer: identity(number).id(), from: [10, 0, 0, number].into(), request: number.into() }
}

/// A holder and its disk.
pub(super) struct Home {
    pub(super) holder: Holder,
    pub(super) disk: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the disk has not done yet.
    pub(super) writes: Vec<(u64, Vec<DiskRow>)>,
    pub(super) answers: Vec<(Asker, Answer)>,
    pub(super) events: Vec<(Vec<u8>, Event)>,
    pub(super) again: Vec<Vec<u8>>,
    /// What is given to somebody who has come: whom, and the key.
    pub(super) given: Vec<(NodeId, Vec<u8>)>,
    /// Registers that it would settle: their scopes, a key of each.
    pub(super) settles: Vec<(Vec<u8>, Vec<u8>)>,
    /// Registers that it would bring to others: a key of each.
    pub(super) refreshes: Vec<Vec<u8>>,
    /// What other shards are to know.
    pub(super) leased: Vec<(NodeId, Box<[Instant]>)>,
}

pub(super) fn setup(number: u8) -> Setup {
    let (space, quotas) = (Space::new(256), Quotas::default());
    Setup { own: identity(number).id(), network: NETWORK, space, quotas, roll: ROLL }
}

impl Home {
    pub(super) fn new(setup: Setup, now: Now) -> Self {
        Self {
            holder: Holder::new(setup, now),
            disk: BTreeMap::new(),
            writes: Vec::new(),
            answers: Vec::new(),
            events: Vec::new(),
            again: Vec::new(),
            given: Vec::new(),
            settles: Vec::new(),
            refreshes: Vec::new(),
            leased: Vec::new(),
        }
    }

    /// Takes what the holder wants done; the disk waits.
    pub(super) fn drain(&mut self) {
        while let Some(action) = self.holder.poll_action() {
            match action {
                Action::Write { ticket, rows } => self.writes.push((ticket, rows)),
                Action::Answer { to, answer } => self.answers.push((to, answer)),
                Action::Republish { to: Some(to), key, .. } => self.given.push((to, key)),
                Action::Republish { to: None, store, .. } => self.again.push(store),
                Action::Changed { key, event } => self.events.push((key, event)),
                Action::Leased { holder, ends } => self.leased.push((holder, ends)),
                Action::Refresh { key } => self.refreshes.push(key),
                Action::Settle { scope, key } => self.settles.push((scope, key)),
            }
        }
    }

    /// The disk does the oldest write.
    pub(super) fn write_one(&mut self, now: Now) -> bool {
        if self.writes.is_empty() {
            return false;
        }
        let (ticket, rows) = self.writes.remove(0);
        apply_rows(&mut self.disk, &rows);
        self.holder.on_written(now, ticket, true);
        self.drain();
        true
    }

    pub(super) fn ask(&mut self, now: Now, asker: Asker, payload: &[u8]) {
        self.holder.on_store(now, asker, payload);
        self.drain();
    }

    /// Asks, lets the disk work, and gives the one answer.
    pub(super) fn told(&mut self, now: Now, asker: Asker, payload: &[u8]) -> Answer {
        self.ask(now, asker, payload);
        while self.write_one(now) {}
        assert_eq!(self.answers.len(), 1, "one question, one answer");
        self.answers.remove(0).1
    }

    pub(super) fn reason(&mut self, now: Now, asker: Asker, payload: &[u8]) -> Option<Reason> {
        let answer = self.told(now, asker, payload);
        reason(&answer)
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.holder.handle_timeout(now);
        self.drain();
        while self.write_one(now) {}
    }

    pub(super) fn value(&mut self, now: Now, key_bytes: &[u8]) -> Option<Vec<u8>> {
        match self.holder.on_find(now, HERE, &find(key_bytes)) {
            Finding::Nowhere(_) => None,
            Finding::Answer(answer) => match Ack::parse(&answer.payload).unwrap() {
                Ack::Value(found) => Some(found.value.bytes().to_vec()),
                other => panic!("{other}"),
            },
        }
    }

    /// A holder that begins anew with what is on this one's disk.
    pub(super) fn restart(&mut self, setup: Setup, now: Now) -> Restored {
        self.holder = Holder::new(setup, now);
        self.writes.clear();
        self.answers.clear();
        self.holder.restore(now, self.disk.iter().map(|(key, value)| (&key[..], &value[..])))
    }
}

pub(super) fn apply_rows(disk: &mut BTreeMap<Vec<u8>, Vec<u8>>, rows: &[DiskRow]) {
    for row in rows {
        match &row.value {
            Some(value) => disk.insert(row.key.clone(), value.clone()),
            None => disk.remove(&row.key),
        };
    }
}

/// Why not; none: it was done.
pub(super) fn reason(answer: &Answer) -> Option<Reason> {
    if answer.is_ack {
        assert!(matches!(Ack::parse(&answer.payload).unwrap(), Ack::Stored(..)));
        return None;
    }
    match Nack::parse(&answer.payload).unwrap() {
        Nack::Store(StoreNack { reason, .. }) | Nack::Plain(Operation::FindValue, reason) => Some(reason),
        other => panic!("{other}"),
    }
}
