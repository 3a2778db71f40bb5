//! Junk for a node's port: trains of datagrams that each fail at another of the cheap checks.
//!
//! In:    the node's address, one of its session ids.
//! Out:   trains, of each kind in turn, as fast as the kernel takes them.
//! Holds: no datagram of it can be opened: the bytes behind the headers are noise that is the same in every run.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dunlin::socket::KernelBuffers;
use dunlin::socket::plain::PlainSocket;
use dunlin_codec::hello;
use dunlin_codec::ids::SessionId;
use dunlin_codec::suite::VERSION;
use dunlin_shards::rng::Rng;
use dunlin_shards::route::{Ecn, SocketIndex, TRAIN_LEN_MAX, TRAIN_SEGMENTS_MAX, Transmit};

/// Bytes of each datagram.
const DATAGRAM_LEN: usize = 1_200;
/// Datagrams of each train.
const SEGMENTS: usize = if TRAIN_LEN_MAX / DATAGRAM_LEN < TRAIN_SEGMENTS_MAX {
    TRAIN_LEN_MAX / DATAGRAM_LEN
} else {
    TRAIN_SEGMENTS_MAX
};

/// What is wrong with a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A Hello whose mac1 was made without the node's key.
    WrongMac1,
    /// A packet for a session that does not exist.
    UnknownSession,
    /// A packet for this session whose tag does not hold.
    WrongTag(SessionId),
}

impl Kind {
    /// Writes a datagram of this kind.
    pub fn write(self, rng: &mut Rng, datagram: &mut [u8]) {
        rng.fill(datagram);
        match self {
            Self::WrongMac1 => {
                datagram[..4].copy_from_slice(&[hello::TYPE, VERSION, 1, 1]);
                // The caller's id has its highest bit set.
                datagram[4] |= 0x80;
            }
            // The last slots of a table that nobody fills.
            Self::UnknownSession => {
                let id = SessionId::new(0, SessionId::SLOTS_MAX as u32 - 1, datagram[0]);
                datagram[..4].copy_from_slice(&id.0.to_be_bytes());
            }
            Self::WrongTag(id) => datagram[..4].copy_from_slice(&id.0.to_be_bytes()),
        }
    }
}

/// Where junk comes from.
pub struct Junk {
    socket: PlainSocket,
    trains: Vec<Vec<u8>>,
    transmit: Transmit,
}

impl Junk {
    /// Junk of these kinds for the node at `to`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(to: SocketAddr, kinds: &[Kind]) -> io::Result<Self> {
        let mut rng = Rng::from_number(7);
        let trains = kinds.iter().map(|kind| {
            let mut train = vec![0; SEGMENTS * DATAGRAM_LEN];
            train.chunks_mut(DATAGRAM_LEN).for_each(|datagram| kind.write(&mut rng, datagram));
            train
        });
        let transmit = Transmit {
            local: None,
            remote: to,
            socket: SocketIndex(0),
            ecn: Ecn::NotEct,
            len: SEGMENTS * DATAGRAM_LEN,
            segment_len: DATAGRAM_LEN,
        };
        let socket = PlainSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)), KernelBuffers::default())?;
        Ok(Self { socket, trains: trains.collect(), transmit })
    }

    /// Sends one datagram of each kind.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send_one_of_each(&self) -> io::Result<()> {
        let one = Transmit { len: DATAGRAM_LEN, ..self.transmit };
        self.trains.iter().try_for_each(|train| self.socket.send(&one, train))
    }

    /// Sends trains of each kind in turn until told to stop, at most `rate_max` datagrams a second; `sent` counts them.
    pub fn run(&self, rate_max: f64, stop: &AtomicBool, sent: &AtomicU64) {
        let begun = Instant::now();
        for (number, train) in self.trains.iter().cycle().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let due = Duration::from_secs_f64((number * SEGMENTS) as f64 / rate_max);
            if let Some(early) =
                due.checked_sub(begun.elapsed()).filter(|early| *early > Duration::from_micros(200))
            {
                std::thread::sleep(early);
            }
            // A train that the kernel has no room for is junk that did not come.
            if self.socket.send(&self.transmit, train).is_ok() {
                sent.fetch_add(SEGMENTS as u64, Ordering::Relaxed);
            }
        }
    }
}
