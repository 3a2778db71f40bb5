//! What somebody does to a node who is no peer of it: A0, who may claim any address, and A1, who sees packets.

use std::net::SocketAddr;

use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::SessionId;
use dunlin_codec::reset::{self, TOKEN_LEN};
use dunlin_codec::suite::VERSION;
use dunlin_shards::session::crypto::Crypto;

use crate::place::NodeIndex;
use crate::world::WorldOf;

use super::plan::Attack;

/// One datagram of an attack.
pub(super) fn attack<C: Crypto>(world: &mut WorldOf<C>, target: NodeIndex, attack: Attack) {
    let anywhere = anywhere(world);
    match attack {
        Attack::Junk => {
            let bytes = junk(world, 1_500);
            world.note_stranger(anywhere);
            world.inject(target, anywhere, &bytes);
        }
        Attack::Forged => {
            let bytes = forged(world);
            world.note_stranger(anywhere);
            world.inject(target, anywhere, &bytes);
        }
        Attack::Unknown => {
            let mut bytes = junk(world, 300);
            let shards = world.node(target).settings.shards as u64;
            let (slot, generation) = (world.chance().below(64) as u32, world.chance().below(64) as u8);
            // Some of them name shards that do not exist.
            let shard = world.chance().below(shards + 1) as u8;
            let id = SessionId::new(shard, slot, generation);
            bytes.resize(bytes.len().max(8), 0);
            bytes[..4].copy_from_slice(&id.0.to_be_bytes());
            let from =
                if world.chance().once_in(2) { SocketAddr::from(([11, 0, 0, 1], 4_000)) } else { anywhere };
            world.inject(target, from, &bytes);
        }
        Attack::Impossible => {
            let own = world.node(target).address;
            let which = world.chance().below(4) as usize;
            let from = [
                own,
                SocketAddr::from(([224, 0, 0, 9], 7)),
                SocketAddr::from(([11, 1, 1, 1], 0)),
                SocketAddr::from(([127, 0, 0, 1], 99)),
            ][which];
            let bytes = junk(world, 200);
            world.inject(target, from, &bytes);
        }
        Attack::Hammer => hammer(world),
        Attack::Resets => forged_reset(world),
        Attack::Changed | Attack::Replayed | Attack::Elsewhere => from_the_way(world, attack, anywhere),
    }
}

/// What was seen on the way comes once more, to whom it was for: a copy goes nowhere else of interest.
fn from_the_way<C: Crypto>(world: &mut WorldOf<C>, attack: Attack, anywhere: SocketAddr) {
    let is_hello = world.chance().once_in(2);
    let seen = if is_hello { world.draw_hello() } else { world.draw_overheard() };
    let Some(mut seen) = seen else { return };
    if attack == Attack::Changed && !seen.bytes.is_empty() {
        let at = world.chance().below(seen.bytes.len() as u64) as usize;
        seen.bytes[at] ^= 1 << world.chance().below(8);
        if world.chance().once_in(8) {
            seen.bytes.truncate(at);
        }
    }
    if attack == Attack::Replayed {
        return world.replay(seen);
    }
    if attack == Attack::Elsewhere {
        return world.send_on(&seen, anywhere);
    }
    let from = if world.chance().once_in(2) { seen.from } else { anywhere };
    world.inject(seen.to, from, &seen.bytes);
}

/// More packets that do not open than a session looks at from strange addresses.
fn hammer<C: Crypto>(world: &mut WorldOf<C>) {
    let Some(seen) = world.draw_overheard() else { return };
    for _ in 0..100 {
        let mut bytes = seen.bytes.clone();
        let Some(last) = bytes.last_mut() else { return };
        *last ^= 1 + world.chance().below(255) as u8;
        let from = anywhere(world);
        world.inject(seen.to, from, &bytes);
    }
}

/// Whoever sees a packet knows both addresses and the session's id, and can claim that its receiver has lost the session; but not
/// the token.
fn forged_reset<C: Crypto>(world: &mut WorldOf<C>) {
    let Some(seen) = world.draw_overheard() else { return };
    let Some(&[first, a, b, c]) = seen.bytes.first_chunk() else { return };
    let Some(victim) = world.owner_of(seen.from).filter(|_| first & 0x80 != 0) else { return };
    let mut token = [0; TOKEN_LEN];
    world.chance().fill(&mut token);
    let mut bytes = [0; reset::LEN];
    let session = SessionId(u32::from_be_bytes([first, a, b, c]));
    reset::write(&mut Writer::new(&mut bytes), session, &token).expect("a Reset has one length");
    let from = world.public_address(seen.to);
    world.inject(victim, from, &bytes);
}

fn anywhere<C: Crypto>(world: &mut WorldOf<C>) -> SocketAddr {
    let host = 0x0b00_0000 + world.chance().below(1 << 20) as u32;
    SocketAddr::from((host.to_be_bytes(), 1 + world.chance().below(60_000) as u16))
}

fn junk<C: Crypto>(world: &mut WorldOf<C>, len_max: u64) -> Vec<u8> {
    let len = world.chance().below(len_max) as usize;
    let mut bytes = vec![0; len];
    world.chance().fill(&mut bytes);
    bytes
}

/// A first byte that some packet has, a length that it may have, and noise.
fn forged<C: Crypto>(world: &mut WorldOf<C>) -> Vec<u8> {
    let lens = [16, 24, 52, 72, 96, 136, 200, 1_200];
    let len = lens[world.chance().below(lens.len() as u64) as usize];
    let mut bytes = vec![0; len];
    world.chance().fill(&mut bytes);
    let kind = [1, 1, 2, 3, 4, 5, 5, b'd', 9][world.chance().below(9) as usize];
    bytes[0] = kind;
    if world.chance().below(8) > 0 {
        let zero = [0; 3];
        let (suite, pattern) = (1 + world.chance().below(2) as u8, 1 + world.chance().below(2) as u8);
        let head = if matches!(kind, 3 | 5) { zero } else { [VERSION, suite, pattern] };
        bytes[1..4].copy_from_slice(&head);
        if kind == 4 {
            bytes[2..4].copy_from_slice(&[0, 0]);
        }
        bytes[4] |= 0x80;
    }
    bytes
}
