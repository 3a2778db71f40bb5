//! Rumours as strangers bring them: what is true is taken once, what is not is never.

use std::collections::BTreeMap;
use std::time::Duration;

use dunlin_codec::bytes::Reader;
use dunlin_codec::label::Network;
use dunlin_codec::message::{CarriedMessages, EVERYBODY, Freshness, Operation, Signed, SignedHeader};
use dunlin_shards::budget::Rate;
use dunlin_shards::gossip::{Court, RumourLimits, Seen, message_id, sign};
use dunlin_shards::hash::HashKey;
use dunlin_shards::identity::Identity;
use dunlin_shards::time::{Instant, Now, WallMillis};

const NETWORK: Network = Network([7; 32]);
/// Bytes of a step: what is done, origin, instance and payload, count, time that passes, how far the origin's clock is off.
const STEP_LEN: usize = 6;
/// Steps at most: each is a signature.
const STEPS_MAX: usize = 200;
const WALL: u64 = 1_700_000_000_000;
/// How far apart clocks may be, in milliseconds.
const APART_MAX: u64 = 150_000;

/// The first byte chooses limits; then steps, or, when it is odd, a transmission's body of whatever messages.
pub fn rumours(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let origin = Rate { per_second: 1, burst: 10 };
    let limits = if first & 2 == 0 {
        RumourLimits::UNLIMITED
    } else {
        RumourLimits { origin, ..RumourLimits::UNLIMITED }
    };
    let mut court = Court::new(NETWORK, limits, HashKey([1, 2]));
    let mut seen = Seen::new(HashKey([3, 4]));
    let mut now = Now { instant: Instant::from_nanos(1), wall: WallMillis(WALL) };
    if first & 1 == 1 {
        return bring_anything(&mut court, &mut seen, now, rest);
    }
    // By origin, instance and count: what was taken under it last, and when.
    let mut taken: BTreeMap<(u8, u8, u8), (u8, Instant)> = BTreeMap::new();
    for step in rest.as_chunks::<STEP_LEN>().0.iter().take(STEPS_MAX) {
        let [what, who, said, count, passes, off] = *step;
        let passed = Duration::from_millis(u64::from(passes) * 500);
        now.instant += passed;
        now.wall.0 += passed.as_millis() as u64;
        // As many starts of an origin as are told apart.
        let (instance, payload) = (said >> 4 & 3, said & 0x0f);
        let time_ms = now.wall.0 + u64::from(off) * 2_000 - 256_000;
        let mut message = message(who & 3, time_ms, (instance, count, payload));
        let is_forged = what & 3 == 3;
        message[usize::from(what >> 2)] ^= u8::from(is_forged);
        let signed = Signed::parse(&mut Reader::new(&message));
        let Ok(signed) = signed else { continue };
        let id = message_id(&NETWORK, &signed);
        let before = message.clone();
        let verdict = court.judge(now, &mut seen, &id, &mut message);
        assert_eq!(before, message, "a message is as it was");
        if verdict.is_err() {
            continue;
        }
        assert!(!is_forged, "what was changed is taken");
        assert!(time_ms.abs_diff(now.wall.0) <= APART_MAX, "what is not of its time is taken");
        let earlier = taken.insert((who & 3, instance, count), (payload, now.instant));
        if let Some((_, at)) = earlier {
            assert!(now.instant.since(at) >= Duration::from_secs(300), "one number is taken twice");
        }
    }
    assert!(court.counts.taken <= court.counts.verified);
}

/// Nobody signed any of it.
fn bring_anything(court: &mut Court, seen: &mut Seen, now: Now, body: &[u8]) {
    for carried in CarriedMessages::new(body).filter_map(Result::ok).take(STEPS_MAX) {
        let id = message_id(&NETWORK, &carried.message);
        let mut message = carried.message.bytes().to_vec();
        assert!(court.judge(now, seen, &id, &mut message).is_err(), "what nobody signed is taken");
        assert_eq!(message, carried.message.bytes());
    }
}

fn message(origin: u8, time_ms: u64, (instance, count, payload): (u8, u8, u8)) -> Box<[u8]> {
    let identity = Identity::from_seed([origin + 1; 32]);
    let header = SignedHeader {
        operation: Operation::Shout,
        is_sealed: false,
        from: identity.id(),
        to: EVERYBODY,
        freshness: Some(Freshness { time_ms, instance: instance.into(), count: count.into() }),
    };
    sign(&identity, &NETWORK, &header, &[payload])
}
