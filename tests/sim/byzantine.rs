//! Peers with valid keys that do not play by the rules (A3).
//!
//! In:    what the honest code under them wants to send, what arrives, time.
//! Out:   what goes out instead.
//! Holds: a Byzantine node is a production shard whose output is changed on its way out: it knows everything that an honest one
//!        knows. All its chance comes from the world's generator.

use core::time::Duration;
use std::net::SocketAddr;

use dunlin_shards::rng::Rng;

use crate::lies::{self, Lie};

/// What a Byzantine node sends, and what it may draw from.
pub struct Outbox<'a> {
    /// The world's chance.
    pub chance: &'a mut Rng,
    /// Addresses of everybody else.
    pub others: &'a [SocketAddr],
    pub(crate) sends: Vec<(Duration, SocketAddr, Vec<u8>)>,
}

impl<'a> Outbox<'a> {
    /// An empty one.
    pub fn new(chance: &'a mut Rng, others: &'a [SocketAddr]) -> Self {
        Self { chance, others, sends: Vec::new() }
    }

    /// Sends a datagram after a while.
    pub fn send(&mut self, after: Duration, to: SocketAddr, bytes: Vec<u8>) {
        self.sends.push((after, to, bytes));
    }

    fn somebody(&mut self) -> Option<SocketAddr> {
        let count = self.others.len() as u64;
        (count > 0).then(|| self.others[self.chance.below(count) as usize])
    }
}

/// How a node misbehaves.
pub trait Byzantine {
    /// What it seals instead of the truth, and in how many of a thousand packets.
    fn lie(&self) -> Option<(Lie, u32)> {
        None
    }

    /// One of its own datagrams is about to leave: it sends that, something else, or nothing.
    fn on_send(&mut self, to: SocketAddr, datagram: &[u8], out: &mut Outbox<'_>) {
        out.send(Duration::ZERO, to, datagram.to_vec());
    }

    /// A datagram came in.
    fn on_arrival(&mut self, _from: SocketAddr, _datagram: &[u8]) {}

    /// Its time has come: it sends what it likes.
    fn on_tick(&mut self, _out: &mut Outbox<'_>) {}

    /// How often its time comes; None: never.
    fn tick(&self) -> Option<Duration> {
        None
    }

    /// Its application reads what it gets.
    fn reads(&self) -> bool {
        true
    }
}

/// The kinds of misbehaviour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Vice {
    /// Acknowledges what was never sent.
    AckAhead,
    /// Acknowledges what did not arrive.
    AckGaps,
    /// Sends the same piece with other bytes.
    Equivocate,
    /// Sends single bytes of long messages.
    SprayGaps,
    /// Claims more than it was credited.
    Overclaim,
    /// Gives up channels, skips messages, grants and probes.
    Disturb,
    /// Seals noise.
    Scramble,
    /// Does not send a good part of what it should.
    Withhold,
    /// Sends what it or others sent once more, to whomever.
    Replay,
    /// Sends as much as it can.
    Flood,
    /// Never reads.
    Deaf,
}

impl Vice {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AckAhead,
        Self::AckGaps,
        Self::Equivocate,
        Self::SprayGaps,
        Self::Overclaim,
        Self::Disturb,
        Self::Scramble,
        Self::Withhold,
        Self::Replay,
        Self::Flood,
        Self::Deaf,
    ];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AckAhead => "byzantine: acknowledges ahead",
            Self::AckGaps => "byzantine: acknowledges gaps",
            Self::Equivocate => "byzantine: equivocates",
            Self::SprayGaps => "byzantine: sprays gaps",
            Self::Overclaim => "byzantine: overclaims",
            Self::Disturb => "byzantine: disturbs",
            Self::Scramble => "byzantine: scrambles",
            Self::Withhold => "byzantine: withholds",
            Self::Replay => "byzantine: replays",
            Self::Flood => "byzantine: floods",
            Self::Deaf => "byzantine: never reads",
        }
    }

    /// A node's behaviour.
    #[must_use]
    pub fn behaviour(self) -> Box<dyn Byzantine> {
        let liar = |lie: Lie, permille: u32| Box::new(Liar { lie, permille });
        match self {
            Self::AckAhead => liar(lies::acknowledge_ahead, 30),
            Self::AckGaps => liar(lies::acknowledge_gaps, 200),
            Self::Equivocate => liar(lies::equivocate, 200),
            Self::SprayGaps => liar(lies::spray_gaps, 300),
            Self::Overclaim => liar(lies::overclaim, 20),
            Self::Disturb => liar(lies::disturb, 200),
            Self::Scramble => liar(lies::scramble, 20),
            Self::Withhold => Box::new(Withholder),
            Self::Replay => Box::new(Replayer::default()),
            Self::Flood => Box::new(Flooder::default()),
            Self::Deaf => Box::new(Deaf),
        }
    }
}

struct Liar {
    lie: Lie,
    permille: u32,
}

impl Byzantine for Liar {
    fn lie(&self) -> Option<(Lie, u32)> {
        Some((self.lie, self.permille))
    }
}

struct Withholder;

impl Byzantine for Withholder {
    fn on_send(&mut self, to: SocketAddr, datagram: &[u8], out: &mut Outbox<'_>) {
        // Handshakes get through, so that there is something to withhold afterwards.
        let is_sealed = datagram.first().is_some_and(|first| first & 0x80 != 0);
        if !is_sealed || out.chance.below(10) < 3 {
            out.send(Duration::ZERO, to, datagram.to_vec());
        }
    }
}

/// Datagrams that a replayer remembers.
const REMEMBERED: usize = 64;

#[derive(Default)]
struct Replayer {
    seen: Vec<Vec<u8>>,
    next: usize,
}

impl Replayer {
    fn remember(&mut self, datagram: &[u8]) {
        if self.seen.len() < REMEMBERED {
            self.seen.push(datagram.to_vec());
        } else {
            self.seen[self.next % REMEMBERED] = datagram.to_vec();
        }
        self.next += 1;
    }
}

impl Byzantine for Replayer {
    fn on_send(&mut self, to: SocketAddr, datagram: &[u8], out: &mut Outbox<'_>) {
        self.remember(datagram);
        out.send(Duration::ZERO, to, datagram.to_vec());
        if out.chance.once_in(3) {
            let after = Duration::from_millis(out.chance.below(2_000));
            out.send(after, to, datagram.to_vec());
        }
    }

    fn on_arrival(&mut self, _from: SocketAddr, datagram: &[u8]) {
        self.remember(datagram);
    }

    fn on_tick(&mut self, out: &mut Outbox<'_>) {
        for _ in 0..4 {
            let (Some(to), false) = (out.somebody(), self.seen.is_empty()) else { return };
            let which = out.chance.below(self.seen.len() as u64) as usize;
            out.send(Duration::ZERO, to, self.seen[which].clone());
        }
    }

    fn tick(&self) -> Option<Duration> {
        Some(Duration::from_millis(50))
    }
}

/// Datagrams of a flood at a time.
const FLOOD: u64 = 40;

#[derive(Default)]
struct Flooder {
    /// The last Hello and the last sealed packet that it sent, to be changed and sent again.
    models: [Option<(SocketAddr, Vec<u8>)>; 2],
}

impl Byzantine for Flooder {
    fn on_send(&mut self, to: SocketAddr, datagram: &[u8], out: &mut Outbox<'_>) {
        let is_sealed = datagram.first().is_some_and(|first| first & 0x80 != 0);
        self.models[usize::from(is_sealed)] = Some((to, datagram.to_vec()));
        out.send(Duration::ZERO, to, datagram.to_vec());
    }

    fn on_tick(&mut self, out: &mut Outbox<'_>) {
        for _ in 0..out.chance.below(FLOOD) {
            let Some(somebody) = out.somebody() else { return };
            let (to, bytes) = match out.chance.below(4) {
                0 => {
                    let mut junk = vec![0; 16 + out.chance.below(1_200) as usize];
                    out.chance.fill(&mut junk);
                    (somebody, junk)
                }
                which => match &self.models[usize::from(which != 1)] {
                    Some((to, model)) => {
                        let mut forged = model.clone();
                        let last = forged.len() - 1;
                        // Behind the session id and mac1's cover: the costly check finds it out.
                        forged[last] ^= 1 + out.chance.below(255) as u8;
                        (*to, forged)
                    }
                    None => continue,
                },
            };
            out.send(Duration::ZERO, to, bytes);
        }
    }

    fn tick(&self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }
}

struct Deaf;

impl Byzantine for Deaf {
    fn reads(&self) -> bool {
        false
    }
}
