//! Writes again what was parsed, from nothing but what the views' accessors say.

use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::hello::{set_mac1, set_mac2};
use dunlin_codec::packet::Packet;
use dunlin_codec::{cookie, finish, reset};

/// The bytes that `write` writes, at most 4,096.
pub(crate) fn written(write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut buffer = vec![0xa5; 4096];
    let mut writer = Writer::new(&mut buffer);
    write(&mut writer).expect("4,096 bytes are enough");
    writer.written().to_vec()
}

/// Writes a packet from nothing but what its accessors say.
pub(crate) fn write_packet(packet: &Packet<'_>) -> Vec<u8> {
    match packet {
        Packet::Krpc(datagram) => datagram.to_vec(),
        Packet::Hello(hello) => {
            let noise = written(|out| hello.write_noise(out));
            let mut datagram = written(|out| hello.head().write(out, &noise));
            set_mac1(&mut datagram, hello.mac1()).expect("just written");
            set_mac2(&mut datagram, hello.mac2()).expect("just written");
            datagram
        }
        Packet::Welcome(welcome) => {
            let key = welcome.encrypted_static().map_or(&[][..], |key| key);
            let pieces = [&welcome.e()[..], key, welcome.payload()].concat();
            assert_eq!(pieces, welcome.noise());
            written(|out| welcome.head().write(out).and_then(|()| out.put(&pieces)))
        }
        Packet::Cookie(it) => written(|out| cookie::write(out, it.receiver(), it.nonce(), it.sealed())),
        Packet::Finish(it) => {
            written(|out| finish::write_head(out, it.receiver()).and_then(|()| out.put(it.noise())))
        }
        Packet::Reset(it) => written(|out| reset::write(out, it.session(), it.token())),
        Packet::Sealed(sealed) => {
            assert_eq!(&sealed.header().to_bytes(), sealed.header_bytes());
            [&sealed.header().to_bytes()[..], sealed.ciphertext(), sealed.tag()].concat()
        }
    }
}
