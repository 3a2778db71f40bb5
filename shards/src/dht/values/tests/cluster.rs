//! Holders and proposers in memory: a wire that loses, repeats and delays, disks that are slow, holders that crash with writes
//! undone or torn and come back with what is on disk, holders that leave for new ones. The same seed, the same run.

mod churn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dunlin_codec::ids::NodeId;
use dunlin_codec::record::NOBODY;

use super::super::decision::{Decided, Decision, Edit, Proposer};
use super::super::survey::{Survey, Surveyed};
use super::super::*;
use super::kit::*;
use crate::identity::Identity;
use crate::rng::Rng;
use crate::time::{Instant, Now, WallMillis};
use churn::{elsewhere, memberless};

/// What may go wrong, and what is built wrongly on purpose.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) loss_permille: u64,
    pub(super) twice_permille: u64,
    pub(super) crashes: bool,
    pub(super) changes: bool,
    /// Acknowledges before the disk has written.
    pub(super) is_hasty: bool,
    /// Comes back from a crash with an empty disk, as the same holder.
    pub(super) forgets: bool,
    /// Proposers count two of four holders as all of them, and ask nobody else.
    pub(super) is_split: bool,
    /// How many holders there are; 0: four.
    pub(super) holders: usize,
    /// Some holders cannot be reached by some clients, and for a while the one half cannot reach the other.
    pub(super) is_cut_up: bool,
    /// Members are told to nobody, and only who was found is known: majorities that need not overlap.
    pub(super) is_loose: bool,
    /// The write, counted over all disks, at which all holders lose their power at once; 0: none.
    pub(super) power_cut_at: u64,
}

pub(super) struct Node {
    identity: Identity,
    holder: Holder,
    pub(super) disk: BTreeMap<Vec<u8>, Vec<u8>>,
    queue: VecDeque<(u64, Vec<DiskRow>)>,
    is_up: bool,
    is_gone: bool,
    epoch: u32,
    /// How fast its clock is, in thousandths.
    rate: u64,
    disk_free_at: u64,
}

/// What runs for a client, or for a holder that settles.
enum Task {
    Decision(Box<Decision>),
    Survey(Box<Survey>),
}

#[derive(Debug)]
pub(super) enum Ended {
    Decided(Decided),
    Surveyed(Option<Surveyed>),
}

struct Running {
    task: Task,
    who: NodeId,
    rate: u64,
    /// The holder that it settles, and its register.
    settles: Option<(usize, Vec<u8>)>,
    wake_at: Option<u64>,
}

enum Happening {
    Ask { task: u64, question: Question },
    Reply { task: u64, number: u64, answer: Answer },
    Silence { task: u64, number: u64 },
    Wake { task: u64 },
    Disk { node: usize, epoch: u32 },
    Trouble,
    Restart { node: usize },
    Change,
    Tick,
}

pub(super) struct Cluster {
    pub(super) rng: Rng,
    pub(super) micros: u64,
    pub(super) weather: Weather,
    pub(super) nodes: Vec<Node>,
    pub(super) members: Vec<usize>,
    happenings: BTreeMap<(u64, u64), Happening>,
    numbers: u64,
    tasks: BTreeMap<u64, Running>,
    asked: BTreeMap<u64, (u64, u64)>,
    pub(super) ended: VecDeque<(u64, Ended)>,
    writes: u64,
    /// All holders have lost their power, and the proposers with them.
    pub(super) is_cut: bool,
    pub(super) changes: usize,
    pub(super) crashes: usize,
    /// Keys whose registers a new holder settles before the next one comes.
    pub(super) keys: Vec<Vec<u8>>,
    /// Who is on the one side while the network is in two.
    side: Option<BTreeSet<NodeId>>,
    /// Who cannot reach whom.
    blind: BTreeSet<(NodeId, NodeId)>,
    pub(super) partitions: usize,
    /// Who asks.
    clients: BTreeSet<NodeId>,
    /// Nobody is cut off any more.
    is_calm: bool,
}

impl Weather {
    const fn count(self) -> usize {
        if self.holders == 0 { 4 } else { self.holders }
    }
}

const LIFE: core::time::Duration = core::time::Duration::from_secs(24 * 3600);

/// How fast a client's clock is, in thousandths.
pub(super) fn rate_of(client: &Identity) -> u64 {
    960 + u64::from(client.id().0[0]) % 81
}

fn proposer(client: &Identity, token: u64) -> Proposer {
    Proposer {
        kin: crate::identity::chain::Kin::default(),
        identity: client.clone(),
        network: NETWORK,
        owner: NOBODY,
        leaves: Vec::new(),
        token,
        life: LIFE,
    }
}

impl Cluster {
    pub(super) fn new(seed: u64, weather: Weather, keys: &[Vec<u8>]) -> Self {
        let mut this = Self {
            rng: Rng::from_number(seed),
            micros: 1_000,
            weather,
            nodes: Vec::new(),
            members: Vec::new(),
            happenings: BTreeMap::new(),
            numbers: 0,
            tasks: BTreeMap::new(),
            asked: BTreeMap::new(),
            ended: VecDeque::new(),
            writes: 0,
            is_cut: false,
            changes: 0,
            crashes: 0,
            keys: keys.to_vec(),
            side: None,
            blind: BTreeSet::new(),
            partitions: 0,
            clients: BTreeSet::new(),
            is_calm: false,
        };
        this.members = (0..weather.count()).map(|_| this.add_node()).collect();
        this.happen(100_000, Happening::Trouble);
        this.happen(150_000, Happening::Change);
        this.happen(500_000, Happening::Tick);
        this
    }

    fn add_node(&mut self) -> usize {
        let number = 100 + self.nodes.len() as u8;
        let identity = identity(number);
        let rate = 960 + self.rng.below(81);
        let holder = Holder::new(setup(number), self.now(rate));
        self.nodes.push(Node {
            identity,
            holder,
            disk: BTreeMap::new(),
            queue: VecDeque::new(),
            is_up: true,
            is_gone: false,
            epoch: 0,
            rate,
            disk_free_at: 0,
        });
        self.nodes.len() - 1
    }

    fn now(&self, rate: u64) -> Now {
        let wall = WallMillis(START + self.micros / 1_000);
        Now { instant: Instant::from_nanos(self.micros * rate), wall }
    }

    fn happen(&mut self, after: u64, what: Happening) {
        self.numbers += 1;
        self.happenings.insert((self.micros + after, self.numbers), what);
    }

    /// Over the wire: late, twice, or never.
    fn carry(&mut self, what: impl Fn() -> Happening) {
        let copies = if self.rng.below(1_000) < self.weather.twice_permille { 2 } else { 1 };
        for _ in 0..copies {
            let delay = 200 + self.rng.below(8_000);
            if self.rng.below(1_000) >= self.weather.loss_permille {
                self.happen(delay, what());
            }
        }
    }

    fn id(&self, node: usize) -> NodeId {
        self.nodes[node].identity.id()
    }

    /// A client's clock may be 4 % off as well.
    fn begin(&mut self, task: Task, (who, settles): (NodeId, Option<(usize, Vec<u8>)>), rate: u64) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        self.tasks.insert(number, Running { task, who, rate, settles, wake_at: None });
        self.pump(number);
        number
    }

    pub(super) fn decide(&mut self, client: &Identity, (key, edits): (&[u8], Vec<Edit>), token: u64) -> u64 {
        let rate = rate_of(client);
        let proposer = proposer(client, token);
        let rng = Rng::from_number(self.rng.next_u64());
        self.clients.insert(client.id());
        let (holders, now) = (self.holders(&client.id()), self.now(rate));
        let decision = Decision::new(proposer, holders, (key.to_vec(), edits), (now, rng));
        self.begin(Task::Decision(Box::new(decision)), (client.id(), None), rate)
    }

    pub(super) fn survey(&mut self, client: &Identity, key: &[u8]) -> u64 {
        self.clients.insert(client.id());
        let holders = self.holders(&client.id());
        self.begin(Task::Survey(Box::new(Survey::new((key, NETWORK), holders))), (client.id(), None), 1_000)
    }

    fn settle(&mut self, node: usize, (scope, key): (Vec<u8>, &[u8])) {
        let own = self.id(node);
        let holders = self.holders(&own);
        let survey = Survey::to_settle((key, NETWORK), &own, holders);
        self.begin(Task::Survey(Box::new(survey)), (own, Some((node, scope))), 1_000);
    }

    /// A member brings what was decided to the members that there are.
    fn refresh(&mut self, node: usize, key: &[u8]) {
        let identity = self.nodes[node].identity.clone();
        let (own, rate) = (identity.id(), self.nodes[node].rate);
        let (holders, now) = (self.holders(&own), self.now(rate));
        let rng = Rng::from_number(self.rng.next_u64());
        let decision = Decision::refresh(proposer(&identity, 0), holders, key.to_vec(), (now, rng));
        self.begin(Task::Decision(Box::new(decision)), (own, Some((node, Vec::new()))), rate);
    }

    /// Asks what a task wants asked, and notes its end.
    fn pump(&mut self, number: u64) {
        while let Some(running) = self.tasks.get_mut(&number) {
            let question = match &mut running.task {
                Task::Decision(decision) => decision.poll_question(),
                Task::Survey(survey) => survey.poll_question(),
            };
            let Some(question) = question else { break };
            self.happen(120_000, Happening::Silence { task: number, number: question.number });
            self.carry(|| Happening::Ask { task: number, question: question.clone() });
        }
        let micros = self.micros;
        let Some(running) = self.tasks.get_mut(&number) else { return };
        let ended = match &running.task {
            Task::Decision(decision) => decision.outcome().cloned().map(Ended::Decided),
            Task::Survey(survey) => {
                let outcome = survey.outcome();
                (outcome.is_some() || survey.is_over()).then_some(Ended::Surveyed(outcome))
            }
        };
        let wake_at = match &running.task {
            Task::Decision(decision) => decision.poll_timeout().map(|at| at.as_nanos() / running.rate + 1),
            Task::Survey(_) => None,
        };
        let is_new = wake_at.is_some() && wake_at != running.wake_at;
        running.wake_at = wake_at;
        if let Some(ended) = ended {
            let running = self.tasks.remove(&number).unwrap();
            self.end(number, running, ended);
        } else if let Some(at) = wake_at.filter(|_| is_new) {
            self.happen(at.saturating_sub(micros), Happening::Wake { task: number });
        }
    }

    fn end(&mut self, number: u64, running: Running, ended: Ended) {
        let Some((node, scope)) = running.settles else {
            return self.ended.push_back((number, ended));
        };
        match ended {
            Ended::Surveyed(Some(surveyed)) if self.nodes[node].is_up => {
                let now = self.now(self.nodes[node].rate);
                self.nodes[node].holder.on_settled(now, &scope, &surveyed);
                self.drain(node);
            }
            _ => {}
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].holder.poll_action() {
            match action {
                Action::Write { ticket, rows } => self.write(node, ticket, rows),
                Action::Answer { to, answer } => {
                    if let Some((task, number)) = self.asked.remove(&to.request)
                        && self.tasks.get(&task).is_some_and(|it| !self.is_cut_off(&it.who, &self.id(node)))
                    {
                        let answer = if self.weather.is_loose { memberless(answer) } else { answer };
                        self.carry(|| Happening::Reply { task, number, answer: answer.clone() });
                    }
                }
                Action::Settle { scope, key } => self.settle(node, (scope, &key)),
                Action::Refresh { key } => self.refresh(node, &key),
                Action::Republish { .. } | Action::Changed { .. } | Action::Leased { .. } => {}
            }
        }
    }

    fn write(&mut self, node: usize, ticket: u64, rows: Vec<DiskRow>) {
        // Whoever does not wait for the disk does not see how slow it is.
        let slowness = if self.weather.is_hasty { 50 } else { 1 };
        let takes = slowness * (100 + self.rng.below(6_000));
        let owner = &mut self.nodes[node];
        owner.queue.push_back((ticket, rows));
        owner.disk_free_at = owner.disk_free_at.max(self.micros) + takes;
        let (after, epoch) = (owner.disk_free_at - self.micros, owner.epoch);
        self.happen(after, Happening::Disk { node, epoch });
        if self.weather.is_hasty && !self.is_cut_now() {
            let now = self.now(self.nodes[node].rate);
            self.nodes[node].holder.on_written(now, ticket, true);
        }
    }

    /// Whether this write is the one at which all holders and proposers lose their power.
    fn is_cut_now(&mut self) -> bool {
        self.writes += 1;
        if self.writes != self.weather.power_cut_at {
            return false;
        }
        let members = self.members.clone();
        members.into_iter().for_each(|member| self.crash(member));
        self.tasks.clear();
        self.is_cut = true;
        true
    }

    fn on_disk(&mut self, node: usize) {
        if !self.weather.is_hasty && self.is_cut_now() {
            return;
        }
        let now = self.now(self.nodes[node].rate);
        let owner = &mut self.nodes[node];
        let Some((ticket, rows)) = owner.queue.pop_front() else { return };
        apply_rows(&mut owner.disk, &rows);
        owner.holder.on_written(now, ticket, true);
        self.drain(node);
    }

    /// What the disk had not confirmed is there, is not, or is there by half.
    pub(super) fn crash(&mut self, node: usize) {
        if !self.nodes[node].is_up {
            return;
        }
        self.crashes += 1;
        while let Some((_, rows)) = self.nodes[node].queue.pop_front() {
            let count = self.rng.below(rows.len() as u64 + 1) as usize;
            apply_rows(&mut self.nodes[node].disk, &rows[..count]);
            if count < rows.len() {
                break;
            }
        }
        let owner = &mut self.nodes[node];
        owner.queue.clear();
        owner.is_up = false;
        owner.epoch += 1;
        if self.weather.forgets {
            owner.disk.clear();
        }
        let after = 10_000 + self.rng.below(200_000);
        self.happen(after, Happening::Restart { node });
    }

    fn restart(&mut self, node: usize) {
        let now = self.now(self.nodes[node].rate);
        let owner = &mut self.nodes[node];
        owner.is_up = true;
        owner.holder = Holder::new(setup(100 + node as u8), now);
        let rows = owner.disk.iter().map(|(key, value)| (&key[..], &value[..]));
        assert_eq!(owner.holder.restore(now, rows).bad, 0);
        self.drain(node);
    }

    fn on(&mut self, happening: Happening) {
        match happening {
            Happening::Ask { task, question } => self.on_ask(task, &question),
            Happening::Reply { task, number, answer } => {
                let rate = self.tasks.get(&task).map_or(1_000, |running| running.rate);
                let now = self.now(rate);
                match self.tasks.get_mut(&task).map(|running| &mut running.task) {
                    Some(Task::Decision(decision)) => decision.on_answer(now, number, &answer),
                    Some(Task::Survey(survey)) => survey.on_answer(number, &answer),
                    None => {}
                }
                self.pump(task);
            }
            Happening::Silence { task, number } => {
                let rate = self.tasks.get(&task).map_or(1_000, |running| running.rate);
                let now = self.now(rate);
                match self.tasks.get_mut(&task).map(|running| &mut running.task) {
                    Some(Task::Decision(decision)) => decision.on_failure(now, number),
                    Some(Task::Survey(survey)) => survey.on_failure(number),
                    None => {}
                }
                self.pump(task);
            }
            Happening::Wake { task } => {
                let rate = self.tasks.get(&task).map_or(1_000, |running| running.rate);
                let now = self.now(rate);
                if let Some(Running { task: Task::Decision(decision), .. }) = self.tasks.get_mut(&task) {
                    decision.handle_timeout(now);
                }
                self.pump(task);
            }
            Happening::Disk { node, epoch } if self.nodes[node].epoch == epoch => self.on_disk(node),
            Happening::Disk { .. } => {}
            Happening::Restart { node } if self.nodes[node].is_gone => {}
            Happening::Restart { node } => self.restart(node),
            Happening::Trouble => {
                if self.weather.is_cut_up && !self.is_calm {
                    self.cut_up();
                }
                let is_calm = self.members.iter().all(|member| self.nodes[*member].is_up);
                if self.weather.crashes && (is_calm || self.weather.forgets) {
                    let member = self.members[self.rng.below(self.members.len() as u64) as usize];
                    self.crash(member);
                }
                let after = 20_000 + self.rng.below(150_000);
                self.happen(after, Happening::Trouble);
            }
            Happening::Change => {
                if self.weather.changes {
                    self.change();
                }
                let after = 20_000 + self.rng.below(60_000);
                self.happen(after, Happening::Change);
            }
            Happening::Tick => {
                for node in 0..self.nodes.len() {
                    let now = self.now(self.nodes[node].rate);
                    if self.nodes[node].is_up {
                        self.nodes[node].holder.handle_timeout(now);
                        self.drain(node);
                    }
                }
                self.happen(500_000, Happening::Tick);
            }
        }
    }

    fn on_ask(&mut self, task: u64, question: &Question) {
        let Some(node) = self.nodes.iter().position(|node| node.identity.id() == question.to) else { return };
        let Some(peer) = self.tasks.get(&task).map(|running| running.who) else { return };
        if !self.nodes[node].is_up || self.is_cut_off(&peer, &question.to) {
            return;
        }
        self.numbers += 1;
        let asker = Asker { peer, from: [10, 0, 0, 1].into(), request: self.numbers };
        self.asked.insert(self.numbers, (task, question.number));
        let now = self.now(self.nodes[node].rate);
        let loose = self.weather.is_loose.then(|| elsewhere(&question.arguments));
        let arguments = loose.as_ref().unwrap_or(&question.arguments);
        self.nodes[node].holder.on_store(now, asker, arguments);
        self.drain(node);
    }

    /// The next thing happens; what ended is in `ended`.
    pub(super) fn step(&mut self) {
        let Some(((micros, _), happening)) = self.happenings.pop_first() else { return };
        self.micros = self.micros.max(micros);
        self.on(happening);
    }

    /// Goes on until so much time has passed.
    pub(super) fn pass(&mut self, micros: u64) {
        let until = self.micros + micros;
        while self.happenings.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.step();
        }
        self.micros = until;
    }

    /// From now on nothing goes wrong; everybody is back.
    pub(super) fn calm(&mut self) {
        let Weather { is_split, is_cut_up, is_loose, holders, .. } = self.weather;
        (self.side, self.blind) = (None, BTreeSet::new());
        // Lookups still find whoever answers.
        self.weather = Weather { is_split, is_cut_up, is_loose, holders, ..Weather::default() };
        self.is_calm = true;
        self.pass(1_000_000);
    }

    pub(super) fn wait(&mut self, task: u64) -> Ended {
        for _ in 0..1_000_000 {
            if let Some(at) = self.ended.iter().position(|(number, _)| *number == task) {
                return self.ended.remove(at).unwrap().1;
            }
            self.step();
        }
        panic!("a task has no end");
    }

    pub(super) fn wait_decided(&mut self, task: u64) -> Decided {
        match self.wait(task) {
            Ended::Decided(decided) => decided,
            Ended::Surveyed(_) => panic!("that was no decision"),
        }
    }
}
