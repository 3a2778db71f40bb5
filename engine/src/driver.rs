//! The loop of a core: one shard, one socket, one set of rings. The same code on both back ends.
//!
//! In:    datagrams, letters, time.
//! Out:   datagrams, letters, deliveries.
//! Holds: handle everything that waits for one instant, drain the polls, then wait; no allocation, lock or
//!        system call per datagram.
//!
//! After a batch it spins for up to 50 us while the recent gaps between batches were shorter than that: a
//! sleeping thread costs 15-20 us to wake. It yields while it spins, because the application may share the core.

use std::sync::Arc;
use std::time::Duration;

use dunlin_codec::ids::{ChannelId, NodeId, SessionId};
use dunlin_shards::blocks::Block;
use dunlin_shards::event::{Event as ShardEvent, Ticket};
use dunlin_shards::mail::{self, Destination, Mail};
use dunlin_shards::session::aws_lc::AwsLc;
use dunlin_shards::shard::Shard;
use dunlin_shards::time::{Instant, Now, nanos_of};
use rtrb::{Consumer, Producer};

use crate::api::event::Event;
use crate::api::handler::{Handler, Reply, Verdict};
use crate::api::peer::{Channel, Peer, SendOptions, outgoing};
use crate::api::shared::{Answer, EngineShared, PeerShared};
use crate::clock::Clock;
use crate::config::Spin;
use crate::entropy::OsEntropy;
use crate::mailbox::{Delivery, Desk, lock};
use crate::socket::{Doorbell, Socket};

/// How long to spin after a batch at most.
const SPIN: Duration = Duration::from_micros(50);
/// How often the numbers are published while the shard is busy.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Letters taken per ring and turn.
const LETTERS_PER_TURN: usize = 1_024;
/// Trains given to the socket per turn.
const TRAINS_PER_TURN: usize = 32;

/// A shard's end of the rings with one other shard.
pub(crate) struct Neighbour {
    pub(crate) to: Producer<Mail>,
    pub(crate) from: Consumer<Mail>,
    pub(crate) doorbell: Doorbell,
}

/// Everything a core owns besides its socket.
pub(crate) struct Driver<H: Handler> {
    pub(crate) index: u8,
    pub(crate) shard: Shard<AwsLc, OsEntropy>,
    pub(crate) clock: Clock,
    pub(crate) desk: Desk,
    /// By shard index; None at our own.
    pub(crate) neighbours: Vec<Option<Neighbour>>,
    pub(crate) engine: Arc<EngineShared>,
    pub(crate) handler: H,
    pub(crate) spin: Spin,
    pub(crate) peers: Vec<Option<Arc<PeerShared>>>,
    pub(crate) pace: Pace,
}

/// When batches came lately, and when to report.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last_batch: Instant,
    gap: u64,
    reported: Instant,
    loops: u64,
    wakeups: u64,
}

impl Pace {
    /// Something happened: the gap since the last time counts for an eighth.
    fn on_batch(&mut self, now: Instant) {
        let gap = nanos_of(now.since(self.last_batch)).min(nanos_of(SPIN) * 4);
        self.gap = self.gap - self.gap / 8 + gap / 8;
        self.last_batch = now;
    }

    fn should_spin(&self, now: Instant, spin: Spin) -> bool {
        match spin {
            Spin::Off => false,
            Spin::Busy => true,
            Spin::Adaptive => self.gap < nanos_of(SPIN) && now.since(self.last_batch) < SPIN,
        }
    }
}

impl<H: Handler> Driver<H> {
    /// Runs until the engine stops.
    pub(crate) async fn run<S: Socket>(mut self, mut socket: S) {
        loop {
            let now = self.clock.now();
            let worked = self.turn(now, &mut socket);
            self.pace.loops += 1;
            if worked {
                self.pace.on_batch(now.instant);
            }
            if self.is_finished() {
                self.report(now.instant, &socket);
                return;
            }
            if now.instant.since(self.pace.reported) >= REPORT_EVERY {
                self.report(now.instant, &socket);
            }
            if worked {
                continue;
            }
            if self.pace.should_spin(now.instant, self.spin) {
                rustix::thread::sched_yield();
                continue;
            }
            self.sleep(&mut socket).await;
        }
    }

    /// One turn: everything that waits comes in, everything that is ready goes out. False: nothing happened.
    fn turn<S: Socket>(&mut self, now: Now, socket: &mut S) -> bool {
        let received = self.receive(now, socket);
        let letters = self.read_letters(now);
        let due = self.shard.poll_timeout().is_some_and(|(at, _)| at <= now.instant);
        if due {
            self.shard.handle_timeout(now);
        }
        self.deliver(now);
        let sent = self.transmit(now, socket);
        self.deliver(now);
        self.write_letters(now);
        received || letters || due || sent
    }

    fn receive<S: Socket>(&mut self, now: Now, socket: &mut S) -> bool {
        let shard = &mut self.shard;
        match socket.receive(|arrival, bytes| shard.handle_datagram(now, arrival, bytes)) {
            Ok(count) => count > 0,
            Err(error) => {
                tracing::warn!(shard = self.index, %error, "the socket cannot receive");
                false
            }
        }
    }

    fn read_letters(&mut self, now: Now) -> bool {
        let mut count = 0;
        for _ in 0..LETTERS_PER_TURN {
            let Ok(mail) = self.desk.letters.pop() else { break };
            self.shard.handle_mail(now, mail::From::Application, mail);
            count += 1;
        }
        for _ in 0..4 * LETTERS_PER_TURN {
            let Ok(mail) = self.desk.home.pop() else { break };
            self.shard.handle_mail(now, mail::From::Application, mail);
            count += 1;
        }
        for (index, neighbour) in self.neighbours.iter_mut().enumerate() {
            let Some(neighbour) = neighbour else { continue };
            for _ in 0..LETTERS_PER_TURN {
                let Ok(mail) = neighbour.from.pop() else { break };
                self.shard.handle_mail(now, mail::From::Shard(index as u8), mail);
                count += 1;
            }
        }
        count > 0
    }

    fn transmit<S: Socket>(&mut self, now: Now, socket: &mut S) -> bool {
        let mut count = 0;
        while count < TRAINS_PER_TURN {
            let Some(frame) = socket.frame() else { break };
            let Some(transmit) = self.shard.poll_transmit(now, frame) else { break };
            socket.transmit(&transmit);
            count += 1;
        }
        if let Err(error) = socket.flush() {
            tracing::warn!(shard = self.index, %error, "the socket cannot send");
        }
        while let Some((transmit, error)) = socket.poll_error() {
            self.shard.handle_transmit_error(now, &transmit, error);
        }
        count > 0
    }

    fn write_letters(&mut self, now: Now) {
        let mut rung = [false; 128];
        while let Some((Destination::Shard(shard), mail)) = self.shard.poll_mail() {
            let Some(Some(neighbour)) = self.neighbours.get_mut(usize::from(shard)) else { continue };
            match neighbour.to.push(mail) {
                Ok(()) => rung[usize::from(shard)] = true,
                Err(rtrb::PushError::Full(mail)) => self.shard.handle_undelivered(now, mail),
            }
        }
        for (index, neighbour) in self.neighbours.iter().enumerate() {
            if let (true, Some(neighbour)) = (rung[index], neighbour) {
                neighbour.doorbell.ring();
            }
        }
    }

    /// Takes events to where they belong: messages to the handler or the ring, releases to their owners.
    fn deliver(&mut self, now: Now) {
        while self.desk.deliveries.slots() > 0 {
            let Some(event) = self.shard.poll_event() else { break };
            match event {
                ShardEvent::Message { session, channel, block, .. } => {
                    self.on_message(now, session, channel, block);
                }
                ShardEvent::Released { session, released } => {
                    let bytes = released.block.len();
                    let _ = self.desk.returns.push(released.block);
                    if let Some(peer) = self.peer(session) {
                        peer.give_room(bytes);
                    }
                }
                other => self.on_notice(other),
            }
        }
    }

    fn on_message(&mut self, now: Now, session: SessionId, channel: ChannelId, block: Block) {
        let Some(peer) = self.peer(session).cloned() else {
            return self.shard.handle_mail(
                now,
                mail::From::Application,
                Mail::Consumed { session, channel, block },
            );
        };
        let shard = &mut self.shard;
        let mut send = |bytes: &[u8], options: SendOptions| answer(shard, now, session, bytes, options);
        let mut reply = Reply { peer: peer.id, send: &mut send };
        if self.handler.on_message(Channel(channel.0), &block, &mut reply) == Verdict::Handled {
            let mail = Mail::Consumed { session, channel, block };
            return self.shard.handle_mail(now, mail::From::Application, mail);
        }
        let bell = peer.clone();
        let _ = self.desk.deliveries.push(Delivery { peer, session, channel, block });
        bell.arrived.notify(1);
    }

    fn peer(&self, session: SessionId) -> Option<&Arc<PeerShared>> {
        self.peers.get(session.slot())?.as_ref()
    }

    fn admit(&mut self, session: SessionId, peer: Arc<PeerShared>) {
        let slot = session.slot();
        if self.peers.len() <= slot {
            self.peers.resize(slot + 1, None);
        }
        self.peers[slot] = Some(peer);
    }

    fn on_notice(&mut self, event: ShardEvent) {
        match event {
            ShardEvent::Connected { ticket, session, peer, instance, remote, early } => {
                lock(&self.engine.instances).insert(peer, instance);
                let peer = self.new_peer(peer, session, remote);
                self.engine.answer(ticket, Answer::Connected { peer, early });
            }
            ShardEvent::ConnectFailed { ticket, reason, .. } => {
                self.engine.answer(ticket, Answer::ConnectFailed(reason));
            }
            ShardEvent::Accepted { session, peer, remote } => {
                let peer = self.new_peer(peer, session, remote);
                self.engine.publish(Event::Accepted(Peer::new(peer)));
            }
            ShardEvent::Pong { ticket, round_trip, .. } => {
                self.engine.answer(ticket, Answer::Pong(round_trip));
            }
            ShardEvent::ChannelClosed { session, channel, code } => {
                if let Some(peer) = self.peer(session).cloned() {
                    let channel = Channel(channel.0);
                    self.engine.publish(Event::ChannelClosed { peer: Peer::new(peer), channel, code });
                }
            }
            ShardEvent::Roamed { session, remote } => {
                if let Some(peer) = self.peer(session).cloned() {
                    *lock(&peer.remote) = remote;
                    self.engine.publish(Event::Roamed { peer: Peer::new(peer), remote });
                }
            }
            ShardEvent::Closed { session, reason, .. } => self.on_closed(session, reason),
            other => self.on_succession(other),
        }
    }
}
