//! Junk at a node's port while one of its sessions works (T1).

use std::net::UdpSocket;

use dunlin::EngineStats;
use dunlin_codec::hello::TYPE;
use dunlin_codec::ids::SessionId;
use dunlin_codec::suite::VERSION;
use dunlin_shards::stats::DropReason;

use crate::api::{accepted, config, start, uri_of};
use crate::process::wait_until;
use crate::{DEADLINE, backends, noise};

/// Rounds of junk; one message of the session goes and comes back in each.
const ROUNDS: u64 = 100;
/// Datagrams of each kind in a round: few enough for the kernel to keep while the node is busy.
const EACH: u64 = 64;
/// Bytes of each.
const LEN: usize = 200;

/// Looks like a Hello to us by somebody who does not know our key.
fn wrong_mac1(seed: u64) -> Vec<u8> {
    let mut junk = noise(LEN, seed);
    junk[..4].copy_from_slice(&[TYPE, VERSION, 1, 1]);
    // The caller's id has its highest bit set.
    junk[4] |= 0x80;
    junk
}

/// Looks like a packet of a session.
fn packet(id: SessionId, seed: u64) -> Vec<u8> {
    let mut junk = noise(LEN, seed);
    junk[..4].copy_from_slice(&id.0.to_be_bytes());
    junk
}

fn unknown_session(seed: u64) -> Vec<u8> {
    packet(SessionId::new(0, 1_000 + (seed % 1_000) as u32, seed as u8), seed)
}

/// The session's id is one of these: the first slot, and one of 64 generations.
fn wrong_tag(seed: u64) -> Vec<u8> {
    packet(SessionId::new(0, 0, seed as u8), seed)
}

/// Sessions that exist, and bytes of blocks.
fn state(stats: &EngineStats) -> (usize, usize) {
    let shards = stats.shards.iter();
    shards.fold((0, 0), |sum, shard| (sum.0 + shard.sessions, sum.1 + shard.allocated_bytes))
}

/// spec: atp/mac1
#[test]
fn a_flood_of_junk_leaves_no_state_and_the_session_goes_on() {
    for io in backends("a_flood_of_junk_leaves_no_state_and_the_session_goes_on") {
        let (server, client) = (start(config(io, 1)), start(config(io, 1)));
        let peer = client.connect(&uri_of(&server)).unwrap();
        let serving = accepted(&server);
        let exchange = |number: u64| {
            peer.send(&number.to_be_bytes()).unwrap();
            assert_eq!(serving.recv_timeout(DEADLINE).unwrap()[..], number.to_be_bytes());
        };
        exchange(0);
        assert!(peer.flush(DEADLINE));
        let junk = UdpSocket::bind("127.0.0.1:0").unwrap();
        for round in 1..=ROUNDS {
            for seed in round * EACH..(round + 1) * EACH {
                for bytes in [wrong_mac1(seed), unknown_session(seed), wrong_tag(seed)] {
                    junk.send_to(&bytes, server.local_addr()).unwrap();
                }
            }
            exchange(round);
        }
        assert!(peer.flush(DEADLINE));
        let is_counted = || {
            let stats = server.stats().protocol();
            let of = |reason| stats.drops(reason);
            // One generation in 64 is the session's: its tags do not hold, or are not looked at any more.
            let tags = of(DropReason::Forged) + of(DropReason::UnmatchedSource);
            of(DropReason::BadMac1) > 0 && of(DropReason::UnknownSession) > ROUNDS * EACH / 2 && tags > 0
        };
        wait_until("every kind is counted", is_counted);
        wait_until("the one session is all there is", || state(&server.stats()).0 == 1);
        let stats = server.stats().protocol();
        assert_eq!((stats.handshakes_completed, stats.sessions_opened, stats.cookies_sent), (1, 1, 0));
        assert!(stats.drops(DropReason::BadMac1) <= ROUNDS * EACH);
        let after = state(&server.stats()).1;
        // What one message takes comes and goes; a flood's leavings would be a hundred times as much.
        assert!(after < EACH as usize * LEN * 10, "{after} bytes of blocks");
        exchange(ROUNDS + 1);
        assert!(client.shutdown(DEADLINE) && server.shutdown(DEADLINE));
    }
}
