//! Draws a swarm's plan from a seed.
//!
//! Each kind of fault is off in some seeds and on in others (swarm testing: what is always on hides what it masks).

use core::time::Duration;

use dunlin_codec::ids::ChannelId;
use dunlin_shards::limits::INSTANCES_MAX;
use dunlin_shards::rng::Rng;

use crate::byzantine::Vice;
use crate::ledger::Manner;
use crate::link::{Burst, Conditions};
use crate::nat::{Filtering, NatRules};
use crate::world::Trouble;

use super::plan::{Attack, Fault, NodePlan, Plan, RING_LEN, Reading, Size, Talk, What};

/// The chaos, in milliseconds.
const CHAOS: u64 = 20_000;
/// What a node may sleep, in milliseconds.
const PAUSE_MAX: u64 = 120_000;
/// One seed in so many runs with the real cryptography.
const REAL: u64 = 8;
/// Of so many seeds in a row one is plain, and one crowded.
const APART: u64 = 20;
const PLAIN: u64 = 7;
const CROWDED: u64 = 13;
/// How late a datagram comes at most in a plain world.
pub(super) const PLAIN_REORDER: Duration = Duration::from_millis(3);
/// One node in so many sends by BBR.
const BBR: u64 = 3;

/// The plan of a seed.
#[must_use]
pub fn draw(seed: u64, size: Size) -> Plan {
    let mut chance = Rng::from_number(seed ^ 0x5377_6172_6d00_0000);
    let mut draw = Draw { on: chance.next_u64() | chance.next_u64(), chance };
    let count = match size {
        Size::Small => draw.between(8, 32),
        Size::Medium => 128,
        Size::Large => 1_000,
    } as usize;
    let nats = draw.nats();
    let mut nodes: Vec<NodePlan> = (0..count).map(|_| draw.node(nats.len())).collect();
    // Drawn apart: seeds from before there was a choice stay the worlds that they were, but for this.
    let mut choice = Rng::from_number(seed ^ 0x4262_7200_0000_0000);
    nodes.iter_mut().for_each(|node| node.bbr = choice.once_in(BBR));
    let talks = draw.talks(&nodes);
    let faults = draw.faults(&nodes, nats.len(), &talks);
    let ends = faults.iter().map(|fault| fault.at + fault.time);
    let chaos = ends.max().unwrap_or_default().max(CHAOS);
    let weather = draw.weather();
    let mut plan = Plan { seed, real: draw.chance.once_in(REAL), chaos, weather, nodes, nats, talks, faults };
    match seed % APART {
        PLAIN => make_plain(&mut plan, &mut choice),
        CROWDED => make_crowded(&mut plan, &mut choice),
        _ => {}
    }
    plan
}

/// A world in which nothing but a little reordering befalls a long transfer, so that what is sent again and what does not open can be told exactly.
fn make_plain(plan: &mut Plan, chance: &mut Rng) {
    for node in &mut plan.nodes {
        (node.unsteered, node.vice, node.ring_len) = (false, None, RING_LEN);
    }
    plan.faults.clear();
    // Longer than any is late: two changes of keys are a round trip apart.
    (plan.weather.delay, plan.weather.jitter, plan.weather.joins) = (millis(20), Duration::ZERO, false);
    let reorder = Trouble::Reorder(100 + chance.below(100) as u32, PLAIN_REORDER);
    plan.faults.push(Fault { at: 0, time: CHAOS, what: What::Links(Vec::new(), reorder) });
    let Some(talk) = plan.talks.iter_mut().find(|talk| !talk.is_hopeless) else { return };
    make_long(talk, chance);
    let (from, to) = (talk.from, talk.to);
    plan.nodes[from].rekey = (20 + chance.below(200), 8_000);
    plan.nodes[to].reading = Reading::AtOnce;
}

/// A world in which many long transfers meet at a node that has little memory and reads slowly.
fn make_crowded(plan: &mut Plan, chance: &mut Rng) {
    let Some(to) = plan.nodes.iter().position(|node| node.nat.is_none() && node.vice.is_none()) else {
        return;
    };
    plan.nodes[to].memory = 3 << 20;
    plan.nodes[to].sessions = 256;
    plan.nodes[to].reading = Reading::Slow(20 + chance.below(100));
    let (nodes, talks) = (&plan.nodes, &mut plan.talks);
    let others = talks.iter_mut().filter(|talk| talk.from != to && nodes[talk.from].vice.is_none());
    for talk in others.take(8) {
        (talk.to, talk.is_hopeless, talk.unknown) = (to, false, false);
        make_long(talk, chance);
    }
}

fn make_long(talk: &mut Talk, chance: &mut Rng) {
    talk.at = 1_000 + chance.below(2_000);
    talk.count = 8 + chance.below(8) as u32;
    talk.every = 10;
    talk.len = (8, 200_000 + chance.below(200_000) as usize);
    talk.early = false;
    talk.cancel_permille = 0;
    (talk.manner.reliable, talk.manner.once, talk.manner.early) = (true, false, false);
    let place = PRIORITIES.iter().position(|priority| *priority == talk.manner.priority).unwrap_or_default();
    talk.manner.channel = ChannelId(16 + place as u32 * 4 + 2 + u32::from(talk.manner.ordered));
}

/// What channels have for priorities.
const PRIORITIES: [u8; 4] = [0, 64, 128, 200];

struct Draw {
    chance: Rng,
    /// A bit for each kind of fault that may be in this seed at all.
    on: u64,
}

/// Milliseconds.
fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Draw {
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.chance.below(most - least + 1)
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.chance.below(list.len() as u64) as usize].clone()
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.chance.below(100) < percent
    }

    /// Small numbers are likelier than large ones.
    fn skewed(&mut self, most: u64) -> u64 {
        let width = self.chance.below(u64::from(most.ilog2()) + 1);
        self.chance.below((2 << width).min(most + 1))
    }

    fn weather(&mut self) -> Conditions {
        let delay = self.of(&[0, 1, 5, 20, 80]);
        let jitter = self.of(&[0, 0, 1, 10]);
        let mtu = self.of(&[1_472, 1_472, 1_472, 1_400, 1_280, 9_000]);
        let joins = self.percent(70);
        Conditions { delay: millis(delay), jitter: millis(jitter), mtu, joins, ..Conditions::default() }
    }

    fn nats(&mut self) -> Vec<NatRules> {
        let count = if self.percent(40) { self.between(1, 3) } else { 0 };
        (0..count)
            .map(|_| NatRules {
                is_dependent: self.percent(50),
                filtering: self.of(&[Filtering::Anyone, Filtering::Address, Filtering::AddressAndPort]),
                life: Duration::from_secs(30),
                hairpin: self.percent(50),
            })
            .collect()
    }

    fn node(&mut self, nats: usize) -> NodePlan {
        let is_public = nats == 0 || self.percent(60);
        let vice = self.percent(if self.on & 1 == 0 { 0 } else { 12 });
        let keepalive = self.percent(30);
        NodePlan {
            shards: self.of(&[1, 1, 1, 2, 3]),
            unsteered: self.percent(25),
            zero_rtt: self.percent(80),
            chacha: self.percent(20),
            idle_s: self.between(8, 15),
            keepalive_s: keepalive.then(|| self.between(2, 6)),
            deadline_s: self.between(3, 10),
            datagram_max: self.of(&[1_200, 1_452, 1_452, 8_900]),
            memory: if self.percent(8) { 3 << 20 } else { 16 << 20 },
            sessions: if self.percent(8) { 12 } else { 256 },
            rekey: if self.percent(20) {
                (self.between(20, 400), self.between(1_000, 9_000))
            } else {
                (0, 0)
            },
            renew_s: if self.percent(15) { self.between(2, 10) } else { 0 },
            ring_len: if self.percent(15) { self.between(1, 8) as usize } else { RING_LEN },
            reading: match self.chance.below(10) {
                0 => Reading::Never,
                1 | 2 => Reading::Slow(self.between(1, 400)),
                _ => Reading::AtOnce,
            },
            persists: self.percent(70),
            // Cookies and the strike register turn by the clock, every 120 s: often enough during the chaos.
            clock_ms: if self.percent(50) { self.between(100_000, 120_000) } else { 0 },
            drift_ppm: if self.percent(40) { self.between(0, 600) as i64 - 300 } else { 0 },
            bbr: false,
            nat: if is_public { None } else { Some(self.chance.below(nats as u64) as usize) },
            vice: if vice { Some(self.of(&Vice::ALL)) } else { None },
        }
    }

    fn talks(&mut self, nodes: &[NodePlan]) -> Vec<Talk> {
        let count = self.between(nodes.len() as u64 / 2, nodes.len() as u64 * 5 / 4);
        let mut talks = Vec::new();
        for _ in 0..count {
            let from = self.chance.below(nodes.len() as u64) as usize;
            let to = self.chance.below(nodes.len() as u64) as usize;
            if from == to {
                continue;
            }
            let talk = self.talk(from, to);
            let is_hidden = |node: usize| nodes[node].nat.is_some();
            match (is_hidden(from), is_hidden(to)) {
                (true, true) => talks.push(Talk { is_hopeless: true, ..talk }),
                (false, true) => {
                    // Whoever is behind a NAT calls first.
                    talks.push(Talk {
                        from: to,
                        to: from,
                        at: self.chance.below(500),
                        ..self.talk(to, from)
                    });
                    talks.push(Talk { early: false, unknown: false, ..talk });
                }
                _ => talks.push(talk),
            }
        }
        talks
    }

    fn talk(&mut self, from: usize, to: usize) -> Talk {
        let longest = match self.chance.below(10) {
            0 => 0,
            1..=5 => self.between(8, 1_000),
            6..=8 => self.between(1_000, 20_000),
            _ if self.percent(70) => self.between(20_000, 300_000),
            _ => self.between(300_000, 800_000),
        } as usize;
        let reliable = self.percent(80);
        let ordered = self.percent(60);
        // A channel keeps its manner and its place: its number says which they are.
        let place = self.chance.below(PRIORITIES.len() as u64) as usize;
        let channel = 16 + place as u32 * 4 + u32::from(reliable) * 2 + u32::from(ordered);
        // Some say more than fits the credit that everybody has from the beginning.
        let count = match longest {
            100_000.. if self.chance.once_in(3) => self.between(8, 16),
            20_001.. => self.between(1, 4),
            _ => 1 + self.skewed(40),
        };
        let count = if longest == 0 { 1 } else { count };
        let every = self.of(&[0, 1, 10, 100, 700]);
        Talk {
            from,
            to,
            at: self.chance.below(CHAOS - 1_000),
            count: count as u32,
            every,
            len: (longest.min(8), longest),
            manner: Manner {
                channel: ChannelId(channel),
                ordered,
                reliable,
                priority: PRIORITIES[place],
                once: self.percent(10),
                early: false,
            },
            cancel_permille: if self.percent(15) { 300 } else { 0 },
            early: self.percent(20),
            unknown: self.percent(10),
            is_hopeless: false,
        }
    }

    fn faults(&mut self, nodes: &[NodePlan], nats: usize, talks: &[Talk]) -> Vec<Fault> {
        let count = if self.percent(10) { 0 } else { self.between(1, 30) };
        let mut faults = Vec::new();
        for _ in 0..count * (nodes.len() as u64).div_ceil(32) {
            let at = self.chance.below(CHAOS * 9 / 10);
            // Long enough to meet traffic, mostly; some as short as a blink.
            let time = if self.percent(75) { self.between(500, 10_000) } else { 1 + self.skewed(2_000) };
            let time = time.min(CHAOS - at).max(1);
            let kind = self.chance.below(20);
            if self.on >> (kind + 1) & 1 == 0 {
                continue;
            }
            let node = self.chance.below(nodes.len() as u64) as usize;
            if let Some((what, time)) = self.fault(kind, node, (nodes, nats, talks), time) {
                faults.push(Fault { at, time, what });
            }
        }
        for (node, plan) in nodes.iter().enumerate() {
            self.of_its_own(node, plan, nodes.len(), &mut faults);
        }
        faults
    }

    /// What only some nodes do: the Byzantine call without end, those behind a NAT themselves.
    fn of_its_own(&mut self, node: usize, plan: &NodePlan, count: usize, faults: &mut Vec<Fault>) {
        let at = self.chance.below(CHAOS);
        let other = self.chance.below(count as u64) as usize;
        if plan.vice.is_some() && other != node && self.percent(25) {
            let what = What::Storm(node, other, self.between(10, 700) as u32);
            faults.push(Fault { at, time: 1, what });
        }
        if plan.nat.is_some() && self.percent(8) {
            faults.push(Fault { at, time: 1, what: What::Call(node, node) });
        }
    }

    fn fault(
        &mut self,
        kind: u64,
        node: usize,
        (nodes, nats, talks): (&[NodePlan], usize, &[Talk]),
        time: u64,
    ) -> Option<(What, u64)> {
        let short = time.min(8_000);
        let pair = (!talks.is_empty()).then(|| self.of(talks)).map(|talk| (talk.from, talk.to));
        let what = match kind {
            0..=8 => return Some((self.trouble(kind, node, nodes.len()), time)),
            9 => What::Partition(self.some_of(nodes.len()), self.percent(40)),
            10 if nats > 0 && self.percent(60) => What::Rebind(self.chance.below(nats as u64) as usize),
            10 => What::ChangeAddress(node),
            11 | 12 => return Some((What::Crash(node, self.percent(25)), short)),
            13 if self.chance.once_in(12) => {
                return Some((What::Pause(node), self.between(20_000, PAUSE_MAX)));
            }
            13 => return Some((What::Pause(node), short)),
            14 => What::Jump(node, self.of(&[-3_600_000, 3_600_000, -61_000, 61_000, 500])),
            15 => What::FullRings(self.of(&[50, 300, 1_000])),
            16 | 17 => What::Attack(node, self.of(&Attack::ALL), self.between(1, 150) as u32),
            18 => {
                let (from, to) = pair?;
                match self.chance.below(12) {
                    // Of more sessions at once than an identity has places for, an honest pair keeps some until they idle out.
                    0 if nodes[from].vice.is_some() => What::Storm(from, to, self.between(10, 700) as u32),
                    0 => What::Storm(from, to, self.between(2, INSTANCES_MAX as u64) as u32),
                    1..=3 => What::Close(from, to),
                    4..=7 => What::Ping(from, to),
                    _ => What::Call(to, from),
                }
            }
            _ => return Some((What::Shutdown(node), short.max(100))),
        };
        Some((what, time))
    }

    fn some_of(&mut self, count: usize) -> Vec<usize> {
        let part = self.of(&[2, 3, 8]);
        let some: Vec<usize> = (0..count).filter(|_| self.chance.once_in(part)).collect();
        if some.is_empty() { vec![0] } else { some }
    }

    fn trouble(&mut self, kind: u64, node: usize, count: usize) -> What {
        let other = self.chance.below(count as u64) as usize;
        let links = self.of(&[vec![], vec![], vec![node], vec![node, other]]);
        let trouble = match kind {
            0 => Trouble::Loss(self.between(1, 300) as u32),
            1 => Trouble::Burst(Burst {
                begin_permille: self.between(1, 60) as u32,
                end_permille: self.between(20, 500) as u32,
                loss_permille: self.between(300, 1_000) as u32,
            }),
            2 => Trouble::Duplicate(self.between(1, 400) as u32),
            3 => {
                let by = self.of(&[2, 20, 200, 1_000]);
                Trouble::Reorder(self.between(1, 500) as u32, millis(by))
            }
            4 => {
                let (delay, jitter) = (self.skewed(1_500), self.skewed(1_500));
                Trouble::Delay(millis(delay.min(1_500)), millis(jitter.min(1_500 - delay.min(1_500))))
            }
            5 => {
                let rate = self.of(&[64_000, 256_000, 1_000_000, 10_000_000]);
                // At most two seconds' worth: what waits when the chaos ends still arrives.
                let queue_len = self.of(&[3_000, 20_000, 200_000]).min(rate as usize / 4);
                if self.percent(40) {
                    Trouble::Marks(rate, queue_len)
                } else {
                    Trouble::Rate(rate, queue_len)
                }
            }
            6 if self.percent(50) => Trouble::Corrupt(self.between(1, 200) as u32),
            6 => Trouble::Truncate(self.between(1, 200) as u32),
            7 if self.percent(50) => Trouble::Clog,
            7 => Trouble::Mtu(self.of(&[1_200, 1_250, 1_300, 1_400]), self.percent(50)),
            _ if self.percent(70) => {
                let permille = self.between(1, 300) as u32;
                self.of(&[
                    Trouble::SendErrors(permille, 0, 0),
                    Trouble::SendErrors(0, permille, 0),
                    Trouble::SendErrors(0, 0, permille.min(50)),
                ])
            }
            _ => Trouble::Cut,
        };
        What::Links(links, trouble)
    }
}
