//! Inputs made by hand for the parsers of messages: compressed bodies, bodies of several messages, diffs with their bases.

use dunlin_codec::args::{
    Ballot, Diff, DiffOperation, LeaseRow, Members, Path, Promise, Request, Roll, RollKey, Row, Rows, Store,
    StoreOptions,
};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::{Carried, Direct, Freshness, Operation, Signed, SignedHeader};
use dunlin_codec::msgpack::{Encoded, write};
use dunlin_codec::record::{Chain, Key, NodeFields};
use dunlin_codec::transmission::{Compression, Transmission};
use dunlin_shards::dht::values::address;
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
    inputs.extend(stores());
    inputs.extend(rumours());
    inputs
}

/// Words of several origins: in order, again, changed, two under one number, from clocks that are off, and faster than allowed.
fn rumours() -> Vec<(&'static str, String, Vec<u8>)> {
    let said = |count: u8| [0, 0, 1, count, 1, 128];
    let again = [said(1), said(2), said(1), said(2), said(3)].concat();
    let changed = [[0x0f, 0, 1, 1, 0, 128], said(1), [0x03, 0, 1, 1, 0, 128]].concat();
    let two = [said(1), [0, 0, 2, 1, 0, 128], said(2), [0, 1, 1, 1, 0, 128], [0, 0, 1, 3, 255, 128]].concat();
    let off: Vec<u8> = (0..=255).step_by(5).flat_map(|off| [0, 1, 1, off, 0, off]).collect();
    let far: Vec<u8> = [1, 100, 36, 37, 255].into_iter().flat_map(said).collect();
    let starts: Vec<u8> = (0..8).flat_map(|start| [0, 2, start << 4, 7, 3, 128]).collect();
    let fast: Vec<u8> = (0..30).flat_map(|count| [0, 3, 1, count, u8::from(count > 20), 128]).collect();
    let input =
        |name: &str, first: u8, steps: &[u8]| ("rumours", name.to_owned(), [&[first][..], steps].concat());
    vec![
        input("the-same-words-again", 0, &again),
        input("a-changed-signature-first", 0, &changed),
        input("two-things-under-one-number", 0, &two),
        input("clocks-that-are-off", 0, &off),
        input("numbers-below-the-window", 0, &far),
        input("several-starts", 0, &starts),
        input("faster-than-allowed", 2, &fast),
        input("messages-that-nobody-signed", 1, &signed_messages()),
    ]
}

/// Stores that a holder takes, and the rows that it writes.
fn stores() -> Vec<(&'static str, String, Vec<u8>)> {
    let (alone, grouped) = ([0xa1, b'k'], [0x92, 0xa1, b'g', 0xa1, b'n']);
    let ballot = |counter| Some(Ballot { counter, proposer: NodeId([0xb0; 32]) });
    let lease = LeaseRow { holder: NodeId([0xb0; 32]), until_ms: 1_700_000_010_000, token: 9 };
    let row = |key| Row { key, value: Encoded::NIL, record: None, lease: Some(lease), left_ms: 10_000 };
    let mut inputs = Vec::new();
    for (what, key) in [("a-key", &alone[..]), ("a-name-of-a-group", &grouped)] {
        let key = Key::parse(key).expect("a value").expect("a key");
        let rows = bytes_of(|out| Rows::write_new(out, &[row(key)]));
        let rows = Encoded::parse(&rows).map(Rows::parse).expect("a value").ok();
        let none = StoreOptions::default();
        let plain = StoreOptions { ttl_s: Some(60), ..none };
        let prepare = StoreOptions { prepare: ballot(9), ..none };
        let members = Members::new(&[1; 32], &[1; 32]).ok();
        let accept = StoreOptions { accept: ballot(9), rows, members, ..none };
        for (how, options) in [("plain", plain), ("prepare", prepare), ("accept", accept)] {
            let store = Store { address: address(&key), key, value: Encoded::NIL, options };
            let bytes = bytes_of(|out| Request::Store(store).write(out));
            inputs.push(("holder_store", format!("{how}-{what}"), bytes));
        }
        let value = [
            &[1 + key.bytes().len() as u8, b'v'][..],
            key.bytes(),
            &[1, 0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 1, 0, 0, 5],
        ];
        inputs.push(("disk_row", format!("the-value-of-{what}"), value.concat()));
        let promise = Promise {
            promised: ballot(9).expect("it is one"),
            accepted: ballot(8),
            is_settled: true,
            rows: rows.expect("they are rows"),
            members,
        };
        let scope = key.group().map_or(key.bytes().to_vec(), |group| [&[0x91][..], group.bytes()].concat());
        let promise = bytes_of(|out| promise.write(out));
        let register = [&[1 + scope.len() as u8, b'r'][..], &scope, &[2], &promise];
        inputs.push(("disk_row", format!("the-register-of-{what}"), register.concat()));
    }
    inputs.extend(rolls());
    inputs
}

/// A node enters itself in the roll of the holder's network, and somebody the whole of it.
fn rolls() -> Vec<(&'static str, String, Vec<u8>)> {
    let hash = [7; 32];
    let record = NodeFields {
        key: NodeId([0xb0; 32]),
        sequence: 1,
        expiry_ms: 1_700_000_600_000,
        chain: Chain::Unknown,
    };
    let record = bytes_of(|out| record.write(out, &[([192, 0, 2, 1], 7117).into()]));
    let entry = bytes_of(|out| write::bin(out, &record));
    let roll = bytes_of(|out| Roll::write_new(out, &[&record]));
    let what = [
        ("an-entry-of-the-roll", RollKey::Of(NodeId([0xb0; 32])), entry),
        ("the-whole-roll", RollKey::All, roll),
    ];
    let inputs = what.map(|(name, key, value)| {
        let key = bytes_of(|out| key.write(&hash, out));
        let key = Key::parse(&key).expect("a value").expect("a key");
        let (value, options) = (Encoded::parse(&value).expect("a value"), StoreOptions::default());
        let store = Store { address: address(&key), key, value, options };
        ("holder_store", name.to_owned(), bytes_of(|out| Request::Store(store).write(out)))
    });
    inputs.to_vec()
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
