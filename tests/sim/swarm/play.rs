//! Plays a plan: chaos, then peace.
//!
//! In:    a plan.
//! Out:   what happened; a panic when something broke.

use core::time::Duration;

use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::limits::Limits;
use dunlin_shards::session::crypto::{Crypto, Suite};
use dunlin_shards::session::keys::KeyLimits;

use crate::application::Reader;
use crate::ledger::Manner;
use crate::link::Conditions;
use crate::node::NodeSettings;
use crate::place::NodeIndex;
use crate::text;
use crate::world::{Coverage, Scope, Trouble, WorldOf};

use super::attack::attack;
use super::calm;
use super::plan::{Fault, NodePlan, Plan, RING_LEN, Reading, Talk, What};

/// Between two datagrams of an attack.
const ATTACK_EVERY: Duration = Duration::from_millis(3);

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Played {
    pub(super) coverage: Coverage,
    pub(super) hash: u64,
    pub(super) lines: u64,
    pub(super) simulated: Duration,
    pub(super) healed: Duration,
    pub(super) delivered: (u64, u64),
}

/// Plays it.
pub(super) fn play<C: Crypto + 'static>(plan: &Plan) -> Played {
    let mut world = WorldOf::<C>::from_seed(plan.seed);
    prepare(&mut world, plan);
    for talk in &plan.talks {
        schedule_talk(&mut world, talk, plan.chaos);
    }
    for fault in &plan.faults {
        let (begin, end) = (fault.clone(), fault.clone());
        world.at(millis(fault.at), move |world| begin_fault(world, &begin));
        world.at(millis(fault.at + fault.time), move |world| end_fault(world, &end));
    }
    world.run_for(millis(plan.chaos));
    heal(&mut world, plan);
    let healed = calm::converge(&mut world, plan);
    world.count_drops();
    Played { healed, ..Played::of(&world) }
}

impl Played {
    /// A world as it is by now.
    pub(super) fn of<C: Crypto>(world: &WorldOf<C>) -> Self {
        Self {
            coverage: world.coverage().clone(),
            hash: world.trace_hash(),
            lines: world.trace_count(),
            simulated: world.now(),
            healed: Duration::ZERO,
            delivered: world.ledger().delivered(),
        }
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn prepare<C: Crypto + 'static>(world: &mut WorldOf<C>, plan: &Plan) {
    world.keeps_received = false;
    world.keeps_strays = false;
    world.has_texts = true;
    world.overhears = plan.faults.iter().any(|fault| matches!(fault.what, What::Attack(..)));
    world.weather = plan.weather.clone();
    for rules in &plan.nats {
        world.add_nat(*rules);
    }
    for node in &plan.nodes {
        let index = world.add_node_with(settings(node));
        // A short ring is full now and then without any fault.
        if node.unsteered && node.shards > 1 && node.ring_len < RING_LEN {
            world.allow_early_repeats();
        }
        world.node_mut(index).clock.drift_ppm = node.drift_ppm;
        world.node_mut(index).clock.began_at = node.clock_ms * 1_000_000;
        world.node_mut(index).application.persists = node.persists;
        world.set_reader(index, reader(node.reading));
        if let Some(nat) = node.nat {
            world.put_behind(index, nat);
        }
        if let Some(vice) = node.vice {
            world.corrupt(index, vice);
        }
    }
}

fn reader(reading: Reading) -> Reader {
    match reading {
        Reading::AtOnce => Reader::AtOnce,
        Reading::Slow(every) => Reader::Every(millis(every)),
        Reading::Never => Reader::Never,
    }
}

fn settings(node: &NodePlan) -> NodeSettings {
    let mut settings = NodeSettings {
        shards: node.shards,
        unsteered: node.unsteered,
        zero_rtt: node.zero_rtt,
        suite: if node.chacha { Suite::ChaChaPoly } else { Suite::AesGcm },
        ring_len: node.ring_len,
        handshake_deadline: Duration::from_secs(node.deadline_s),
        limits: Limits { memory: node.memory, sessions: node.sessions, ..Limits::small() },
        ..NodeSettings::default()
    };
    settings.sessions.datagram_max = node.datagram_max;
    settings.sessions.congestion = if node.bbr { Algorithm::Bbr } else { Algorithm::Cubic };
    settings.sessions.idle_timeout = Duration::from_secs(node.idle_s);
    settings.sessions.keepalive = node.keepalive_s.map(Duration::from_secs);
    if node.renew_s > 0 {
        settings.sessions.renew_after = Duration::from_secs(node.renew_s);
    }
    let (packets, life) = node.rekey;
    if packets > 0 {
        settings.sessions.key_limits = KeyLimits { packets, life: millis(life), ..KeyLimits::default() };
    }
    settings
}

fn schedule_talk<C: Crypto + 'static>(world: &mut WorldOf<C>, talk: &Talk, end: u64) {
    for n in 0..talk.count {
        let talk = talk.clone();
        let at = talk.at + u64::from(n) * talk.every;
        if at >= end {
            return;
        }
        world.at(millis(at), move |world| say(world, &talk, n));
    }
}

fn say<C: Crypto + 'static>(world: &mut WorldOf<C>, talk: &Talk, n: u32) {
    let (from, to) = (NodeIndex(talk.from), NodeIndex(talk.to));
    if !world.node(from).is_up() {
        return;
    }
    let (least, most) = talk.len;
    let len = least + world.chance().below((most - least) as u64 + 1) as usize;
    let serial = world.ledger().records().len() as u32;
    let bytes = text::compose(from, to, serial, len);
    if n == 0 && talk.unknown {
        world.connect_unknown(from, to);
    }
    let entry = if n == 0 && talk.early {
        world.connect_with(from, to, Manner { early: true, ..talk.manner }, &bytes)
    } else {
        world.send_with(from, to, talk.manner, &bytes)
    };
    if talk.cancel_permille > 0 && world.chance().below(1_000) < u64::from(talk.cancel_permille) {
        let after = millis(world.chance().below(300));
        world.at(after, move |world| world.cancel(entry));
    }
}

fn begin_fault<C: Crypto + 'static>(world: &mut WorldOf<C>, fault: &Fault) {
    let time = millis(fault.time);
    match &fault.what {
        What::Links(nodes, trouble) => world.trouble(scope(nodes), *trouble, time),
        What::Partition(inside, is_one_way) => {
            let inside = inside.iter().copied().map(NodeIndex).collect();
            let name = if *is_one_way { "one-way partition" } else { "partition" };
            world.count_fault(name);
            let scope = if *is_one_way { Scope::OneWayBorder(inside) } else { Scope::Border(inside) };
            world.trouble(scope, Trouble::Cut, time);
        }
        What::ChangeAddress(node) => drop(world.change_address(NodeIndex(*node))),
        What::Rebind(nat) => world.rebind(*nat),
        What::Crash(node, is_torn) => crash(world, NodeIndex(*node), *is_torn),
        What::Pause(node) => world.pause(NodeIndex(*node), time),
        What::Jump(node, by_ms) => world.jump_clock(NodeIndex(*node), *by_ms),
        What::FullRings(permille) => {
            world.count_fault("full rings");
            world.allow_early_repeats();
            world.full_ring_permille = *permille;
        }
        What::Attack(node, kind, count) => {
            world.count_fault(kind.name());
            let (node, kind) = (NodeIndex(*node), *kind);
            for n in 0..*count {
                world.at(ATTACK_EVERY * n, move |world| attack(world, node, kind));
            }
        }
        What::Storm(from, to, count) => {
            world.count_fault("call storm");
            // A Hello whose answer was lost and forgotten in the storm is struck: its early data is refused when it comes again, and
            // travels in the session once more.
            world.allow_early_repeats();
            for _ in 0..*count {
                if world.node(NodeIndex(*from)).is_up() {
                    world.connect(NodeIndex(*from), NodeIndex(*to));
                }
            }
        }
        What::Close(from, to) => {
            if world.close(NodeIndex(*from), NodeIndex(*to)) {
                world.count_fault("close");
            }
        }
        What::Ping(from, to) => drop(world.ping(NodeIndex(*from), NodeIndex(*to))),
        What::Call(from, to) => {
            if world.node(NodeIndex(*from)).is_up() {
                world.count_fault("second call");
                if from == to {
                    world.connect_unknown(NodeIndex(*from), NodeIndex(*to));
                } else {
                    world.connect(NodeIndex(*from), NodeIndex(*to));
                }
            }
        }
        What::Shutdown(node) => {
            if world.node(NodeIndex(*node)).is_up() {
                world.count_fault("shutdown");
                world.shut_down(NodeIndex(*node));
            }
        }
    }
}

fn scope(nodes: &[usize]) -> Scope {
    match *nodes {
        [] => Scope::Everywhere,
        [node] => Scope::Around(NodeIndex(node)),
        [from, to, ..] => Scope::OneWay(NodeIndex(from), NodeIndex(to)),
    }
}

fn crash<C: Crypto>(world: &mut WorldOf<C>, node: NodeIndex, is_torn: bool) {
    if world.node(node).is_up() {
        world.crash(node);
        if is_torn {
            world.count_fault("torn reset secret");
            world.node_mut(node).lose_reset_secret();
        }
    }
}

fn end_fault<C: Crypto>(world: &mut WorldOf<C>, fault: &Fault) {
    match &fault.what {
        What::Crash(node, _) => start(world, NodeIndex(*node)),
        What::Shutdown(node) => {
            let node = NodeIndex(*node);
            crash(world, node, false);
            start(world, node);
        }
        What::FullRings(_) => world.full_ring_permille = 0,
        _ => {}
    }
}

fn start<C: Crypto>(world: &mut WorldOf<C>, node: NodeIndex) {
    if !world.node(node).is_up() {
        world.start(node);
    }
}

/// All faults go: links are good, whoever is down starts, whoever lied is gone, and everybody who had something to say to
/// somebody says one thing more.
fn heal<C: Crypto>(world: &mut WorldOf<C>, plan: &Plan) {
    world.clear_up(Conditions::default());
    world.full_ring_permille = 0;
    for (place, node) in plan.nodes.iter().enumerate() {
        let index = NodeIndex(place);
        if node.vice.is_some() {
            world.retire(index);
            continue;
        }
        start(world, index);
        world.node_mut(index).application.persists = true;
        world.set_reader(index, Reader::AtOnce);
    }
    let is_hidden = |node: usize| plan.nodes[node].nat.is_some();
    let is_gone = |node: usize| plan.nodes[node].vice.is_some();
    for talk in &plan.talks {
        if is_gone(talk.from) || is_gone(talk.to) || is_hidden(talk.from) && is_hidden(talk.to) {
            world.forget(NodeIndex(talk.from), NodeIndex(talk.to));
            world.forget(NodeIndex(talk.to), NodeIndex(talk.from));
        }
    }
    for (from, to) in calm::pairs(plan) {
        let serial = world.ledger().records().len() as u32;
        world.send_with(from, to, Manner::default().on(60), &text::compose(from, to, serial, 64));
    }
}
