//! What an input means to a run: a list of operations, four bytes each.
//!
//! In:    bytes.
//! Out:   operations, and after `Inject` the bytes that it takes along.
//! Holds: any bytes are a list; a number keeps its meaning for ever, so that committed inputs do.

use core::time::Duration;

use dunlin_codec::ids::PacketNumber;
use dunlin_codec::sealed::Header;
use dunlin_shards::event::Ticket;
use dunlin_shards::mail::Mail;
use dunlin_shards::route::{Ecn, TransmitError};
use dunlin_shards::session::crypto::Crypto;

use super::network::{DELAY, Datagram, Manner, Network};

/// Bytes of an operation.
pub const OPERATION_LEN: usize = 4;
/// Operations of a run at most: what comes behind is left out.
const OPERATIONS_MAX: usize = 400;
/// What a message's size can be, in bytes.
const LENGTHS: [usize; 8] = [4, 60, 700, 1_150, 3_000, 20_000, 100_000, 1_000_000];

/// What happens next. Each takes three numbers of a byte, named in its line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Operation {
    /// All that waits arrives, 5 ms pass, and so on: so many times.
    Rounds = 0,
    /// A node calls another: from, to, 1 by identity and 2 with early data.
    Connect = 1,
    /// A message: from, which of its sessions, channel in the low four bits and size above.
    Send = 2,
    /// A datagram arrives: which.
    Deliver = 3,
    /// It is lost.
    Drop = 4,
    /// It arrives and stays on the wire.
    Duplicate = 5,
    /// Bits of it are turned over: which, where in a 256th of its length, which bits.
    Corrupt = 6,
    /// It loses its end: which, where in a 256th of its length.
    Truncate = 7,
    /// It comes from another address: which, whose (3 and above: nobody's).
    Spoof = 8,
    /// It arrives at another shard than its own: which.
    Misroute = 9,
    /// A router marks it: which.
    Mark = 10,
    /// Time passes: 2^a microseconds times 1 + b / 256, c odd for one leap.
    Pass = 11,
    /// A node gets another address: which.
    Roam = 12,
    /// A session is closed: whose, which.
    Close = 13,
    /// A node closes everything in good order: which.
    Shutdown = 14,
    /// An application reads: whose, how many messages.
    Read = 15,
    /// A round trip is measured: whose, which session.
    Ping = 16,
    /// A message is taken back: whose session, which one, its number from the last one.
    Cancel = 17,
    /// A node is restarted: which.
    Restart = 18,
    /// The next train meets an error: whose, which.
    Refuse = 19,
    /// Letters between shards find their rings full: how many.
    FullRings = 20,
    /// A sealed packet of the bytes that follow, up to 255: whose session, which one in the low four bits and packet number
    /// above, how many bytes. For runs whose peers lie.
    Inject = 21,
    /// Everything on the wire is lost.
    Cut = 22,
    /// Many messages at once: from, which of its sessions, channel in the low four bits and how many above.
    Burst = 23,
}

impl Operation {
    const ALL: [Self; 24] = [
        Self::Rounds,
        Self::Connect,
        Self::Send,
        Self::Deliver,
        Self::Drop,
        Self::Duplicate,
        Self::Corrupt,
        Self::Truncate,
        Self::Spoof,
        Self::Misroute,
        Self::Mark,
        Self::Pass,
        Self::Roam,
        Self::Close,
        Self::Shutdown,
        Self::Read,
        Self::Ping,
        Self::Cancel,
        Self::Restart,
        Self::Refuse,
        Self::FullRings,
        Self::Inject,
        Self::Cut,
        Self::Burst,
    ];

    fn of(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte & 31)).copied().unwrap_or(Self::Deliver)
    }
}

/// An input, for seeds: what a run's first byte chooses, then operations.
#[must_use]
pub fn encode(choice: u8, operations: &[(Operation, u8, u8, u8)]) -> Vec<u8> {
    let mut input = vec![choice];
    for (operation, a, b, c) in operations {
        input.extend_from_slice(&[*operation as u8, *a, *b, *c]);
    }
    input
}

/// Does what the input says, and settles after each operation.
pub(crate) fn perform<C: Crypto>(network: &mut Network<C>, input: &[u8]) {
    let mut rest = input;
    for _ in 0..OPERATIONS_MAX {
        let Some((&[kind, a, b, c], behind)) = rest.split_first_chunk::<OPERATION_LEN>() else { return };
        rest = behind;
        let operation = Operation::of(kind);
        if operation == Operation::Inject {
            let (bytes, behind) = rest.split_at(usize::from(c).min(rest.len()));
            rest = behind;
            inject(network, a, b, bytes);
        } else {
            on_operation(network, operation, [a, b, c]);
        }
        network.settle();
    }
}

fn on_operation<C: Crypto>(network: &mut Network<C>, operation: Operation, [a, b, c]: [u8; 3]) {
    let node = usize::from(a) % network.nodes.len();
    match operation {
        Operation::Connect => {
            let to = usize::from(b) % network.nodes.len();
            let early = Manner { channel: 0, len: LENGTHS[usize::from(c >> 2) % 4], once: false };
            network.connect(node, to, c & 1 == 1, (c & 2 == 2).then_some(early));
        }
        Operation::Pass => {
            let base = 1_u64 << (a % 32);
            let time = Duration::from_micros(base + base * u64::from(b) / 256);
            network.pass(time, c & 1 == 1);
        }
        Operation::Rounds => {
            for _ in 0..=a % 32 {
                network.arrive_all();
                network.pass(DELAY, false);
            }
        }
        Operation::Roam => {
            let address = &mut network.nodes[node].address;
            address.set_port(address.port().wrapping_add(1).max(1));
        }
        Operation::Restart => {
            network.nodes[node].restart();
            network.records.on_restart(node);
        }
        Operation::Refuse => {
            let errors = [TransmitError::TooLong, TransmitError::NoBuffers, TransmitError::Refused];
            network.refusal = Some((node, errors[usize::from(b) % errors.len()]));
        }
        Operation::FullRings => network.full_rings = a.into(),
        Operation::Cut => network.wire.clear(),
        Operation::Read => network.read(node, b.into()),
        Operation::Shutdown => {
            for shard in 0..network.nodes[node].shards.len() {
                network.post(node, shard as u8, Mail::Shutdown);
            }
        }
        Operation::Send
        | Operation::Burst
        | Operation::Close
        | Operation::Ping
        | Operation::Cancel
        | Operation::Inject => on_session(network, operation, (node, b, c)),
        _ => on_wire(network, operation, [a, b, c]),
    }
}

/// What concerns a session of a node.
fn on_session<C: Crypto>(network: &mut Network<C>, operation: Operation, (node, b, c): (usize, u8, u8)) {
    let sessions = &network.nodes[node].sessions;
    let Some(&session) = sessions.get(usize::from(b) % sessions.len().max(1)) else { return };
    let shard = session.shard();
    match operation {
        Operation::Send => {
            let len = LENGTHS[usize::from(c >> 4) % LENGTHS.len()];
            let manner = Manner { channel: u32::from(c & 15), len, once: c >> 7 == 1 };
            network.send(node, session, manner);
        }
        Operation::Burst => {
            for _ in 0..=(c >> 4) * 4 {
                network.send(node, session, Manner { channel: u32::from(c & 15), len: 64, once: false });
            }
        }
        Operation::Close => network.post(node, shard, Mail::Close { session, code: c.into() }),
        Operation::Ping => network.post(node, shard, Mail::Ping { session, ticket: Ticket(u64::from(c)) }),
        _ => {
            let Some(number) = network.records.all.len().checked_sub(1 + usize::from(c)) else { return };
            let channel = network.records.all[number].channel;
            if network.records.all[number].from == node {
                let mail = Mail::Cancel { session, channel, ticket: Ticket(number as u64) };
                network.post(node, shard, mail);
            }
        }
    }
}

/// What befalls a datagram.
fn on_wire<C: Crypto>(network: &mut Network<C>, operation: Operation, [a, b, c]: [u8; 3]) {
    let index = usize::from(a) % network.wire.len().max(1);
    let Some(mut datagram) = network.wire.remove(index) else { return };
    let place = datagram.bytes.len() * usize::from(b) / 256;
    match operation {
        Operation::Drop => return,
        Operation::Duplicate => {
            network.arrive(datagram.clone(), false);
            network.wire.push_back(datagram);
            return;
        }
        Operation::Corrupt => {
            if let Some(byte) = datagram.bytes.get_mut(place) {
                *byte ^= c.max(1);
            }
        }
        Operation::Truncate => datagram.bytes.truncate(place),
        Operation::Spoof => match network.nodes.get(usize::from(b)) {
            Some(node) => datagram.from = node.address,
            None => datagram.from.set_port(u16::from(b) + 1_000),
        },
        Operation::Mark => datagram.ecn = Ecn::Ce,
        _ => {}
    }
    network.arrive(datagram, operation == Operation::Misroute);
}

/// A packet for a session of `a`'s that its peer never sent, sealed as if it had.
fn inject<C: Crypto>(network: &mut Network<C>, a: u8, b: u8, bytes: &[u8]) {
    if network.is_honest {
        return;
    }
    let node = usize::from(a) % network.nodes.len();
    let sessions = &network.nodes[node].sessions;
    let Some(&session) = sessions.get(usize::from(b & 15) % sessions.len().max(1)) else { return };
    // Numbers a little ahead, so that they are fresh.
    let number = PacketNumber(200 * u64::from(b >> 4) + network.records.all.len() as u64);
    let header = Header::new(session, false, number);
    let from = network.nodes[(node + 1) % network.nodes.len()].address;
    let bytes = [&header.to_bytes()[..], bytes, &super::hostile::TAG].concat();
    network.arrive(Datagram { from, to: network.nodes[node].address, ecn: Ecn::NotEct, bytes }, false);
}
