//! The steering program: tells the kernel which socket of the group a datagram belongs to.
//!
//! In:    a [`Placement`].
//! Out:   classic BPF, attached to the group.
//! Holds: the kernel's choice is [`Placement::of_datagram`], for IPv4 and IPv6. IPv6 extension headers and fragments land
//!        anywhere; mail corrects that.
//!
//! The program sees the payload at offset 0 and the IP header at SKF_NET_OFF. A load beyond the end ends it with 0, so
//! the length is looked at first. Classic BPF has an accumulator, an index register and 16 words of scratch.

use dunlin_shards::placement::{Placement, STEERING_DROP, STEERING_FOLD, STEERING_MULTIPLIER};

/// Code, jump if true, jump if false, constant.
pub(super) type Instruction = (u16, u8, u8, u32);

/// Instruction codes: what `linux/filter.h` puts together from classes, sizes and modes.
mod code {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const LOAD_HALF_INDEXED: u16 = 0x48;
    pub(super) const LOAD_CONSTANT: u16 = 0x00;
    pub(super) const LOAD_SCRATCH: u16 = 0x60;
    pub(super) const LOAD_LEN: u16 = 0x80;
    pub(super) const STORE_SCRATCH: u16 = 0x02;
    pub(super) const INDEX_FROM_ACCUMULATOR: u16 = 0x07;
    pub(super) const INDEX_CONSTANT: u16 = 0x01;
    pub(super) const MULTIPLY: u16 = 0x24;
    pub(super) const REMAINDER: u16 = 0x94;
    pub(super) const AND: u16 = 0x54;
    pub(super) const SHIFT_LEFT: u16 = 0x64;
    pub(super) const SHIFT_RIGHT: u16 = 0x74;
    pub(super) const XOR_INDEX: u16 = 0xac;
    pub(super) const JUMP: u16 = 0x05;
    pub(super) const JUMP_EQUAL: u16 = 0x15;
    pub(super) const JUMP_AT_LEAST: u16 = 0x35;
    pub(super) const RETURN: u16 = 0x16;
}

/// Where the IP header starts, for loads.
const NET: u32 = libc::SKF_NET_OFF as u32;
/// The scratch word that holds the source port.
const PORT: u32 = 0;

/// The program for a group of `placement.shard_count()` sockets, bound in the order of their shards.
pub(super) fn program(placement: &Placement) -> Vec<Instruction> {
    let shards = placement.shard_count() as u32;
    let mut program = vec![
        // Sealed packets of a shard that we have: the session id says.
        (code::LOAD_LEN, 0, 0, 0),
        (code::JUMP_AT_LEAST, 0, 6, 4),
        (code::LOAD_WORD, 0, 0, 0),
        (code::SHIFT_RIGHT, 0, 0, 24),
        (code::JUMP_AT_LEAST, 0, 3, 0x80),
        (code::AND, 0, 0, 0x7f),
        (code::JUMP_AT_LEAST, 1, 0, shards),
        (code::RETURN, 0, 0, 0),
    ];
    let v4 = by_address_v4(placement.seeds().steering);
    program.extend([
        (code::LOAD_BYTE, 0, 0, NET),
        (code::SHIFT_RIGHT, 0, 0, 4),
        (code::JUMP_EQUAL, v4.len() as u8 + 1, 0, 6),
    ]);
    program.extend(&v4);
    let v6 = by_address_v6(placement.seeds().steering);
    program.push((code::JUMP, 0, 0, v6.len() as u32));
    program.extend(&v6);
    program.extend(mix((code::LOAD_SCRATCH, 0, 0, PORT)));
    program.extend([
        (code::SHIFT_RIGHT, 0, 0, STEERING_DROP),
        (code::REMAINDER, 0, 0, shards),
        (code::RETURN, 0, 0, 0),
    ]);
    program
}

/// The port into its scratch word, the hash of the source address into the index register.
fn by_address_v4(seed: u32) -> Vec<Instruction> {
    let mut part = vec![
        // The header's length is in its first byte, in words.
        (code::LOAD_BYTE, 0, 0, NET),
        (code::AND, 0, 0, 0x0f),
        (code::SHIFT_LEFT, 0, 0, 2),
        (code::INDEX_FROM_ACCUMULATOR, 0, 0, 0),
        (code::LOAD_HALF_INDEXED, 0, 0, NET),
        (code::STORE_SCRATCH, 0, 0, PORT),
        (code::INDEX_CONSTANT, 0, 0, seed),
    ];
    part.extend(mix((code::LOAD_WORD, 0, 0, NET.wrapping_add(12))));
    part
}

/// The same for IPv6, whose header has 40 bytes.
fn by_address_v6(seed: u32) -> Vec<Instruction> {
    let mut part = vec![
        (code::LOAD_CONSTANT, 0, 0, 40),
        (code::INDEX_FROM_ACCUMULATOR, 0, 0, 0),
        (code::LOAD_HALF_INDEXED, 0, 0, NET),
        (code::STORE_SCRATCH, 0, 0, PORT),
        (code::INDEX_CONSTANT, 0, 0, seed),
    ];
    for word in 0..4 {
        part.extend(mix((code::LOAD_WORD, 0, 0, NET.wrapping_add(8 + 4 * word))));
    }
    part
}

/// One step of the hash: the word that `load` loads into the hash in the index register; it is in the accumulator too.
fn mix(load: Instruction) -> [Instruction; 7] {
    [
        load,
        (code::XOR_INDEX, 0, 0, 0),
        (code::MULTIPLY, 0, 0, STEERING_MULTIPLIER),
        (code::INDEX_FROM_ACCUMULATOR, 0, 0, 0),
        (code::SHIFT_RIGHT, 0, 0, STEERING_FOLD),
        (code::XOR_INDEX, 0, 0, 0),
        (code::INDEX_FROM_ACCUMULATOR, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use dunlin_shards::placement::PlacementSeeds;

    use super::*;

    /// The kernel takes 4,096; jumps reach 255.
    #[test]
    fn the_program_is_short_and_its_jumps_stay_inside() {
        let program = program(&Placement::new(128, PlacementSeeds::default()));
        assert!(program.len() < 100, "{}", program.len());
        for (at, (_, jt, jf, _)) in program.iter().enumerate() {
            assert!(at + usize::from(*jt.max(jf)) < program.len() - 1 || *jt.max(jf) == 0, "{at}");
        }
    }
}
