//! The roll: which nodes of a network can be reached, found by whoever knows what the network is and any one of its nodes.
//!
//! In:    a network's descriptor.
//! Out:   its hash, the roll's key and place.
//! Holds: every node of a network makes the same key of it.
//!
//! The source has a DHT of active nodes, keyed by their descriptor, and says no more (5.1.3). Ours works like this:
//!
//! | who | does |
//! |---|---|
//! | a node that can be reached | stores its record at the k nodes closest to the roll's place, every 15 minutes |
//! | a holder | keeps it for 40 minutes in a list: of a bounded number of nodes, two of a /24 or /48 (T9) |
//! | a newcomer | looks the place up over 8 disjoint paths, asks each holder for entries, opens its links to some ([`Call`]) |
//! | a node that lost a link and has nobody left to ask | does that again |
//!
//! A node that can only initiate is in no roll: nobody could call it. Entries promise nothing: they live in memory alone, and
//! whoever is in a roll says so again soon. They are a node's own word about itself, said on a session of its own, so nobody
//! keeps another in the roll, and nobody stores them again but the node.
//!
//! All of a network's nodes store at the same sixteen. In a network of 10^5 each of those takes some 110 entries a second and
//! keeps the last few hundred, which is what it needs of them; the layout is in `codec/src/args/roll.rs`.
//!
//! spec: p2p/roll

mod call;
mod list;

use dunlin_codec::args::{ROLL_KEY_LEN_MAX, RollKey, Setting, Subnet};
use dunlin_codec::bytes::Writer;
use dunlin_codec::label;
use sha2::{Digest, Sha256};

pub use call::{Call, Plan};
pub(super) use list::List;

/// Bytes of a descriptor besides its two texts, at most: seven heads and five numbers.
const DESCRIPTOR_LEN: usize = 64;

/// The hash of a network's descriptor.
#[must_use]
pub fn subnet_hash(subnet: &Subnet<'_>) -> [u8; 32] {
    let mut room = vec![0; DESCRIPTOR_LEN + subnet.transport.len() + subnet.description.len()];
    let mut out = Writer::new(&mut room);
    Setting::Subnet(*subnet).write(&mut out).expect("the room is as large as a descriptor can be");
    Sha256::new().chain_update(label::SUBNET).chain_update(out.written()).finalize().into()
}

/// The bytes of a key of the roll.
#[must_use]
pub fn key_bytes(key: RollKey, hash: &[u8; 32]) -> Vec<u8> {
    let mut room = [0; ROLL_KEY_LEN_MAX];
    let mut out = Writer::new(&mut room);
    key.write(hash, &mut out).expect("the room is as large as a key can be");
    out.written().to_vec()
}
