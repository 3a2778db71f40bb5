//! Inputs made by hand for the parsers of messages: compressed bodies, bodies of several messages, diffs with their bases.

use dunlin_codec::args::{Diff, DiffOperation, Path};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::{Carried, Direct, Freshness, Operation, Signed, SignedHeader};
use dunlin_codec::msgpack::{Encoded, write};
use dunlin_codec::transmission::{Compression, Transmission};
use dunlin_shards::messages::compression::compress;

/// Bytes of the longest input.
const INPUT_LEN_MAX: usize = 4_096;

fn bytes_of(write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut room = [0; INPUT_LEN_MAX];
    let mut out = Writer::new(&mut room);
    write(&mut out).expect("an input is short");
    out.written().to_vec()
}

/// Every input: its target, its name, its bytes.
pub(crate) fn generated() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut inputs = vec![
        ("message", "three-direct-messages".to_owned(), direct_messages()),
        ("message", "two-signed-messages".to_owned(), signed_messages()),
    ];
    let body = direct_messages().repeat(9);
    for compression in Compression::ALL {
        let mut short = Vec::new();
        let body = if compress(compression, &body, &mut short) { &short } else { &body };
        let transmission = bytes_of(|out| Transmission { compression, body }.write(out));
        inputs.push(("transmission", format!("a-body-by-{compression}"), transmission));
    }
    inputs.extend(diffs().map(|(name, bytes)| ("diff", name.to_owned(), bytes)));
    inputs
}

fn direct_messages() -> Vec<u8> {
    let message = |operation, request, payload| Direct { operation, is_sealed: false, request, payload };
    bytes_of(|out| {
        message(Operation::Ping, 1, &[0xc0]).write(out)?;
        message(Operation::Ack, 1, &[0x91, 2]).write(out)?;
        message(Operation::Speak, 0, b"\xabhello there").write(out)
    })
}

fn signed_messages() -> Vec<u8> {
    let header = SignedHeader {
        operation: Operation::Shout,
        is_sealed: false,
        from: NodeId([1; 32]),
        to: NodeId([0; 32]),
        freshness: Some(Freshness { time_ms: 1, instance: 2, count: 3 }),
    };
    let bytes = bytes_of(|out| header.write(out, b"\xa5hello"));
    let message = Signed::parse(&mut dunlin_codec::bytes::Reader::new(&bytes)).expect("just written");
    bytes_of(|out| {
        Carried { hops: 0, message }.write(out).and_then(|()| Carried { hops: 20, message }.write(out))
    })
}

/// A base's length, the base, and a diff.
fn diffs() -> [(&'static str, Vec<u8>); 5] {
    let keys: [&[&str]; 4] = [&[], &["a"], &["b", "c"], &["x"]];
    let paths = keys.map(|keys| {
        bytes_of(|out| {
            write::array(out, keys.len() as u32)?;
            keys.iter().try_for_each(|key| write::str(out, key))
        })
    });
    let [root, a, b_c, nowhere] =
        paths.each_ref().map(|path| Path::new(Encoded::parse(path).expect("just written")).expect("a path"));
    let value = Encoded::parse(&[0x92, 1, 0xa1, b'z']).expect("a value");
    // {"b": {"c": "text"}, "a": 0x0102}
    let map: &[u8] = b"\x82\xa1b\x81\xa1c\xa4text\xa1a\xc4\x02\x01\x02";
    let with = |base: &[u8], operations: &[DiffOperation<'_>]| {
        let diff = bytes_of(|out| Diff::write_new(out, &[7; 32], 30, operations));
        [&(base.len() as u16).to_be_bytes()[..], base, &diff].concat()
    };
    let splice = |path, offset, removed, inserted| DiffOperation::Splice { path, offset, removed, inserted };
    [
        (
            "set-remove-and-splice",
            with(
                map,
                &[
                    DiffOperation::Set { path: b_c, value },
                    DiffOperation::Remove { path: a },
                    DiffOperation::Set { path: nowhere, value },
                ],
            ),
        ),
        (
            "splices-of-one-text",
            with(map, &[splice(b_c, 1, 2, b"XYZ"), splice(b_c, 0, 0, b"0"), splice(b_c, 6, 0, b"9")]),
        ),
        ("splices-of-bytes", with(map, &[splice(a, 0, 1, &[0xff; 30]), splice(a, 31, 0, &[0xee])])),
        ("a-path-that-leads-nowhere", with(map, &[DiffOperation::Remove { path: nowhere }])),
        (
            "the-whole-value",
            with(&[0xa3, 0xc3, 0xa9, b'e'], &[splice(root, 0, 2, b"e"), splice(root, 0, 0, &[0xc3, 0xa9])]),
        ),
    ]
}
