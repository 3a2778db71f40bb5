//! Properties of whole packets: values come back, junk is borne.
//!
//! In:    arbitrary values and arbitrary bytes.
//! Out:   what `Packet` makes of them, written again.
//! Holds: nothing panics; whatever parses is written as bytes that parse equal.

mod rewrite;

use dunlin_codec::hello::{self, HelloHead, set_mac1, set_mac2};
use dunlin_codec::ids::{PacketNumber, SessionId};
use dunlin_codec::packet::{Packet, PacketKind};
use dunlin_codec::sealed::Header;
use dunlin_codec::suite::{Pattern, Suite};
use dunlin_codec::welcome::WelcomeHead;
use dunlin_codec::{cookie, finish, reset};
use proptest::prelude::*;
use rewrite::{write_packet, written};

fn session_id() -> impl Strategy<Value = SessionId> {
    (0u8..128, 0u32..1 << 18, 0u8..64)
        .prop_map(|(shard, slot, generation)| SessionId::new(shard, slot, generation))
}

fn suite() -> impl Strategy<Value = Suite> {
    prop_oneof![Just(Suite::AesGcm), Just(Suite::ChaChaPoly)]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![Just(Pattern::Ik), Just(Pattern::Xx)]
}

/// A Noise message of any pattern and what may stand behind it.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 32 + 48 + 16..1_400)
}

proptest! {
    /// spec: atp/hello
    #[test]
    fn hellos_come_back(
        suite in suite(), pattern in pattern(), sender in session_id(), noise in noise(), macs: [[u8; 16]; 2],
    ) {
        let head = HelloHead { suite, pattern, sender };
        let mut bytes = written(|out| head.write(out, &noise));
        set_mac1(&mut bytes, &macs[0]).unwrap();
        set_mac2(&mut bytes, &macs[1]).unwrap();
        let Ok(Packet::Hello(hello)) = Packet::parse(&bytes) else { panic!("not a Hello") };
        prop_assert_eq!((hello.head(), hello.mac1(), hello.mac2()), (head, &macs[0], &macs[1]));
        prop_assert_eq!(written(|out| hello.write_noise(out)), &noise[..]);
        let plain_len = noise.len() - if pattern == Pattern::Ik { 32 + 48 + 16 } else { 32 };
        prop_assert_eq!(bytes.len(), hello::overhead_len(pattern) + plain_len);
        prop_assert_eq!(write_packet(&Packet::Hello(hello)), bytes);
    }

    /// spec: atp/welcome
    /// spec: atp/finish
    #[test]
    fn welcomes_and_finishes_come_back(
        suite in suite(), pattern in pattern(), receiver in session_id(), sender in session_id(), noise in noise(),
    ) {
        let head = WelcomeHead { suite, pattern, receiver, sender };
        let bytes = written(|out| head.write(out).and_then(|()| out.put(&noise)));
        let Ok(Packet::Welcome(welcome)) = Packet::parse(&bytes) else { panic!("not a Welcome") };
        prop_assert_eq!((welcome.head(), welcome.noise()), (head, &noise[..]));
        prop_assert_eq!(write_packet(&Packet::Welcome(welcome)), bytes);

        let bytes = written(|out| finish::write_head(out, receiver).and_then(|()| out.put(&noise)));
        let Ok(Packet::Finish(finish)) = Packet::parse(&bytes) else { panic!("not a Finish") };
        prop_assert_eq!((finish.receiver(), finish.noise()), (receiver, &noise[..]));
    }

    /// spec: atp/cookie
    /// spec: atp/reset
    /// spec: atp/sealed
    #[test]
    fn small_packets_come_back(
        id in session_id(), nonce: [u8; 12], cookie: [u8; 32], token: [u8; 16], number: u64, phase: bool,
    ) {
        let bytes = written(|out| cookie::write(out, id, &nonce, &cookie));
        let Ok(Packet::Cookie(parsed)) = Packet::parse(&bytes) else { panic!("not a Cookie") };
        prop_assert_eq!((parsed.receiver(), parsed.nonce(), parsed.sealed()), (id, &nonce, &cookie));

        let bytes = written(|out| reset::write(out, id, &token));
        let Ok(Packet::Reset(parsed)) = Packet::parse(&bytes) else { panic!("not a Reset") };
        prop_assert_eq!((parsed.session(), parsed.token()), (id, &token));

        let header = Header::new(id, phase, PacketNumber(number));
        let bytes = [&header.to_bytes()[..], &cookie].concat();
        let Ok(Packet::Sealed(parsed)) = Packet::parse(&bytes) else { panic!("not sealed") };
        prop_assert_eq!(parsed.header(), header);
        prop_assert_eq!(u64::from(parsed.header().number_low), number & 0x7fff_ffff);
        prop_assert_eq!((parsed.ciphertext(), &parsed.tag()[..]), cookie.split_at(16));
    }

    /// spec: atp/demultiplexing
    #[test]
    fn junk_never_panics_and_what_parses_comes_back(
        front in (prop_oneof![0u8..8, any::<u8>()], 0u8..3, 0u8..3, 0u8..3),
        junk in prop::collection::vec(any::<u8>(), 0..200), high: bool,
    ) {
        let mut bytes = [&[front.0, front.1, front.2, front.3][..], &junk].concat();
        if high {
            bytes.iter_mut().skip(4).step_by(4).take(2).for_each(|byte| *byte |= 0x80);
        }
        match Packet::parse(&bytes) {
            Ok(packet) => {
                prop_assert_eq!(Packet::kind_of(bytes[0]), Some(packet.kind()));
                prop_assert!(!packet.to_string().contains('\n'));
                prop_assert!(packet.to_string().starts_with(packet.kind().name()));
                let again = write_packet(&packet);
                prop_assert_eq!(Packet::parse(&again), Ok(packet));
            }
            Err(_) => prop_assert_ne!(Packet::kind_of(bytes[0]), Some(PacketKind::Krpc)),
        }
    }
}
