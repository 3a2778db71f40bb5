//! Peace: after all faults have gone, everything must come to what it should be.
//!
//! In:    a world whose faults have gone.
//! Out:   how long it took; a panic that says what is not as it should be.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use dunlin_shards::limits::PATH_PROBES_MAX;
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::stats::{DropReason, Stats};

use crate::link::Cause;
use crate::place::NodeIndex;
use crate::world::{Trouble, WorldOf};

use super::draw::PLAIN_REORDER;
use super::plan::{Attack, Fault, Plan, What};

/// Within this everything has converged.
const HEALS_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the network is left alone to see whether it is quiet.
const QUIET: Duration = Duration::from_secs(6);
/// How long a shutdown may take: what is closed answers for a while, what was handed over lingers.
const SHUTDOWN: Duration = Duration::from_secs(16);
/// Datagrams below which a share of them says nothing.
const MANY: u64 = 2_000;

/// Who has something to say to whom, and can: of two that cannot reach each other neither.
pub(super) fn pairs(plan: &Plan) -> BTreeSet<(NodeIndex, NodeIndex)> {
    let is_reachable =
        |from: usize, to: usize| plan.nodes[from].nat.is_none() || plan.nodes[to].nat.is_none();
    let is_honest = |node: usize| plan.nodes[node].vice.is_none();
    let mut pairs = BTreeSet::new();
    for talk in &plan.talks {
        if is_reachable(talk.from, talk.to) && is_honest(talk.from) && is_honest(talk.to) {
            pairs.insert((NodeIndex(talk.from), NodeIndex(talk.to)));
            if plan.nodes[talk.from].nat.is_none() && plan.nodes[talk.to].nat.is_some() {
                pairs.insert((NodeIndex(talk.to), NodeIndex(talk.from)));
            }
        }
    }
    pairs
}

/// Waits for peace, looks at it, and ends it in order.
///
/// # Panics
/// When something is not as it must be.
pub(super) fn converge<C: Crypto>(world: &mut WorldOf<C>, plan: &Plan) -> Duration {
    let begin = world.now();
    while let Err(what) = look(world) {
        assert!(world.now() - begin < HEALS_WITHIN, "not converged within {HEALS_WITHIN:?}: {what}");
        world.run_for(LOOK_EVERY);
    }
    let healed = world.now() - begin;
    world.assert_nothing_lost();
    check_retransmissions(world, plan);
    check_quiet(world, plan);
    shut_down(world);
    healed
}

/// What is not yet as it should be.
fn look<C: Crypto>(world: &WorldOf<C>) -> Result<(), String> {
    let open = world.ledger().open();
    if open > 0 {
        let is_open = |(_, record): &(usize, &crate::ledger::Record)| {
            record.manner.reliable && record.outcome.is_none() && !record.is_void
        };
        let first = world.ledger().records().iter().enumerate().find(is_open);
        let first = first.map(|(entry, record)| (entry, record.from, record.to, record.delivered));
        return Err(format!("{open} messages whose fate is unknown, first {first:?}"));
    }
    for index in up(world) {
        let node = world.node(index);
        let (unread, waiting) = (node.application.unread_count(), node.application.waiting_count());
        if unread + waiting > 0 {
            return Err(format!("{index:?} has {unread} unread and {waiting} unsent messages"));
        }
        let adopted: usize = node.cores.iter().map(|core| core.shard.adopted()).sum();
        let sessions = node.cores.iter().map(|core| core.shard.sessions()).sum::<usize>() - adopted;
        if sessions != node.application.session_count() {
            let known = node.application.session_count();
            return Err(format!("{index:?} has {sessions} sessions, its application knows of {known}"));
        }
    }
    look_at_sessions(world)
}

/// Each session is known at both ends, and there is one.
fn look_at_sessions<C: Crypto>(world: &WorldOf<C>) -> Result<(), String> {
    let mut counts: BTreeMap<(NodeIndex, NodeIndex), usize> = BTreeMap::new();
    for index in up(world) {
        for peer in world.node(index).application.peers() {
            *counts.entry((index, world.index_of(&peer))).or_default() += 1;
        }
    }
    for ((from, to), count) in &counts {
        let back = counts.get(&(*to, *from)).copied().unwrap_or_default();
        if (*count, back) != (1, 1) {
            return Err(format!("{from:?} has {count} sessions with {to:?}, which has {back} with it"));
        }
    }
    Ok(())
}

fn up<C: Crypto>(world: &WorldOf<C>) -> impl Iterator<Item = NodeIndex> {
    (0..world.node_count()).map(NodeIndex).filter(|node| world.node(*node).is_up())
}

/// Where nothing but loss and a little reordering befell the links: what an honest node seals opens, and I11, what is sent again is at most three times
/// what was lost, and a little.
fn check_retransmissions<C: Crypto>(world: &WorldOf<C>, plan: &Plan) {
    let only_loses = |what: &What| match what {
        What::Links(_, trouble) => {
            let is_little = matches!(trouble, Trouble::Reorder(_, late) if *late == PLAIN_REORDER);
            is_little || matches!(trouble, Trouble::Loss(_) | Trouble::Burst(_) | Trouble::Duplicate(_))
        }
        What::Jump(..) | What::Ping(..) => true,
        _ => false,
    };
    let is_plain = plan.nodes.iter().all(|node| node.vice.is_none());
    if !is_plain || !plan.faults.iter().all(|fault| only_loses(&fault.what)) {
        return;
    }
    // Where nothing steers, the datagrams of a train land on shards by chance, and overtake each other; a Hello that is sent again
    // begins a session on each shard that it lands on, and the caller has the keys of one.
    let is_shuffled = plan.nodes.iter().any(|node| node.unsteered && node.shards > 1);
    let (mut sent, mut resent, mut refused) = (0, 0, 0);
    for index in up(world) {
        let stats = world.stats(index);
        let forged = stats.drops(DropReason::Forged);
        assert!(
            forged == 0 || is_shuffled,
            "keys: {index:?} could not open {forged} packets, and nobody forged any"
        );
        sent += stats.datagrams_out;
        resent += stats.segments_resent;
        // What there was no memory for, or no room in a ring, is as good as lost.
        refused += [DropReason::NoMemory, DropReason::MailFull]
            .map(|reason| stats.drops(reason))
            .iter()
            .sum::<u64>();
    }
    let lost_by = |cause| world.coverage().of("link", crate::world::name_of_cause(cause));
    // What was too long travels again in smaller pieces: 8,900 bytes in eight.
    let lost: u64 =
        lost_by(Cause::Loss) + lost_by(Cause::Burst) + lost_by(Cause::Queue) + 8 * lost_by(Cause::TooLong);
    let slack = sent / if is_shuffled { 4 } else { 20 };
    assert!(
        sent < MANY || resent <= 3 * (lost + refused) + slack,
        "I11: {resent} segments sent again, {lost} of {sent} datagrams were lost and {refused} refused"
    );
}

/// I14: whoever has nothing to say says nothing, but keeps alive what was asked to be.
fn check_quiet<C: Crypto>(world: &mut WorldOf<C>, plan: &Plan) {
    // What was lost at the end of the chaos may be asked for only now, or its answer be under way when we begin to listen.
    let probes = |world: &WorldOf<C>, index: NodeIndex| -> u64 {
        let peers = world.node(index).application.peers().map(|peer| world.index_of(&peer));
        peers.chain([index]).map(|node| world.stats(node).probe_timeouts).sum()
    };
    let indices: Vec<NodeIndex> = up(world).collect();
    let probed: Vec<u64> = indices.iter().map(|index| probes(world, *index)).collect();
    // Searches for larger datagrams, acknowledgements and exchanges under way come to their ends.
    world.run_for(Duration::from_secs(2));
    let before: Vec<Stats> = indices.iter().map(|index| world.stats(*index)).collect();
    // A new key that nobody has acknowledged is asked for; an exchange inside the session takes packets.
    let is_renewing = |index: NodeIndex| plan.nodes[index.0].renew_s > 0 || plan.nodes[index.0].rekey.0 > 0;
    // Whoever got a packet from elsewhere asks there a few times whether the peer has moved, with ever longer waits.
    let is_led_astray = |fault: &Fault| matches!(fault.what, What::Attack(_, Attack::Elsewhere, _));
    let is_any_led_astray = plan.faults.iter().any(is_led_astray);
    let elsewhere = if is_any_led_astray { u64::from(PATH_PROBES_MAX) } else { 0 };
    let bound = |world: &WorldOf<C>, index: NodeIndex| -> Option<u64> {
        let peers: Vec<NodeIndex> =
            world.node(index).application.peers().map(|peer| world.index_of(&peer)).collect();
        if is_renewing(index) || peers.iter().any(|peer| is_renewing(*peer)) {
            return None;
        }
        let keepalives =
            |node: NodeIndex| plan.nodes[node.0].keepalive_s.map_or(0, |every| QUIET.as_secs() / every + 1);
        // A PING for each interval of ours, an answer for each of theirs; and once, after a rest, what the window has become
        // (ACK_FREQUENCY), and its answer.
        let asks = |peer: &NodeIndex| keepalives(index) + keepalives(*peer);
        Some(peers.iter().map(asks).map(|asks| asks + 2 * asks.min(1) + elsewhere).sum())
    };
    let bounds: Vec<Option<u64>> = indices.iter().map(|index| bound(world, *index)).collect();
    world.run_for(QUIET);
    for (((index, before), bound), probed) in indices.iter().zip(before).zip(bounds).zip(probed) {
        let after = world.stats(*index);
        let said = after.datagrams_out - before.datagrams_out;
        // One end's patience may be at an end, and the other's next PING then begins a session anew.
        let is_settled = after.handshakes_completed == before.handshakes_completed
            && after.handshakes_begun == before.handshakes_begun
            && after.resets_sent == before.resets_sent
            && probes(world, *index) == probed
            && after.sessions_roamed == before.sessions_roamed;
        if let Some(bound) = bound.filter(|_| is_settled) {
            assert!(
                said <= bound,
                "I14: {index:?} sent {said} datagrams in {QUIET:?} of quiet, {bound} are enough"
            );
        }
    }
}

/// Everything closes, and nothing is left.
fn shut_down<C: Crypto>(world: &mut WorldOf<C>) {
    let indices: Vec<NodeIndex> = up(world).collect();
    for index in &indices {
        world.shut_down(*index);
    }
    world.run_for(SHUTDOWN);
    for index in indices {
        let node = world.node(index);
        for (shard, core) in node.cores.iter().enumerate() {
            let sessions = core.shard.sessions();
            assert!(
                core.shard.is_drained() && sessions == 0,
                "{index:?}.{shard} has {sessions} sessions {SHUTDOWN:?} after its shutdown"
            );
            let used = core.shard.used_bytes();
            assert!(used == 0, "I6: {index:?}.{shard} holds {used} bytes of messages after its shutdown");
        }
        let held = node.application.held_bytes();
        assert!(held == 0, "I6: {held} bytes of messages never came home to {index:?}'s application");
    }
}
