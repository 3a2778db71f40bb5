//! Reading: what enough holders over disjoint paths agree on.
//!
//! In:    the holders and the path on which each was found, their answers.
//! Out:   questions; the value; stores that repair holders which lag, and one copy beside the path.
//! Holds: every record is checked, an answer with a bad one is none. Whoever is lied to on one path is not lied to on three.
//!
//! What is not there is known once all have spoken.
//!
//! A record by the owner that the reader asks for speaks for itself: the newest wins. Else it counts what more than half of
//! those who have any value say, found over three paths, or more than half of those that there are: of an owned key the
//! owner, whose newest record then wins; of one that is nobody's the value itself.
//!
//! spec: p2p/get

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_codec::args::{Ack, FindValue, Found, Request, Store, StoreOptions};
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::message::Operation;
use dunlin_codec::record::{Key, NOBODY};

use super::asking::Asking;
use super::check::{check_signed, check_time};
use super::plain::rank;
use super::state::Cell;
use super::{Answer, Question, SMALL_LEN_MAX, VALUED_LEN_MAX, address, encode, majority};
use crate::identity::chain::Kin;
use crate::limits::AGREEMENT_PATHS;
use crate::mutants::{Mutant, planted};
use crate::time::WallMillis;

/// What is read, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The network.
    pub network: Network,
    /// The key's bytes.
    pub key: Vec<u8>,
    /// Which keys became which.
    pub kin: Kin,
    /// Whose it must be; none: whoever's it is by agreement.
    pub owner: Option<NodeId>,
    /// How many holders must answer; none: more than half.
    pub quorum: Option<usize>,
    /// The time, for records.
    pub now: WallMillis,
    /// A node close to the holders that is to keep a copy.
    pub cache_at: Option<NodeId>,
}

/// What was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Got {
    /// This; a value of nil was deleted.
    Found {
        /// Value, record and lease.
        cell: Cell,
        /// Holders that say the same.
        support: usize,
    },
    /// Nobody has it.
    Nothing,
    /// Holders have so many different ones, and none of them enough.
    Disagreement(usize),
    /// Too few have answered.
    TooFew,
}

/// Who says so, and what.
type Vote<'a> = (&'a NodeId, &'a Cell);

/// A read under way.
#[derive(Debug)]
pub struct Get {
    plan: Plan,
    paths: BTreeMap<NodeId, usize>,
    arguments: Vec<u8>,
    asking: Asking,
    /// Stores that repair: for whom, and what.
    repairs: VecDeque<(NodeId, Vec<u8>)>,
    /// None: it has nothing.
    told: BTreeMap<NodeId, Option<Cell>>,
    got: Option<Got>,
}

impl Get {
    /// Reads from these holders, each with the number of the path on which it was found: `Lookup::closest_by_path`.
    ///
    /// # Panics
    /// When the plan's key is none.
    #[must_use]
    pub fn new(plan: Plan, holders: impl IntoIterator<Item = (NodeId, usize)>) -> Self {
        let key = Key::parse(&plan.key).ok().flatten().expect("the caller has a key");
        let find = FindValue { address: address(&key), key };
        let arguments = encode(SMALL_LEN_MAX, |out| Request::FindValue(find).write(out));
        let paths: BTreeMap<NodeId, usize> = holders.into_iter().collect();
        let asking = Asking::new(paths.keys().copied());
        let got = paths.is_empty().then_some(Got::TooFew);
        let (repairs, told) = (VecDeque::new(), BTreeMap::new());
        Self { plan, paths, arguments, asking, repairs, told, got }
    }

    /// The next node to be asked.
    pub fn poll_question(&mut self) -> Option<Question> {
        if self.got.is_some() {
            let (to, arguments) = self.repairs.pop_front()?;
            let number = self.asking.open_one(to);
            return Some(Question { number, to, operation: Operation::Store, arguments });
        }
        let (number, to) = self.asking.next()?;
        Some(Question { number, to, operation: Operation::FindValue, arguments: self.arguments.clone() })
    }

    /// A node answered.
    pub fn on_answer(&mut self, number: u64, answer: &Answer) {
        let Some(from) = self.asking.end(number).filter(|_| self.got.is_none()) else { return };
        if let Some(told) = self.read(answer) {
            self.told.insert(from, told);
        }
        self.conclude();
    }

    /// A node did not answer.
    pub fn on_failure(&mut self, number: u64) {
        if self.asking.end(number).is_some() && self.got.is_none() {
            self.conclude();
        }
    }

    /// Nobody waits any longer: what was told so far counts.
    pub fn give_up(&mut self) {
        self.asking.restart([]);
        if self.got.is_none() {
            self.conclude();
        }
    }

    /// What an answer says; none: it is not to be believed.
    fn read(&self, answer: &Answer) -> Option<Option<Cell>> {
        let Found { key, value, metadata } =
            match Ack::parse(&answer.payload).ok().filter(|_| answer.is_ack)? {
                Ack::Nodes(_) => return Some(None),
                Ack::Value(found) => found,
                _ => return None,
            };
        if key.bytes() != self.plan.key {
            return None;
        }
        if let Some(record) = &metadata.record {
            check_time(record, self.plan.now).ok()?;
            check_signed(record, value, &self.plan.network).ok()?;
            if record.fields.key != key {
                return None;
            }
        }
        Some(Some(Cell {
            value: value.bytes().into(),
            record: metadata.record.map(|record| record.bytes().into()),
            lease: metadata.lease,
            left_ms: 0,
        }))
    }

    fn conclude(&mut self) {
        let is_over = self.asking.is_over();
        let quorum = self.plan.quorum.unwrap_or(majority(self.paths.len()));
        let is_enough = self.told.len() >= quorum;
        let voters = self.told.values().flatten().count();
        let agreed = self.agreed();
        // Half of the closest may have come since the value was stored: as long as somebody may still speak, those who have
        // nothing, and one who has something while they do not, say little.
        let is_clear =
            matches!(agreed, Ok(Got::Found { .. })) && (voters >= quorum || self.plan.owner.is_some());
        let got = match agreed {
            Ok(got) if is_enough && (is_clear || is_over) => got,
            _ if !is_over => return,
            _ if !is_enough => Got::TooFew,
            Ok(got) => got,
            Err(candidates) => Got::Disagreement(candidates),
        };
        if let Got::Found { cell, .. } = &got {
            self.repairs = self.repairs_for(cell);
        }
        self.got = Some(got);
    }

    /// What those who answered so far agree on; else how many different values there are.
    fn agreed(&self) -> Result<Got, usize> {
        let told: Vec<Vote<'_>> =
            self.told.iter().filter_map(|(node, cell)| Some((node, cell.as_ref()?))).collect();
        let kin = &self.plan.kin;
        let owner_of = |cell: &Cell| cell.record().map_or(NOBODY, |record| kin.present(&record.fields.owner));
        if let Some(owner) = self.plan.owner.map(|owner| kin.present(&owner)) {
            let of_owner: Vec<_> = told.iter().filter(|(_, cell)| owner_of(cell) == owner).copied().collect();
            return Ok(newest(&of_owner).map_or(Got::Nothing, |cell| found(cell, &of_owner)));
        }
        let voters = told.len();
        if voters == 0 {
            return Ok(Got::Nothing);
        }
        let paths_of = |nodes: &[Vote<'_>]| {
            nodes.iter().filter_map(|(node, _)| self.paths.get(*node)).collect::<BTreeSet<_>>().len()
        };
        let paths = majority(paths_of(&told)).min(AGREEMENT_PATHS);
        let mut camps: BTreeMap<(NodeId, &[u8]), Vec<Vote<'_>>> = BTreeMap::new();
        for (node, cell) in told {
            let owner = owner_of(cell);
            let same = if owner == NOBODY { &cell.value[..] } else { &[] };
            camps.entry((owner, same)).or_default().push((node, cell));
        }
        let is_enough = |camp: &&Vec<Vote<'_>>| 2 * camp.len() > voters && paths_of(camp) >= paths;
        let camp = camps.values().find(is_enough).ok_or(camps.len())?;
        newest(camp).map(|cell| found(cell, camp)).ok_or(camps.len())
    }

    /// Stores for those who answered and have less, and for whoever keeps a copy.
    fn repairs_for(&self, newest: &Cell) -> VecDeque<(NodeId, Vec<u8>)> {
        let (Some(record), Some(key)) = (newest.record(), Key::parse(&self.plan.key).ok().flatten()) else {
            return VecDeque::new();
        };
        let store = |to: NodeId, is_cache| {
            let options = StoreOptions { record: Some(record), is_cache, ..StoreOptions::default() };
            let store = Store { address: address(&key), key, value: newest.value(), options };
            (to, encode(VALUED_LEN_MAX, |out| Request::Store(store).write(out)))
        };
        let lags = |cell: &Option<Cell>| cell.as_ref().is_none_or(|cell| cell.record != newest.record);
        let stale = self.told.iter().filter(|(_, cell)| lags(cell)).map(|(node, _)| store(*node, false));
        stale.chain(self.plan.cache_at.map(|node| store(node, true))).collect()
    }

    /// What was read. Questions may be left: stores that repair.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Got> {
        self.got.as_ref()
    }
}

/// The one that replaces all others.
fn newest<'a>(camp: &[Vote<'a>]) -> Option<&'a Cell> {
    let mut best: Option<&'a Cell> = None;
    for (_, cell) in camp {
        let is_newer = match (best.and_then(Cell::record), cell.record()) {
            (Some(best), Some(cell)) if planted(Mutant::NewestNotTaken) => {
                rank(&cell.fields) < rank(&best.fields)
            }
            (Some(best), Some(cell)) => rank(&cell.fields) > rank(&best.fields),
            (None, Some(_)) => true,
            (_, None) => best.is_none(),
        };
        if is_newer {
            best = Some(cell);
        }
    }
    best
}

fn found(cell: &Cell, camp: &[Vote<'_>]) -> Got {
    let is_same = |other: &Cell| other.value == cell.value && other.record == cell.record;
    Got::Found { cell: cell.clone(), support: camp.iter().filter(|(_, other)| is_same(other)).count() }
}
