//! One node sends as much as it may: what the stories of congestion and the table of goodput measure.

use core::time::Duration;

use dunlin_shards::arq::congestion::Algorithm;
use dunlin_shards::limits::Limits;
use dunlin_tests::ledger::Manner;
use dunlin_tests::node::NodeSettings;
use dunlin_tests::{NodeIndex, World};

use crate::{millis, seconds};

/// Bytes of each message.
const MESSAGE_LEN: usize = 16 << 10;
/// How often the application looks whether it has enough waiting.
const FEED_EVERY: Duration = Duration::from_millis(5);
/// The least queue of a link: one train and a little.
const QUEUE_LEN_MIN: usize = 128 << 10;

/// A link between two nodes, the same in both directions but for its rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Bits a second of what the bulk takes.
    pub(crate) rate: u64,
    /// Bits a second of the way back.
    pub(crate) rate_back: u64,
    /// There and back, without queues.
    pub(crate) round_trip: Duration,
    /// Datagrams lost of a thousand, in each direction.
    pub(crate) loss_permille: u32,
}

impl Line {
    /// With a rate in Mbit/s and a round trip in milliseconds.
    pub(crate) fn new(mbits: u64, round_trip_ms: u64) -> Self {
        let rate = mbits * 1_000_000;
        Self { rate, rate_back: rate, round_trip: millis(round_trip_ms), loss_permille: 0 }
    }

    /// Bytes that a round trip holds.
    pub(crate) fn product(&self) -> usize {
        (u128::from(self.rate) * self.round_trip.as_nanos() / 8_000_000_000) as usize
    }

    fn lay(&self, world: &mut World, near: NodeIndex, far: NodeIndex) {
        let line = *self;
        world.both(near, far, |conditions| {
            conditions.delay = line.round_trip / 2;
            conditions.rate = Some(line.rate);
            conditions.queue_len = line.product().max(QUEUE_LEN_MIN);
            conditions.loss_permille = line.loss_permille;
        });
        world.link(far, near).conditions.rate = Some(line.rate_back);
    }
}

/// A node with the limits of a real one.
fn roomy(congestion: Algorithm) -> NodeSettings {
    let limits = Limits { sessions: 256, ..Limits::default() };
    let mut settings = NodeSettings { limits, ..NodeSettings::default() };
    settings.sessions.congestion = congestion;
    settings
}

/// Somebody who always has something to send to somebody.
pub(crate) struct Bulk {
    near: NodeIndex,
    far: NodeIndex,
    /// Bytes that it keeps waiting or under way.
    ahead: usize,
    sent: u64,
    bytes: Vec<u8>,
}

impl Bulk {
    /// Who sends and who receives.
    pub(crate) fn ends(&self) -> (NodeIndex, NodeIndex) {
        (self.near, self.far)
    }

    /// Two nodes over a line, with a session, the first of which has much to say. CUBIC.
    pub(crate) fn over(world: &mut World, line: &Line) -> Self {
        Self::by(Algorithm::Cubic, world, line)
    }

    /// The same with another control of congestion.
    pub(crate) fn by(congestion: Algorithm, world: &mut World, line: &Line) -> Self {
        world.keeps_received = false;
        let near = world.add_node_with(roomy(congestion));
        let far = world.add_node_with(roomy(congestion));
        line.lay(world, near, far);
        world.join(near, far);
        Self::between(near, far, line)
    }

    /// More on a line that exists.
    pub(crate) fn between(near: NodeIndex, far: NodeIndex, line: &Line) -> Self {
        let ahead = 4 * line.product() + (2 << 20);
        Self { near, far, ahead, sent: 0, bytes: vec![0x5A; MESSAGE_LEN] }
    }

    /// Bytes that the receiver's application has.
    pub(crate) fn delivered(&self, world: &World) -> u64 {
        world.stats(self.far).messages_delivered * MESSAGE_LEN as u64
    }

    fn feed(&mut self, world: &mut World) {
        while self.sent - self.delivered(world) < self.ahead as u64 {
            self.bytes[..8].copy_from_slice(&self.sent.to_be_bytes());
            world.send_with(self.near, self.far, Manner::default().on(16), &self.bytes);
            self.sent += MESSAGE_LEN as u64;
        }
    }

    /// Sends for so long. Bits a second that arrived meanwhile.
    pub(crate) fn run(&mut self, world: &mut World, time: Duration) -> u64 {
        run_all(world, &mut [self], time)[0]
    }
}

/// Several at once: bits a second that arrived of each.
pub(crate) fn run_all(world: &mut World, flows: &mut [&mut Bulk], time: Duration) -> Vec<u64> {
    let before: Vec<u64> = flows.iter().map(|flow| flow.delivered(world)).collect();
    let end = world.now() + time;
    while world.now() < end {
        for flow in flows.iter_mut() {
            flow.feed(world);
        }
        let left = end - world.now();
        world.run_for(left.min(FEED_EVERY));
    }
    let nanos = time.as_nanos();
    let rate = |(flow, before): (&mut &mut Bulk, u64)| {
        (u128::from(flow.delivered(world) - before) * 8_000_000_000 / nanos) as u64
    };
    flows.iter_mut().zip(before).map(rate).collect()
}

/// Long enough for any flow to find its rate on a line: slow start takes a dozen round trips.
pub(crate) fn warm_up(line: &Line) -> Duration {
    line.round_trip * 20 + millis(300)
}

/// Everything that was sent arrives when the line is left alone: nothing is lost for good.
pub(crate) fn finish(world: &mut World) {
    assert!(world.run_until(seconds(600), World::is_settled), "{} open", world.ledger().open());
    world.assert_nothing_lost();
}
