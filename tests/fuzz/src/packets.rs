//! Datagrams: whatever parses is written again from what its accessors say, and parses equal.

use dunlin_codec::bytes::Writer;
use dunlin_codec::error::{NoRoom, WireError};
use dunlin_codec::hello::{Hello, overhead_len, set_mac1, set_mac2};
use dunlin_codec::ids::PacketNumber;
use dunlin_codec::packet::Packet;
use dunlin_codec::sealed::{Header, OVERHEAD_LEN, Sealed, expand_number, split_mut};
use dunlin_codec::suite::{Pattern, TAG_LEN};
use dunlin_codec::{cookie, finish, reset, welcome};

/// The bytes that `write` writes; one byte less is refused and changes nothing.
pub(crate) fn written(len: usize, write: impl Fn(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut room = vec![0xa5; len];
    let mut writer = Writer::new(&mut room);
    write(&mut writer).expect("it was said to fit");
    assert_eq!(writer.len(), len, "what it takes is what was said");
    let bytes = writer.written().to_vec();
    if len > 0 {
        let mut short = vec![0xa5; len - 1];
        let mut writer = Writer::new(&mut short);
        assert!(write(&mut writer).is_err(), "it fits nothing shorter");
    }
    bytes
}

/// What is shown is one line, and does not panic.
pub(crate) fn assert_shows(shown: &impl core::fmt::Display) -> String {
    let line = shown.to_string();
    assert!(!line.is_empty() && !line.contains('\n'), "one line: {line:?}");
    line
}

/// A datagram of any kind.
pub fn packet(input: &[u8]) {
    let Ok(packet) = Packet::parse(input) else { return };
    assert_eq!(Packet::kind_of(input[0]), Some(packet.kind()));
    assert!(assert_shows(&packet).starts_with(packet.kind().name()));
    assert_eq!(rewritten(&packet, input.len()), input, "nothing in a packet is lost");
}

/// A packet, from nothing but what its accessors say.
fn rewritten(packet: &Packet<'_>, len: usize) -> Vec<u8> {
    match packet {
        Packet::Krpc(datagram) => datagram.to_vec(),
        Packet::Hello(hello) => rewritten_hello(hello),
        Packet::Welcome(welcome) => {
            let key = welcome.encrypted_static().map_or(&[][..], |key| key);
            let pieces = [&welcome.e()[..], key, welcome.payload()].concat();
            assert_eq!(pieces, welcome.noise());
            let mut bytes = written(welcome::HEAD_LEN, |out| welcome.head().write(out));
            bytes.extend_from_slice(&pieces);
            bytes
        }
        Packet::Cookie(it) => written(len, |out| cookie::write(out, it.receiver(), it.nonce(), it.sealed())),
        Packet::Finish(it) => {
            let mut bytes = written(finish::HEAD_LEN, |out| finish::write_head(out, it.receiver()));
            bytes.extend_from_slice(it.noise());
            bytes
        }
        Packet::Reset(it) => written(len, |out| reset::write(out, it.session(), it.token())),
        Packet::Sealed(sealed) => {
            assert_eq!(&sealed.header().to_bytes(), sealed.header_bytes());
            [&sealed.header().to_bytes()[..], sealed.ciphertext(), sealed.tag()].concat()
        }
    }
}

fn rewritten_hello(hello: &Hello<'_>) -> Vec<u8> {
    let noise = written(hello.noise_len(), |out| hello.write_noise(out));
    let mut datagram = written(hello.datagram().len(), |out| hello.head().write(out, &noise));
    set_mac1(&mut datagram, hello.mac1()).expect("it is a Hello");
    set_mac2(&mut datagram, hello.mac2()).expect("it is a Hello");
    datagram
}

/// A Hello: the one packet that a stranger's bytes are taken for.
pub fn hello(input: &[u8]) {
    let Ok(hello) = Hello::parse(input) else {
        let mut refused = input.to_vec();
        assert!(set_mac1(&mut refused, &[1; 16]).is_err() && set_mac2(&mut refused, &[2; 16]).is_err());
        assert_eq!(refused, input, "what is no Hello is left alone");
        return;
    };
    assert_eq!(rewritten_hello(&hello), input);
    assert!(hello.before_mac1().len() + 16 == hello.before_mac2().len());
    assert_eq!(&input[hello.before_mac1().len()..hello.before_mac2().len()], hello.mac1());
    assert_eq!(hello.encrypted_static().is_some(), hello.head().pattern == Pattern::Ik);
    assert!(input.len() >= overhead_len(hello.head().pattern));
    assert_eq!(hello.has_mac2(), hello.mac2().iter().any(|byte| *byte != 0));
    let mut changed = input.to_vec();
    set_mac2(&mut changed, &[0x5a; 16]).expect("it is a Hello");
    let again = Hello::parse(&changed).expect("a MAC changes no layout");
    assert_eq!((again.before_mac2(), again.payload()), (hello.before_mac2(), hello.payload()));
    assert_shows(&Packet::Hello(hello));
}

/// A sealed packet's header; the first eight bytes are the packet number that is expected.
pub fn sealed(input: &[u8]) {
    let Some((expected, datagram)) = input.split_first_chunk() else { return };
    let expected = u64::from_be_bytes(*expected);
    let mut in_place = datagram.to_vec();
    let parsed = Sealed::parse(datagram);
    let parted = split_mut(&mut in_place).map(|(header, bytes, body)| (header, *bytes, body.to_vec()));
    match parsed {
        Err(error) => {
            assert_eq!(parted, Err(error), "both ways refuse the same");
            assert_eq!(error == WireError::Truncated, datagram.len() < OVERHEAD_LEN);
        }
        Ok(sealed) => {
            let header = sealed.header();
            let body = [sealed.ciphertext(), sealed.tag()].concat();
            assert_eq!(parted, Ok((header, *sealed.header_bytes(), body)));
            assert_eq!(sealed.ciphertext().len(), datagram.len() - OVERHEAD_LEN);
            assert_eq!(sealed.tag().len(), TAG_LEN);
            let number = expand_number(header.number_low, PacketNumber(expected));
            let written = Header::new(header.receiver, header.phase, number);
            assert_eq!(written, header, "the full number has the low bits that travelled");
            assert_shows(&Packet::Sealed(sealed));
        }
    }
}
