//! What a peer with valid keys may put into its packets instead of the truth.
//!
//! In:    the frames of a packet, before it is sealed.
//! Out:   other frames of the same length.
//! Holds: each lie parses, `scramble` apart; that is what makes it one. A lie draws from what it rewrites: the same packet
//!        becomes the same lie.

use dunlin_codec::bytes::{Reader, Writer};
use dunlin_codec::error::NoRoom;
use dunlin_codec::frame::{Frame, Frames, Part, Segment};
use dunlin_codec::ids::{ChannelId, MessageId};
use dunlin_shards::rng::Rng;

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

/// Says another thing than the last time that the same piece of a message was sent.
pub fn equivocate(plain: &mut [u8]) {
    let start = plain.as_ptr() as usize;
    let piece = |frame: Result<Frame<'_>, _>| match frame {
        Ok(Frame::Segment(segment)) if !segment.bytes.is_empty() => {
            let from = segment.bytes.as_ptr() as usize - start;
            Some(from..from + segment.bytes.len())
        }
        _ => None,
    };
    let piece = Frames::new(plain).find_map(piece);
    for byte in piece.into_iter().flatten() {
        plain[byte] ^= 0x5a;
    }
}

/// Single bytes of one long message, far apart from each other: a gap for each, and all of it paid for.
pub fn spray_gaps(plain: &mut [u8]) {
    rewrite(plain, |chance, out| {
        let total = 1 << 16;
        let part = Some(Part { offset: chance.below(total) as u32, total: total as u32 });
        let (channel, message) = (ChannelId(61), MessageId(0));
        let frame = Segment { channel, message, unordered: true, unreliable: None, part, bytes: &[0xee] };
        Frame::Segment(frame).write(out)
    });
}

/// Messages that are longer, and channels that are more, than anybody was allowed.
pub fn overclaim(plain: &mut [u8]) {
    rewrite(plain, |chance, out| {
        let part = Part { offset: chance.below(1 << 30) as u32, total: 1 << 30 };
        write_segment(chance, Some(part), &[0xee; 3], out)
    });
}

/// Gives up channels, skips messages and grants credit as if it cost nothing.
pub fn disturb(plain: &mut [u8]) {
    rewrite(plain, |chance, out| {
        let channel = ChannelId(16 + chance.below(6) as u32);
        let frame = match chance.below(6) {
            0 => Frame::ChannelReset { channel, code: chance.below(9) },
            1 => Frame::Skip { channel, message: MessageId(chance.below(1 << 20)) },
            2 => Frame::SessionCredit { limit: chance.below(1 << 50) },
            3 => Frame::ChannelCredit { channel, limit: chance.below(1 << 50) },
            4 => Frame::AckFrequency { sequence: chance.below(1 << 30), bytes: chance.below(1 << 30) },
            _ => Frame::PathChallenge(chance.next_u64().to_be_bytes()),
        };
        frame.write(out)
    });
}

/// No frames at all.
pub fn scramble(plain: &mut [u8]) {
    drawn_from(plain).fill(plain);
}

fn drawn_from(plain: &[u8]) -> Rng {
    let print = |print: u64, byte: &u8| (print ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    Rng::from_number(plain.iter().take(64).fold(plain.len() as u64, print))
}

fn write_segment(
    chance: &mut Rng,
    part: Option<Part>,
    bytes: &[u8],
    out: &mut Writer<'_>,
) -> Result<(), NoRoom> {
    let channel = ChannelId(16 + chance.below(40) as u32);
    let message = MessageId(chance.below(200));
    let frame = Segment { channel, message, unordered: chance.once_in(2), unreliable: None, part, bytes };
    Frame::Segment(frame).write(out)
}

/// Frames until there is no room for more, and padding behind them.
fn rewrite(plain: &mut [u8], mut frame: impl FnMut(&mut Rng, &mut Writer<'_>) -> Result<(), NoRoom>) {
    let mut chance = drawn_from(plain);
    plain.fill(0);
    let mut rest = plain;
    loop {
        let mut scratch = [0; 64];
        let mut out = Writer::new(&mut scratch);
        if frame(&mut chance, &mut out).is_err() {
            return;
        }
        let len = out.len();
        let Some((place, behind)) = rest.split_at_mut_checked(len) else { return };
        place.copy_from_slice(&scratch[..len]);
        rest = behind;
    }
}

fn varint_len(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |first| 1 << (first >> 6))
}
