//! The far side of many sessions: messages to randomly drawn peers on command, or the same as bare datagrams; and what
//! verifying signatures alone takes there.
//!
//! In:    an [`Order`] from one peer; all other peers.
//! Out:   what left, and what it took of this process.
//! Holds: nothing goes anywhere but to where a session of ours is: an order names no address.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dunlin::{Channel, Peer, SendError, SendOptions};
use dunlin_shards::gossip::check_signature;
use dunlin_shards::rng::Rng;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, addr::SocketAddrArg, sendmmsg};
use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::crowd::RAW;
use crate::host;
use crate::messages::{HEAD_LEN, LOAD, SPRAY, message, number, set_number};
use crate::rumours::Origins;
use crate::talk::network;

/// Reliable messages that may be on their way at most: they wait for acknowledgements, up to 25 ms.
const WINDOW: usize = 16_384;
/// Unreliable ones that may wait for the shard at most.
const QUEUE: usize = 4_096;
/// Datagrams of a system call.
const BATCH: usize = 64;
/// How long the last acknowledgements may take.
const REST: Duration = Duration::from_secs(5);
/// Turns in which others may run before this thread sleeps.
const YIELDS: u32 = 16;
/// How long it sleeps then.
const NAP: Duration = Duration::from_micros(50);
/// An order's longest time: whoever asks for more is mistaken.
const SPAN_MAX: Duration = Duration::from_secs(3_600);
/// The longest datagram or message of an order.
const SIZE_MAX: usize = 65_000;
/// The channel of unordered messages.
const CHANNEL: Channel = Channel(17);
/// Rumours that are verified again and again: more origins than a cache of keys has.
const VERIFIED_COUNT: usize = 256;
/// Where the draws begin.
const SEED: u64 = 1;

/// How messages travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    Unreliable,
    Reliable,
    /// No messages: datagrams by sendmmsg(2), each by itself.
    Raw,
    /// Nothing is sent: signatures of rumours are verified, one after the other.
    Verify,
}

/// What is to be sent, and how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Order {
    pub(crate) way: Way,
    pub(crate) span: Duration,
    /// Bytes of a message; raw: of a datagram; verifying: of a rumour's payload.
    pub(crate) size: usize,
}

impl Order {
    /// The message that says so.
    pub(crate) fn to_message(self) -> Vec<u8> {
        let mut bytes = message(SPRAY, HEAD_LEN + 8);
        set_number(&mut bytes, self.span.as_millis() as u64);
        bytes[HEAD_LEN..].fill(0);
        bytes[HEAD_LEN] = self.way as u8;
        bytes[HEAD_LEN + 4..].copy_from_slice(&(self.size as u32).to_le_bytes());
        bytes
    }

    /// Nothing when it is none, or asks for too much.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (way, size) = (*bytes.get(HEAD_LEN)?, bytes.get(HEAD_LEN + 4..HEAD_LEN + 8)?);
        let way = [Way::Unreliable, Way::Reliable, Way::Raw, Way::Verify]
            .into_iter()
            .find(|known| *known as u8 == way)?;
        let size = u32::from_le_bytes(size.try_into().ok()?) as usize;
        let span = Duration::from_millis(number(bytes));
        let is_sound = (HEAD_LEN..=SIZE_MAX).contains(&size) && span <= SPAN_MAX;
        is_sound.then_some(Self { way, span, size })
    }
}

/// What became of an order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Sprayed {
    /// Peers that messages were drawn for.
    pub(crate) peers: u64,
    /// Messages that left; verifying: signatures that held.
    pub(crate) sent: u64,
    /// Of the reliable ones: not acknowledged in the end.
    pub(crate) unacknowledged: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) elapsed_ns: u64,
    /// Why it ended early, if it did.
    pub(crate) fault: Option<String>,
}

/// Does what was ordered.
pub(crate) fn spray(peers: &[Peer], order: &Order) -> Sprayed {
    let mut sprayed = Sprayed { peers: peers.len() as u64, ..Sprayed::default() };
    if order.way == Way::Verify {
        return verify(order);
    }
    if peers.is_empty() {
        sprayed.fault = Some("there is no session to send to".to_owned());
        return sprayed;
    }
    let (start, cpu_ns) = (Instant::now(), host::cpu_ns());
    let result = match order.way {
        Way::Raw => flood(peers, order, &mut sprayed.sent),
        way => send(peers, (order, way == Way::Reliable), &mut sprayed),
    };
    sprayed.fault = result.err().map(|fault| fault.to_string());
    sprayed.cpu_ns = host::cpu_ns() - cpu_ns;
    sprayed.elapsed_ns = start.elapsed().as_nanos() as u64;
    sprayed
}

/// What checking the signatures of rumours takes, and nothing else of them.
fn verify(order: &Order) -> Sprayed {
    let network = network();
    let mut rumours = Origins::new(VERIFIED_COUNT).say(&network, (VERIFIED_COUNT, order.size), 0);
    let mut sprayed = Sprayed::default();
    let (start, cpu_ns) = (Instant::now(), host::cpu_ns());
    let mut copies: Vec<Vec<u8>> = rumours.drain(..).map(|rumour| rumour.to_vec()).collect();
    while start.elapsed() < order.span {
        for copy in &mut copies {
            sprayed.sent += u64::from(check_signature(&network, copy).is_ok());
        }
    }
    sprayed.cpu_ns = host::cpu_ns() - cpu_ns;
    sprayed.elapsed_ns = start.elapsed().as_nanos() as u64;
    sprayed
}

fn send(peers: &[Peer], (order, reliable): (&Order, bool), sprayed: &mut Sprayed) -> Result<(), Fault> {
    let options = SendOptions { channel: CHANNEL, ordered: false, reliable, ..SendOptions::default() };
    let mut load = message(LOAD, order.size);
    let mut rng = Rng::from_number(SEED);
    let window = if reliable { WINDOW } else { QUEUE };
    let mut under_way: VecDeque<usize> = VecDeque::with_capacity(window);
    let start = Instant::now();
    let end = start + order.span;
    while Instant::now() < end {
        if under_way.len() == window && !settle(peers, &mut under_way, end) {
            break;
        }
        let at = draw(&mut rng, peers.len());
        set_number(&mut load, sprayed.sent);
        match peers[at].try_send_with(&load, options) {
            Ok(_) => {
                sprayed.sent += 1;
                under_way.push_back(at);
            }
            // The ring is full: the shard has work for a while.
            Err(SendError::WouldBlock) => std::thread::yield_now(),
            Err(error) => return Err(format!("a peer takes no more: {error}").into()),
        }
    }
    let rest = Instant::now() + REST;
    while !under_way.is_empty() && settle(peers, &mut under_way, rest) {}
    sprayed.unacknowledged = under_way.len() as u64;
    Ok(())
}

/// Until the oldest message is done with; false when that takes too long.
fn settle(peers: &[Peer], under_way: &mut VecDeque<usize>, until: Instant) -> bool {
    let Some(oldest) = under_way.front().copied() else { return true };
    let mut turns = 0;
    while peers[oldest].queued() > 0 && !peers[oldest].is_closed() {
        turns += 1;
        if turns < YIELDS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(NAP);
            if Instant::now() >= until {
                return false;
            }
        }
    }
    under_way.pop_front();
    true
}

/// What the kernel alone can do.
fn flood(peers: &[Peer], order: &Order, sent: &mut u64) -> Result<(), Fault> {
    let remotes: Vec<SocketAddr> = peers.iter().map(Peer::remote).collect();
    let targets: Vec<SocketAddrAny> = remotes.iter().map(SocketAddrArg::as_any).collect();
    let any = match remotes[0] {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let socket = UdpSocket::bind(any)?;
    let load = vec![RAW; order.size];
    let slices = [IoSlice::new(&load)];
    let mut rng = Rng::from_number(SEED);
    let start = Instant::now();
    while start.elapsed() < order.span {
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BATCH] =
            std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut batch: Vec<MMsgHdr<'_>> = Vec::with_capacity(BATCH);
        for control in &mut controls {
            let target = &targets[draw(&mut rng, targets.len())];
            batch.push(MMsgHdr::new_with_addr(target, &slices, control));
        }
        match sendmmsg(&socket, &mut batch, SendFlags::empty()) {
            Ok(count) => *sent += count as u64,
            // Told of an earlier datagram that found nobody.
            Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("sendmmsg: {error}").into()),
        }
    }
    Ok(())
}

/// One of so many.
fn draw(rng: &mut Rng, count: usize) -> usize {
    rng.below(count as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_travels_and_a_senseless_one_is_none() {
        for way in [Way::Unreliable, Way::Reliable, Way::Raw, Way::Verify] {
            let order = Order { way, span: Duration::from_millis(700), size: 1_024 };
            assert_eq!(Order::read(&order.to_message()), Some(order));
        }
        let plain = Order { way: Way::Raw, span: Duration::from_secs(1), size: 100 };
        let long = Order { span: SPAN_MAX * 2, ..plain };
        for senseless in [Order { size: SIZE_MAX + 1, ..plain }, Order { size: 1, ..plain }, long] {
            assert_eq!(Order::read(&senseless.to_message()), None, "{senseless:?}");
        }
        let mut unknown = plain.to_message();
        unknown[HEAD_LEN] = 9;
        assert_eq!((Order::read(&unknown), Order::read(&unknown[..20])), (None, None));
    }

    #[test]
    fn draws_reach_everybody() {
        let mut rng = Rng::from_number(SEED);
        let mut drawn = [0; 7];
        (0..7_000).for_each(|_| drawn[draw(&mut rng, 7)] += 1);
        assert!(drawn.iter().all(|count| (800..1_200).contains(count)), "{drawn:?}");
    }
}
