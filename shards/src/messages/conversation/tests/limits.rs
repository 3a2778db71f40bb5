//! Bounds of what travels.

use super::*;

/// A link carries rumours of up to 8 KiB.
/// spec: p2p/links
#[test]
fn a_rumour_that_is_too_long_is_dropped() {
    let (mut near, mut far) = pair();
    near.talk.ask_link(&mut near.bench, Ticket(1), true).unwrap();
    run(&mut near, &mut far);
    let Some(Fact::Asked { request, .. }) = far.facts.pop() else { panic!() };
    far.talk.answer_link(&mut far.bench, request, true, true);
    run(&mut near, &mut far);
    let mut carry = |len: usize| {
        let freshness = Some(Freshness { time_ms: 1, instance: 2, count: len as u64 });
        let (operation, from) = (Operation::Shout, NodeId([1; 32]));
        let header = SignedHeader { operation, is_sealed: false, from, to: EVERYBODY, freshness };
        let mut room = vec![0; header.encoded_len() + len];
        header.write(&mut Writer::new(&mut room), &vec![0xc0; len]).unwrap();
        let message = Signed::parse(&mut dunlin_codec::bytes::Reader::new(&room)).unwrap();
        near.talk.carry(&Carried { hops: 1, message }).unwrap();
        run(&mut near, &mut far);
        (core::mem::take(&mut far.facts).len(), far.talk.counts().dropped)
    };
    assert_eq!([carry(8 << 10), carry((8 << 10) + 1)], [(1, 0), (0, 1)]);
}

/// What nobody reads waits up to 2 MiB, the last one beyond.
/// spec: p2p/effort
#[test]
fn facts_that_wait_are_bounded_in_bytes() {
    let mut end = End::met(1);
    let word = bytes_of(|out| dunlin_codec::msgpack::write::bin(out, &[7; 60_000]));
    for _ in 0..4 {
        end.hear(&vec![direct(Operation::Speak, 0, &word); 15]);
    }
    end.poll();
    let len: usize = end.facts.len() * word.len();
    assert!((2 << 20..(2 << 20) + word.len()).contains(&len), "{} words", end.facts.len());
}
