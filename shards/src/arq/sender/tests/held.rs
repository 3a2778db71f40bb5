//! Messages that are acknowledged and wait for those before them.

use super::*;

/// What arrived behind a gap of its channel goes unread when the session ends: it is not acknowledged before what was sent before it.
/// spec: atp/acked-in-order
#[test]
fn an_ordered_message_is_acknowledged_after_those_before_it() {
    let mut bench = Bench::new();
    let sent: Vec<_> = (0..4).map(|_| (bench.push(16, 1_000), bench.packet(ROOM).0)).collect();
    let unordered: Vec<_> = (0..2).map(|_| (bench.push(100, 1_000), bench.packet(ROOM).0)).collect();
    bench.sender.on_acked(unordered[1].1);
    assert_eq!(bench.released(), [(unordered[1].0, Outcome::Acked)]);
    bench.sender.on_acked(sent[1].1);
    bench.sender.on_acked(sent[3].1);
    assert!(bench.released().is_empty());
    // It is not sent again here, whatever becomes of the others.
    bench.sender.on_lost(sent[0].1);
    assert_eq!(bench.packet(ROOM).2.len(), 1);
    assert!(!bench.sender.is_ready());
    bench.sender.on_acked(sent[0].1);
    let repeated = bench.released();
    assert!(repeated.is_empty(), "a span counts once, and this one was lost: {repeated:?}");
    let left: Vec<_> = bench.sender.into_undelivered().into_iter().map(|left| left.message.ticket).collect();
    assert_eq!(left, [sent[0].0, sent[1].0, sent[2].0, sent[3].0, unordered[0].0]);
}

/// spec: atp/acked-in-order
#[test]
fn a_gap_that_closes_or_is_given_up_frees_what_waited_behind_it() {
    let mut bench = Bench::new();
    let sent: Vec<_> = (0..4).map(|_| (bench.push(16, 1_000), bench.packet(ROOM).0)).collect();
    bench.sender.on_acked(sent[1].1);
    bench.sender.on_acked(sent[3].1);
    bench.sender.on_acked(sent[0].1);
    assert_eq!(bench.released(), [(sent[0].0, Outcome::Acked), (sent[1].0, Outcome::Acked)]);
    // The third is taken back: what waits behind it goes on when the peer knows.
    let block = bench.sender.cancel(ChannelId(16), sent[2].0).unwrap();
    bench.pool.give(block);
    assert!(bench.sender.cancel(ChannelId(16), sent[3].0).is_none(), "the peer has it");
    assert!(bench.released().is_empty());
    let skip = bench.packet(ROOM).0;
    bench.sender.on_acked(skip);
    assert_eq!(bench.released(), [(sent[3].0, Outcome::Acked)]);
    // A channel given up takes with it what waited.
    let last: Vec<_> = (0..2).map(|_| (bench.push(16, 1_000), bench.packet(ROOM).0)).collect();
    bench.sender.on_acked(last[1].1);
    bench.sender.on_channel_reset(ChannelId(16));
    let mut given_up = bench.released();
    given_up.sort_unstable_by_key(|(ticket, _)| *ticket);
    assert_eq!(given_up, [(last[0].0, Outcome::Abandoned), (last[1].0, Outcome::Abandoned)]);
    assert_eq!(bench.sender.queued_bytes(), 0);
}
