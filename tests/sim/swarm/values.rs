//! Seeds of values: clients write and read one register, fight for one lease and count up values of their own, while holders stop, come back, stand still, are
//! cut off or are replaced for good; then peace, in which everybody can decide again.
//!
//! In:    a seed.
//! Out:   what was played, or a panic when somebody was told what no single register could have told (I9), or less than was acknowledged before (I8).
//! Holds: clients stop, too: what they had under way may have been done or not. Disks keep what they confirmed.

use core::time::Duration;
use std::collections::BTreeMap;

use dunlin_codec::args::{LeaseAction, Reason};
use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::Encoded;
use dunlin_shards::dht::values::decision::{Decided, Edit, Expectation, What};
use dunlin_shards::dht::values::get::Got;
use dunlin_shards::dht::values::{DecideWish, GetWish, PutWish, State, value_hash};
use dunlin_shards::neighbours::Notice;
use dunlin_shards::rng::Rng;

use crate::history::{History, Leases};
use crate::link::Conditions;
use crate::node::NodeSettings;
use crate::place::NodeIndex;
use crate::world::{Scope, Trouble, World};

use super::play::Played;

const STEP: Duration = Duration::from_millis(100);
const STEPS: usize = 600;
const CLIENTS: usize = 3;
/// How often somebody tries in peace, each time for so long.
const PEACE_TRIES: usize = 6;
const PEACE_WAIT: Duration = Duration::from_secs(20);
/// How long a record lasts: longer than any seed.
const LIFE: Duration = Duration::from_secs(24 * 3_600);
const NIL: &[u8] = &[0xc0];

/// What a client has under way.
#[derive(Debug)]
enum Doing {
    Reading,
    Writing {
        version: u64,
        value: Vec<u8>,
    },
    Acquiring,
    Releasing,
    /// It writes what the lease guards, under the last token that it was given, whether or not that is still its own.
    Guarding(u64),
    /// It puts this number as its own value.
    Putting(u64),
    /// It reads another's own value, of which so much had been acknowledged when it asked.
    Looking {
        floor: u64,
    },
}

impl Doing {
    /// A client has one thing of each of these under way.
    const fn place(&self) -> usize {
        match self {
            Self::Reading | Self::Writing { .. } => 0,
            Self::Acquiring | Self::Releasing => 1,
            Self::Putting(_) => 2,
            Self::Looking { .. } => 3,
            Self::Guarding(_) => 4,
        }
    }
}

struct Client {
    node: NodeIndex,
    /// What it saw last of the register: version and value.
    seen: (u64, Vec<u8>),
    token: u64,
    /// Its own value: what a majority acknowledged, and what it wrote last.
    kept: u64,
    written: u64,
}

struct Game {
    world: World,
    chance: Rng,
    count: usize,
    /// Those that are to be up, and when each comes back that is not.
    nodes: Vec<NodeIndex>,
    down: BTreeMap<NodeIndex, usize>,
    replaced: usize,
    clients: Vec<Client>,
    /// By client and ticket: what, and since when.
    open: BTreeMap<(usize, u64), (Doing, u64)>,
    tickets: u64,
    history: History,
    leases: Leases,
}

/// A str in msgpack.
fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 32);
    [&[0xa0 | text.len() as u8], text.as_bytes()].concat()
}

/// Plays a seed.
pub(super) fn play(seed: u64) -> Played {
    let mut game = Game::new(seed);
    for step in 0..STEPS {
        game.befall(step);
        for client in 0..CLIENTS {
            game.work(client);
        }
        game.world.run_for(STEP);
        game.listen();
    }
    game.make_peace();
    assert!(game.history.versions() > 2, "values: nothing was ever decided");
    Played::of(&game.world)
}

impl Game {
    fn new(seed: u64) -> Self {
        let mut world = World::from_seed(seed);
        world.keeps_received = false;
        let mut chance = world.split_chance();
        let count = 5 + chance.below(8) as usize;
        let client = |at: usize| Client {
            node: NodeIndex(at),
            seen: (0, NIL.to_vec()),
            token: 0,
            kept: 0,
            written: 0,
        };
        let mut game = Self {
            world,
            chance,
            count,
            nodes: Vec::new(),
            down: BTreeMap::new(),
            replaced: 0,
            clients: (0..CLIENTS).map(client).collect(),
            open: BTreeMap::new(),
            tickets: 0,
            history: History::default(),
            leases: Leases::default(),
        };
        for _ in 0..count {
            game.add_node();
            game.world.run_for(Duration::from_millis(200));
        }
        game.world.run_for(Duration::from_secs(30));
        let (loss, jitter) = (game.chance.below(40) as u32, Duration::from_millis(game.chance.below(20)));
        game.world.everywhere(|conditions| {
            conditions.loss_permille = loss;
            conditions.jitter = jitter;
        });
        game
    }

    fn add_node(&mut self) {
        let shards = 1 + self.chance.below(3) as usize;
        let node = self.world.add_node_with(NodeSettings { shards, ..NodeSettings::default() });
        self.world.node_mut(node).clock.drift_ppm = self.chance.below(40_000) as i64 - 20_000;
        self.world.talk(node, |_| {});
        self.meet(node);
        self.nodes.push(node);
    }

    /// A node is told of another that is up.
    fn meet(&mut self, node: NodeIndex) {
        let others: Vec<NodeIndex> = self
            .nodes
            .iter()
            .filter(|other| **other != node && !self.down.contains_key(other))
            .copied()
            .collect();
        if !others.is_empty() {
            let other = others[self.chance.below(others.len() as u64) as usize];
            self.world.join_network(node, other);
        }
    }

    fn now(&self) -> u64 {
        self.world.now().as_nanos() as u64
    }

    fn any_node(&mut self) -> NodeIndex {
        self.nodes[self.chance.below(self.nodes.len() as u64) as usize]
    }

    fn time(&mut self, millis_max: u64) -> Duration {
        Duration::from_millis(500 + self.chance.below(millis_max))
    }

    fn befall(&mut self, step: usize) {
        let back: Vec<NodeIndex> =
            self.down.iter().filter(|(_, at)| **at <= step).map(|(node, _)| *node).collect();
        back.into_iter().for_each(|node| self.bring_back(node));
        if !self.chance.once_in(15) {
            return;
        }
        let (node, time) = (self.any_node(), self.time(15_000));
        match self.chance.below(8) {
            0 | 1 => {
                let inside = self.nodes.clone().into_iter().filter(|_| self.chance.once_in(3)).collect();
                self.world.trouble(Scope::Border(inside), Trouble::Cut, time);
            }
            2 => {
                let inside = self.nodes.clone().into_iter().filter(|_| self.chance.once_in(3)).collect();
                self.world.trouble(Scope::OneWayBorder(inside), Trouble::Cut, time);
            }
            3 => self.world.trouble(Scope::Around(node), Trouble::Loss(400), time),
            4 => self.world.pause(node, time),
            5 if self.replaced < self.count / 4 && self.down.is_empty() => self.replace(node),
            _ if !self.down.contains_key(&node) && self.down.len() < self.count / 2 => {
                self.stop(node);
                self.down.insert(node, step + time.as_millis() as usize / STEP.as_millis() as usize);
            }
            _ => {}
        }
    }

    fn stop(&mut self, node: NodeIndex) {
        self.world.crash(node);
        if let Some(at) = self.clients.iter().position(|client| client.node == node) {
            self.open.retain(|(client, _), _| *client != at);
            self.leases.on_gone(at);
            self.clients[at].token = 0;
        }
    }

    fn bring_back(&mut self, node: NodeIndex) {
        self.down.remove(&node);
        self.world.start(node);
        self.world.talk(node, |_| {});
        self.meet(node);
    }

    /// One that is no client goes for good, and a newcomer comes in its place.
    fn replace(&mut self, node: NodeIndex) {
        if node.0 >= CLIENTS {
            self.replaced += 1;
            self.world.retire(node);
            self.nodes.retain(|other| *other != node);
            self.add_node();
        }
    }

    fn begin(&mut self, client: usize, doing: Doing) -> (NodeIndex, u64) {
        self.tickets += 1;
        let now = self.now();
        self.open.insert((client, self.tickets), (doing, now));
        (self.clients[client].node, self.tickets)
    }

    fn is_idle(&self, client: usize, place: usize) -> bool {
        !self.open.iter().any(|((at, _), (doing, _))| *at == client && doing.place() == place)
    }

    fn work(&mut self, client: usize) {
        if self.down.contains_key(&self.clients[client].node) {
            return;
        }
        if self.is_idle(client, 0) && self.chance.once_in(6) {
            if self.chance.once_in(3) { self.read(client) } else { self.write(client) }
        }
        if self.is_idle(client, 1) && self.chance.once_in(10) {
            self.fight(client);
        }
        if self.is_idle(client, 2) && self.chance.once_in(20) {
            self.count_up(client);
        }
        if self.is_idle(client, 3) && self.chance.once_in(30) {
            self.look(client);
        }
        if self.is_idle(client, 4) && self.clients[client].token != 0 && self.chance.once_in(20) {
            self.guard(client);
        }
    }

    fn decide(
        &mut self,
        (node, ticket): (NodeIndex, u64),
        (key, token): (&str, u64),
        what: Option<(What, Option<Expectation>)>,
    ) {
        let key = text(key);
        let edits =
            what.map(|(what, expected)| Edit { key: key.clone(), expected, what }).into_iter().collect();
        let wish = DecideWish { key, edits, owner: None, leaves: Vec::new(), token, life: LIFE };
        self.world.decide(node, ticket, wish);
    }

    fn read(&mut self, client: usize) {
        let job = self.begin(client, Doing::Reading);
        self.decide(job, ("register", 0), None);
    }

    fn write(&mut self, client: usize) {
        let (sequence, seen) = self.clients[client].seen.clone();
        let value = text(&format!("{client} wrote {}", self.tickets));
        let job = self.begin(client, Doing::Writing { version: sequence + 1, value: value.clone() });
        let value_hash = value_hash(Encoded::parse(&seen).expect("it was read"));
        self.decide(
            job,
            ("register", 0),
            Some((What::Set(value), Some(Expectation { sequence, value_hash }))),
        );
    }

    /// It takes the lease, or gives it back now and then.
    fn fight(&mut self, client: usize) {
        let (now, token) = (self.now(), self.clients[client].token);
        let (action, token, doing) = if !self.leases.is_held(client, now) {
            (LeaseAction::Acquire, 0, Doing::Acquiring)
        } else if self.chance.once_in(4) {
            self.leases.on_gone(client);
            (LeaseAction::Release, token, Doing::Releasing)
        } else {
            return;
        };
        let lasts = Duration::from_secs(2 + self.chance.below(8));
        let job = self.begin(client, doing);
        self.decide(job, ("lock", 0), Some((What::Lease { action, lasts, token }, None)));
    }

    fn guard(&mut self, client: usize) {
        let token = self.clients[client].token;
        let job = self.begin(client, Doing::Guarding(token));
        let value = text(&format!("{client} guards"));
        self.decide(job, ("lock", token), Some((What::Set(value), None)));
    }

    fn own_key(client: usize) -> Vec<u8> {
        text(&format!("own {client}"))
    }

    fn owner(&self, client: usize) -> Option<NodeId> {
        Some(self.world.id(self.clients[client].node))
    }

    fn count_up(&mut self, client: usize) {
        self.clients[client].written += 1;
        let number = self.clients[client].written;
        let (node, ticket) = self.begin(client, Doing::Putting(number));
        let value = text(&format!("{number:06}"));
        let wish =
            PutWish { key: Self::own_key(client), value, owner: self.owner(client), leave: None, life: LIFE };
        self.world.put(node, ticket, wish);
    }

    /// With an answer of so many that one of them is of those that acknowledged.
    fn look(&mut self, client: usize) {
        let other = (client + 1) % CLIENTS;
        let (owner, quorum) = (self.owner(other), Some(self.count / 2 + 1));
        let (node, ticket) = self.begin(client, Doing::Looking { floor: self.clients[other].kept });
        self.world.get(node, ticket, GetWish { key: Self::own_key(other), owner, quorum });
    }

    fn listen(&mut self) {
        for client in 0..CLIENTS {
            let node = self.clients[client].node;
            if self.down.contains_key(&node) {
                continue;
            }
            for notice in self.world.notices(node) {
                let (Notice::Stored { ticket, .. }
                | Notice::Read { ticket, .. }
                | Notice::Decided { ticket, .. }) = &notice
                else {
                    continue;
                };
                let (doing, since) = self.open.remove(&(client, ticket.0)).expect("values: it is told once");
                let now = self.now();
                self.end(client, doing, (since, now), &notice);
            }
        }
    }

    fn end(&mut self, client: usize, doing: Doing, span: (u64, u64), notice: &Notice) {
        match (doing, notice) {
            // So many of all holders, whoever was found: then any majority has one of them.
            (Doing::Putting(number), Notice::Stored { result: Ok(stored), .. })
                if stored.kept > self.count / 2 && self.replaced == 0 =>
            {
                let kept = &mut self.clients[client].kept;
                *kept = number.max(*kept);
            }
            (Doing::Looking { floor }, Notice::Read { result: Ok(Got::Found { cell, .. }), .. }) => {
                let digits = core::str::from_utf8(&cell.value[1..]).expect("it is text");
                let value: u64 = digits.parse().expect("it is a number");
                assert!(value >= floor || self.replaced > 0, "I8: {value} after {floor} was acknowledged");
            }
            (doing, Notice::Decided { result: Ok(decided), .. }) => {
                self.on_decided(client, doing, span, decided)
            }
            _ => {}
        }
    }

    fn on_decided(&mut self, client: usize, doing: Doing, span: (u64, u64), decided: &Decided) {
        match (decided, doing) {
            (Decided::Done { state, .. }, Doing::Writing { version, value }) => {
                self.history.on_told(span, version, &value);
                self.history.on_written(client, version);
                assert_eq!(version_in(state), (version, value.clone()), "I9: what was written is there");
                self.clients[client].seen = (version, value);
            }
            (Decided::Done { state, .. }, Doing::Reading)
            | (Decided::Refused { state, reason: Reason::Mismatch }, Doing::Writing { .. }) => {
                let (version, value) = version_in(state);
                self.history.on_told(span, version, &value);
                self.clients[client].seen = (version, value);
            }
            (Decided::Done { token, held_until, .. }, Doing::Acquiring) => {
                let node = self.clients[client].node;
                let until = self.world.node(node).clock.world_time(*held_until);
                self.clients[client].token = *token;
                self.leases.on_granted(client, span, *token, until);
            }
            (Decided::Done { .. }, Doing::Guarding(token)) => self.leases.on_used(span, token),
            (Decided::Refused { .. }, Doing::Acquiring | Doing::Releasing | Doing::Guarding(_))
            | (Decided::Done { .. }, Doing::Releasing)
            | (Decided::Unknown | Decided::Unreached, _) => {}
            (other, doing) => panic!("values: {doing:?} ends with {other:?}"),
        }
    }

    /// Whoever is left decides again, and all read the same.
    fn make_peace(&mut self) {
        self.world.clear_up(Conditions::default());
        let down: Vec<NodeIndex> = self.down.keys().copied().collect();
        down.into_iter().for_each(|node| self.bring_back(node));
        self.world.run_for(Duration::from_secs(60));
        self.listen();
        for client in 0..CLIENTS {
            let is_done = (0..PEACE_TRIES).any(|_| self.is_written_in_peace(client));
            assert!(is_done, "values: client {client} cannot decide in peace");
        }
        (0..CLIENTS).for_each(|client| self.read(client));
        self.world.run_for(PEACE_WAIT);
        self.listen();
        let (version, value) = self.clients[0].seen.clone();
        let is_same = |client: &Client| client.seen == (version, value.clone());
        assert!(self.clients.iter().all(is_same), "values: all read the same in peace");
    }

    fn is_written_in_peace(&mut self, client: usize) -> bool {
        let before = self.history.writes();
        self.write(client);
        self.world.run_for(PEACE_WAIT);
        self.listen();
        self.history.writes() > before
    }
}

fn version_in(state: &State) -> (u64, Vec<u8>) {
    state.get(&text("register")).map_or((0, NIL.to_vec()), |cell| {
        (cell.record().map_or(0, |record| record.fields.sequence), cell.value.to_vec())
    })
}
