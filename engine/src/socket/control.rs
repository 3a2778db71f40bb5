//! Control messages: what travels beside a datagram between the kernel and us.
//!
//! In:    the bytes of `msg_control` that the kernel filled in, or a [`Transmit`].
//! Out:   [`Told`], or the bytes that the kernel is to read.
//! Holds: reading never fails: what is unknown or cut off is passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dunlin_shards::route::{Ecn, Transmit};

use super::address::{Family, array};

/// `cmsghdr`: length, level, type.
const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
const LEVEL: usize = size_of::<usize>();
const TYPE: usize = LEVEL + size_of::<libc::c_int>();

const _: () = assert!(HEADER_LEN == TYPE + size_of::<libc::c_int>());

/// Bytes that the kernel may fill in for one train: both families' destination and mark, segment size, drops.
pub(super) const TOLD_LEN: usize = 208;
/// Bytes that we write for one train at most: source, mark, segment size.
pub(super) const ASKED_LEN: usize = 96;

const _: () = assert!(TOLD_LEN >= space(20) + space(12) + 4 * space(4) && TOLD_LEN.is_multiple_of(8));
const _: () = assert!(ASKED_LEN >= space(20) + space(4) + space(2) && ASKED_LEN.is_multiple_of(8));

/// Bytes that a control message with so many bytes of its own takes.
const fn space(len: usize) -> usize {
    HEADER_LEN + len.next_multiple_of(size_of::<usize>())
}

/// What the kernel told about a train.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Told {
    /// The address that it was sent to.
    pub(super) local: Option<IpAddr>,
    /// Its mark.
    pub(super) ecn: Ecn,
    /// Bytes of each datagram, when there are several.
    pub(super) segment_len: Option<usize>,
    /// Datagrams that this socket's full queue has cost since it was opened.
    pub(super) drops: Option<u32>,
}

/// Reads the kernel's control messages.
pub(super) fn read(mut control: &[u8]) -> Told {
    let mut told = Told::default();
    while let Some(len) = array(control, 0).map(usize::from_ne_bytes) {
        let Some(body) = control.get(HEADER_LEN..len) else { break };
        let (Some(level), Some(kind)) = (int(control, LEVEL), int(control, TYPE)) else { break };
        told.note(level, kind, body);
        control = control.get(len.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    }
    told
}

fn int(bytes: &[u8], start: usize) -> Option<libc::c_int> {
    array(bytes, start).map(libc::c_int::from_ne_bytes)
}

impl Told {
    fn note(&mut self, level: libc::c_int, kind: libc::c_int, body: &[u8]) {
        match (level, kind) {
            (libc::SOL_IP, libc::IP_TOS) | (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                // One byte for IPv4, an int for IPv6.
                let class = int(body, 0).or_else(|| body.first().map(|byte| libc::c_int::from(*byte)));
                self.ecn = Ecn::from_bits(class.unwrap_or_default() as u8);
            }
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                // in_pktinfo: interface, the address to answer from, the address in the header.
                self.local = array::<4>(body, 8).map(|ip| IpAddr::V4(Ipv4Addr::from(ip))).or(self.local);
            }
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                let local = array::<16>(body, 0).map(|ip| IpAddr::V6(Ipv6Addr::from(ip)).to_canonical());
                self.local = local.or(self.local);
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                self.segment_len =
                    int(body, 0).and_then(|len| usize::try_from(len).ok()).filter(|len| *len > 0);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.drops = array(body, 0).map(u32::from_ne_bytes),
            _ => {}
        }
    }
}

/// Writes what the kernel must know to send a train; answers the length in bytes, 0 when there is nothing to say.
///
/// `segmented`: whether the kernel is to cut the train. An IPv4 address on an IPv6 socket is spoken to in IPv4's terms.
pub(super) fn write(transmit: &Transmit, segmented: bool, out: &mut [u8; ASKED_LEN]) -> usize {
    let mut writer = Writer { out, len: 0 };
    let family = Family::of(transmit.remote);
    match (transmit.local, family) {
        (Some(IpAddr::V4(ip)), Family::V4) => {
            let mut body = [0; 12];
            body[4..8].copy_from_slice(&ip.octets());
            writer.put(libc::SOL_IP, libc::IP_PKTINFO, &body);
        }
        (Some(IpAddr::V6(ip)), Family::V6) => {
            let mut body = [0; 20];
            body[..16].copy_from_slice(&ip.octets());
            writer.put(libc::SOL_IPV6, libc::IPV6_PKTINFO, &body);
        }
        // A source of the other family says nothing about this path.
        (Some(_), _) | (None, _) => {}
    }
    if transmit.ecn != Ecn::NotEct {
        let class = libc::c_int::from(transmit.ecn.bits()).to_ne_bytes();
        match family {
            Family::V4 => writer.put(libc::SOL_IP, libc::IP_TOS, &class),
            Family::V6 => writer.put(libc::SOL_IPV6, libc::IPV6_TCLASS, &class),
        }
    }
    if segmented {
        let segment = u16::try_from(transmit.segment_len).expect("a segment is shorter than its frame");
        writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    writer.len
}

struct Writer<'a> {
    out: &'a mut [u8; ASKED_LEN],
    len: usize,
}

impl Writer<'_> {
    fn put(&mut self, level: libc::c_int, kind: libc::c_int, body: &[u8]) {
        let message = &mut self.out[self.len..self.len + space(body.len())];
        message.fill(0);
        message[..size_of::<usize>()].copy_from_slice(&(HEADER_LEN + body.len()).to_ne_bytes());
        message[LEVEL..TYPE].copy_from_slice(&level.to_ne_bytes());
        message[TYPE..HEADER_LEN].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER_LEN..HEADER_LEN + body.len()].copy_from_slice(body);
        self.len += space(body.len());
    }
}

#[cfg(test)]
mod tests {
    use dunlin_shards::route::SocketIndex;
    use proptest::prelude::*;

    use super::*;

    fn transmit(local: &str, remote: &str) -> Transmit {
        Transmit {
            local: Some(local.parse().unwrap()),
            remote: remote.parse().unwrap(),
            socket: SocketIndex(0),
            ecn: Ecn::Ect0,
            len: 2_400,
            segment_len: 1_200,
        }
    }

    /// The kernel reads what we write in nearly the form in which it tells us.
    #[test]
    fn what_is_asked_can_be_read() {
        let mut out = [0; ASKED_LEN];
        let len = write(&transmit("2001:db8::1", "[2001:db8::2]:9"), true, &mut out);
        let told = read(&out[..len]);
        assert_eq!(told.local, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(told.ecn, Ecn::Ect0);
        assert_eq!(len, space(20) + space(4) + space(2));
    }

    #[test]
    fn a_source_of_the_other_family_is_left_out() {
        let mut out = [0; ASKED_LEN];
        let len = write(&transmit("2001:db8::1", "192.0.2.1:9"), false, &mut out);
        assert_eq!((len, read(&out[..len]).local), (space(4), None));
    }

    #[test]
    fn a_mapped_destination_is_told_unmapped() {
        let mut out = [0; ASKED_LEN];
        let len = write(&transmit("::ffff:192.0.2.1", "[2001:db8::2]:9"), false, &mut out);
        assert_eq!(read(&out[..len]).local, Some("192.0.2.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..TOLD_LEN)) {
            read(&bytes);
        }
    }
}
