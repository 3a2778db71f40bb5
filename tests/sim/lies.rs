//! What a peer with valid keys may put into its packets instead of the truth.
//!
//! In:    the frames of a packet, before it is sealed.
//! Out:   other frames of the same length.
//! Holds: each lie parses; that is what makes it one.

use dunlin_codec::bytes::{Reader, Writer};

/// Rewrites a packet's frames.
pub type Lie = fn(&mut [u8]);

const ACK: u8 = 0x02;
const ACK_ECN: u8 = 0x03;

/// Acknowledges numbers far ahead of what was sent.
pub fn acknowledge_ahead(plain: &mut [u8]) {
    if let Some((&mut (ACK | ACK_ECN), rest)) = plain.split_first_mut() {
        let len = varint_len(rest);
        if len > 1 {
            rest[1..len].fill(0xff);
            rest[0] |= 0x3f;
        } else if len == 1 {
            rest[0] = 0x3f;
        }
    }
}

/// Acknowledges what lies in the first gap as well: packets that were lost, and numbers that were skipped.
pub fn acknowledge_gaps(plain: &mut [u8]) {
    let Some(&(ACK | ACK_ECN)) = plain.first() else { return };
    let mut reader = Reader::new(&plain[1..]);
    let mut read = || reader.varint().ok();
    let (Some(largest), Some(delay), Some(count), Some(_first)) = (read(), read(), read(), read()) else {
        return;
    };
    if count == 0 {
        return;
    }
    for _ in 0..2 * count {
        read();
    }
    if plain[0] == ACK_ECN {
        read();
        read();
    }
    let end = plain.len() - reader.left();
    // One range down to zero, and padding where the others were.
    plain[..end].fill(0);
    let mut out = Writer::new(&mut plain[..end]);
    let written =
        out.u8(ACK).and_then(|()| out.varint(largest)).and_then(|()| out.varint(delay)).and_then(|()| {
            out.varint(0)?;
            out.varint(largest)
        });
    assert!(written.is_ok(), "one range is no longer than two");
}

fn varint_len(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |first| 1 << (first >> 6))
}
