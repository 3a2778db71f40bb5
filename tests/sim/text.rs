//! What the swarm's messages say: every eight bytes tell who wrote to whom.
//!
//! In:    sender, receiver, a serial number, a length.
//! Out:   bytes; from any piece of them, their author.
//! Holds: a piece of a message that stands where it does not belong is found out without knowing the message (I13).

use crate::place::NodeIndex;

/// Makes each word of a message another one.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A message of `len` bytes.
#[must_use]
pub fn compose(from: NodeIndex, to: NodeIndex, serial: u32, len: usize) -> Vec<u8> {
    let tag = (from.0 as u64) << 48 | (to.0 as u64) << 32 | u64::from(serial);
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    for word in 0..len.div_ceil(8) as u64 {
        bytes.extend_from_slice(&(tag ^ word.wrapping_add(1).wrapping_mul(STEP)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Who wrote a piece that begins `offset` bytes into its message, and to whom. None when it is too short to tell.
///
/// # Errors
/// The piece is of no message, or of two: the offset at which that shows.
pub fn author(offset: usize, piece: &[u8]) -> Result<Option<(NodeIndex, NodeIndex)>, usize> {
    let skipped = offset.next_multiple_of(8) - offset;
    let mut word = (offset + skipped) as u64 / 8;
    let mut tag = None;
    for bytes in piece.get(skipped..).unwrap_or_default().as_chunks::<8>().0 {
        word += 1;
        let read = u64::from_le_bytes(*bytes) ^ word.wrapping_mul(STEP);
        if *tag.get_or_insert(read) != read {
            return Err(word as usize * 8);
        }
    }
    let place = |tag: u64, shift: u32| NodeIndex((tag >> shift & 0xffff) as usize);
    Ok(tag.map(|tag| (place(tag, 48), place(tag, 32))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_piece_tells_its_author_and_a_patched_one_is_found_out() {
        let (from, to) = (NodeIndex(3), NodeIndex(700));
        let message = compose(from, to, 9, 101);
        for offset in 0..80 {
            assert_eq!(author(offset, &message[offset..]), Ok(Some((from, to))), "{offset}");
            assert!(author(offset + 8, &message[offset..]).is_err(), "{offset}");
        }
        let mut patched = message.clone();
        patched[64..80].copy_from_slice(&compose(to, from, 9, 101)[64..80]);
        assert!(author(0, &patched).is_err());
        assert_eq!(author(1, &message[1..9]), Ok(None));
    }
}
