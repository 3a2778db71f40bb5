//! Two endpoints, a stream of bytes each way, and a pipe that loses, repeats, delays and reorders as the input says.
//!
//! In:    a byte of choices, one of sizes, then a fate for each datagram; behind the last fate the pipe is perfect.
//! Out:   a panic when a byte arrives out of order, twice, changed, or never.
//! Holds: behind the last fate nothing is lost. A session ends only when at least six datagrams were lost: eight probes or
//!        the Finishes of ten seconds; what arrived before that was in order, once and unchanged all the same.

use core::time::Duration;
use std::collections::BTreeMap;

use dunlin_shards::session::counting::{Counting, forget_sealed};

use super::network::{Datagram, Manner, Network};
use super::node::Choice;

/// The sizes of a stream's pieces, in bytes.
const PIECES: [usize; 4] = [50, 1_000, 5_000, 60_000];
/// Pieces of a stream.
const PIECE_COUNT: usize = 12;
/// Datagrams of a direction lost in a row at most.
const LOST_IN_A_ROW_MAX: u32 = 2;
/// Fewer losses end no session.
const LOST_TO_END_MIN: u32 = 6;
/// The pipe's own delay, and the step of the fates.
const STEP: Duration = Duration::from_millis(7);
/// Everything has arrived after so long, however bad the pipe was: losses are bounded, and so are the waits for them.
const TIME_MAX: Duration = Duration::from_secs(300);
/// Instants of a run at most.
const INSTANTS_MAX: u32 = 200_000;

/// Datagrams under way, by the moment of their arrival in nanoseconds and their order.
type Pipe = BTreeMap<(u64, u64), Datagram>;

struct Fates<'a> {
    rest: &'a [u8],
    lost_in_a_row: [u32; 2],
    lost: u32,
    order: u64,
}

impl Fates<'_> {
    /// Puts a datagram into the pipe: never, once or twice.
    fn carry(&mut self, pipe: &mut Pipe, now: u64, direction: usize, datagram: Datagram) {
        let fate = self.rest.split_off_first().copied().unwrap_or_default();
        let lost = &mut self.lost_in_a_row[direction];
        let copies = match fate & 7 {
            1 | 2 if *lost < LOST_IN_A_ROW_MAX => 0,
            3 => 2,
            _ => 1,
        };
        *lost = if copies == 0 { *lost + 1 } else { 0 };
        self.lost += u32::from(copies == 0);
        let steps = if fate & 7 >= 4 { u32::from(fate >> 3) } else { 0 };
        for copy in 0..copies {
            self.order += 1;
            let delay = STEP * (1 + steps + copy * u32::from(fate >> 3));
            pipe.insert((now + delay.as_nanos() as u64, self.order), datagram.clone());
        }
    }
}

/// A stream each way through a bad pipe.
pub fn pipe(input: &[u8]) {
    let Some(([choice, sizes], fates)) = input.split_first_chunk() else { return };
    forget_sealed();
    // Short idle times would end a session rightly while the pipe holds everything back.
    let mut network = Network::<Counting>::new(&[1, 2], Choice(choice & !0b10_0010));
    let mut fates = Fates { rest: fates, lost_in_a_row: [0; 2], lost: 0, order: 0 };
    let early = Manner { channel: 0, len: PIECES[0], once: true };
    network.connect(0, 1, sizes >> 7 == 0, (sizes >> 6 & 1 == 1).then_some(early));
    let early_count = network.records.all.len();
    let mut under_way = Pipe::new();
    let mut is_sent = [false; 2];
    let begin = network.now().instant;
    for _ in 0..INSTANTS_MAX {
        network.settle();
        for node in 0..2 {
            if let (Some(&session), false) = (network.nodes[node].sessions.first(), is_sent[node]) {
                is_sent[node] = true;
                let len = PIECES[usize::from(sizes >> (2 * node) & 3)];
                for _ in 0..PIECE_COUNT {
                    network.send(node, session, Manner { channel: 0, len, once: true });
                }
            }
            network.read(node, usize::MAX);
        }
        network.settle();
        let now = network.now().instant;
        while let Some(datagram) = network.wire.pop_front() {
            let direction = usize::from(datagram.from == network.nodes[1].address);
            fates.carry(&mut under_way, now.as_nanos(), direction, datagram);
        }
        if network.endings > 0 {
            assert!(fates.lost >= LOST_TO_END_MIN, "a session ended after {} losses", fates.lost);
            return;
        }
        if is_sent == [true; 2] && network.records.open() == 0 {
            break;
        }
        assert!(now.since(begin) < TIME_MAX, "the stream does not arrive: {:?}", network.records.all);
        let arrives = under_way.first_key_value().map(|((at, _), _)| *at);
        let timer = network.next_timer().map(|at| at.as_nanos());
        let next = arrives.into_iter().chain(timer).min().expect("somebody waits for something");
        network.pass(Duration::from_nanos(next.saturating_sub(now.as_nanos())), true);
        while let Some(first) = under_way.first_entry().filter(|first| first.key().0 <= next) {
            network.arrive(first.remove(), false);
        }
    }
    assert_eq!(network.records.all.len(), early_count + 2 * PIECE_COUNT);
    for (number, record) in network.records.all.iter().enumerate() {
        assert_eq!(record.delivered, 1, "piece {number} arrived once: {record:?}");
    }
    network.records.assert_settled();
}
