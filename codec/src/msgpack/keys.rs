//! Whether the keys of a map differ, without allocation and without comparing each with each.
//!
//! In:    the body of a map whose lengths were checked.
//! Out:   nothing, or why it is refused.
//! Holds: time grows as n log n with the number of keys, memory on the stack is fixed.
//!
//! The places of keys are sorted by what stands there. A map of more keys than fit is gone over several times; each
//! time takes the keys of one hash class. The hash has no secret: whoever makes his keys fall into one class is refused,
//! and hurts nobody else. An honest class is half as large as its room, 45 standard deviations away.

use super::MsgpackError;
use super::head::{Head, read_head, skip};
use crate::bytes::Reader;

/// Keys of a small map at most.
const SMALL: usize = 64;
/// Places that are sorted at once.
const LARGE: usize = 4_096;

/// The `count` entries at the front of `body` have different keys.
pub(super) fn check_distinct(body: &[u8], count: u32) -> Result<(), MsgpackError> {
    if count as usize <= SMALL {
        return check_class::<SMALL>(body, count, |_| true);
    }
    let classes = if count as usize <= LARGE { 1 } else { count.div_ceil(LARGE as u32 / 2) };
    for class in 0..classes {
        check_class::<LARGE>(body, count, |key| classes == 1 || mix(key) % classes == class)?;
    }
    Ok(())
}

fn check_class<const N: usize>(
    body: &[u8],
    count: u32,
    is_in_class: impl Fn(&[u8]) -> bool,
) -> Result<(), MsgpackError> {
    let mut places = [0_u32; N];
    let mut used = 0;
    let mut reader = Reader::new(body);
    for _ in 0..count {
        let place = body.len() - reader.left();
        let key = key(&mut reader)?;
        skip(&mut reader)?;
        if is_in_class(key) {
            *places.get_mut(used).ok_or(MsgpackError::CraftedKeys)? = place as u32;
            used += 1;
        }
    }
    let key_at = |place: u32| key(&mut Reader::new(body.get(place as usize..)?)).ok();
    let places = &mut places[..used];
    places.sort_unstable_by(|one, other| key_at(*one).cmp(&key_at(*other)));
    let is_twice = places.windows(2).any(|pair| key_at(pair[0]) == key_at(pair[1]));
    if is_twice { Err(MsgpackError::DuplicateKey) } else { Ok(()) }
}

fn key<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], MsgpackError> {
    match read_head(reader)? {
        Head::Str(len) => Ok(reader.take(len as usize)?),
        _ => Err(MsgpackError::KeyNotStr),
    }
}

/// FNV-1a: spreads honest keys, no more is asked of it.
pub(super) fn mix(key: &[u8]) -> u32 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ hash >> 32) as u32
}
