//! Arguments and answers: each comes back as it was written, and what contradicts itself does not pass.

use proptest::prelude::*;

use super::*;
use crate::ids::NodeId;
use crate::message::SignedMessageId;
use crate::record::{Chain, NODE_RECORD_LEN_MAX, NodeFields, VALUE_RECORD_LEN_MAX, ValueFields, ValueRecord};
use crate::transmission::Compression;

/// What is written into 8 KiB; one byte less does not fit, and leaves nothing behind.
fn written(write: impl Fn(&mut Writer<'_>) -> core::result::Result<(), NoRoom>) -> Vec<u8> {
    let mut room = vec![0xa5; 8_192];
    let mut out = Writer::new(&mut room);
    write(&mut out).unwrap();
    let bytes = out.written().to_vec();
    let mut short = vec![0; bytes.len() - 1];
    let mut out = Writer::new(&mut short);
    assert!(write(&mut out).is_err() && out.is_empty());
    bytes
}

fn encode(write: impl FnOnce(&mut Writer<'_>) -> core::result::Result<(), NoRoom>) -> Vec<u8> {
    let mut room = vec![0; 8_192];
    let mut out = Writer::new(&mut room);
    write(&mut out).unwrap();
    out.written().to_vec()
}

fn node(byte: u8) -> Vec<u8> {
    let chain = Chain::Successor { previous: NodeId([byte; 32]), index: byte };
    let fields = NodeFields { key: NodeId([byte + 1; 32]), sequence: 3, expiry_ms: 4, chain };
    let mut room = [0; NODE_RECORD_LEN_MAX];
    let mut out = Writer::new(&mut room);
    fields.write(&mut out, &["192.0.2.1:7117".parse().unwrap()]).unwrap();
    out.written().to_vec()
}

fn key_bytes(group: &str, name: &str) -> Vec<u8> {
    encode(|out| {
        write::array(out, 2)?;
        write::str(out, group)?;
        write::str(out, name)
    })
}

fn value_record(key: &[u8]) -> Vec<u8> {
    let (owner, writer) = (NodeId([1; 32]), NodeId([1; 32]));
    let key = Key::parse(key).unwrap().unwrap();
    let fields = ValueFields {
        key,
        owner,
        sequence: 1,
        time_ms: 2,
        expiry_ms: 3,
        value_hash: &[4; 32],
        writer,
        token: 5,
    };
    let mut room = [0; VALUE_RECORD_LEN_MAX];
    let mut out = Writer::new(&mut room);
    fields.write(&mut out, None).unwrap();
    out.written().to_vec()
}

fn assert_request(request: &Request<'_>) {
    let bytes = written(|out| request.write(out));
    assert_eq!(Request::parse(request.operation(), &bytes).as_ref(), Ok(request));
    let line = request.to_string();
    assert!(line.starts_with(request.operation().name()) && !line.contains('\n'), "{line}");
}

fn assert_ack(ack: &Ack<'_>) {
    let bytes = written(|out| ack.write(out));
    assert_eq!(Ack::parse(&bytes).as_ref(), Ok(ack));
    assert!(ack.to_string().starts_with(&format!("ack {}", ack.operation())), "{ack}");
}

fn assert_nack(nack: &Nack<'_>) {
    let bytes = written(|out| nack.write(out));
    assert_eq!(Nack::parse(&bytes).as_ref(), Ok(nack));
    assert!(nack.to_string().starts_with(&format!("nack {}", nack.operation())), "{nack}");
}

/// spec: p2p/arguments
#[test]
fn plain_requests_come_back() {
    let value = encode(|out| write::str(out, "hello\n"));
    let value = Encoded::parse(&value).unwrap();
    let (record, address) = (node(1), Address([7; 32]));
    let record = NodeRecord::parse(&record).unwrap();
    let change = KeyChange {
        current: NodeId([1; 32]),
        new: NodeId([2; 32]),
        index: 1,
        time_ms: 3,
        next_hash: [4; 32],
    };
    let key = key_bytes("g", "n");
    let key = Key::parse(&key).unwrap().unwrap();
    for request in [
        Request::Ping,
        Request::Announce(record),
        Request::ChangeKey(ChangeKey { change, by_current: &[5; 64], by_new: &[6; 64] }),
        Request::Shout(value),
        Request::Speak(value),
        Request::Whisper(value),
        Request::Custom(value),
        Request::FindNode(address),
        Request::FindValue(FindValue { address, key }),
    ] {
        assert_request(&request);
    }
}

/// spec: p2p/arguments
#[test]
fn options_come_back_and_unknown_ones_are_kept() {
    let subnet = Subnet {
        replication: 16,
        parallel: 3,
        address_bits: 256,
        key_bits: 256,
        links: 8,
        transport: "atp",
        description: "test",
    };
    let link = [Setting::Link(true), Setting::Link(false), Setting::Subnet(subnet)];
    let methods =
        Compression::ALL.map(Setting::Offered).into_iter().chain(Compression::ALL.map(Setting::Preferred));
    for setting in methods.chain(link) {
        let bytes = written(|out| setting.write(out));
        let option = SetOption { option: setting.option(), setting: Encoded::parse(&bytes).unwrap() };
        assert_eq!(option.meaning(), Some(setting));
        assert_request(&Request::SetConnectionOption(option));
        assert_ack(&Ack::SetConnectionOption(option));
        assert_nack(&Nack::SetConnectionOption(option));
    }
    for (option, setting) in [(0, 6), (1, 7), (2, 0), (3, 1), (4, 0), (u64::MAX, 0)] {
        let bytes = encode(|out| write::unsigned(out, setting));
        let option = SetOption { option, setting: Encoded::parse(&bytes).unwrap() };
        assert_eq!(option.meaning(), None, "{option}");
        assert_request(&Request::SetConnectionOption(option));
    }
}

/// What a test needs to hold while it looks at a store.
struct Parts {
    key: Vec<u8>,
    record: Vec<u8>,
    other_record: Vec<u8>,
    changes: Vec<u8>,
    diff: Vec<u8>,
    value: Vec<u8>,
    rows: Vec<u8>,
    keys: Vec<u8>,
    /// Three identities.
    members: Vec<u8>,
}

fn parts() -> Parts {
    let (key, other) = (key_bytes("g", "n"), key_bytes("g", "m"));
    let (record, other_record) = (value_record(&key), value_record(&other));
    let value = encode(|out| write::unsigned(out, 300));
    let encoded = Encoded::parse(&value).unwrap();
    let expected = Some(Expected { sequence: 4, value_hash: &[9; 32] });
    let parsed = ValueRecord::parse(&other_record).unwrap();
    let name = parsed.fields.key.name().unwrap();
    let change = Change { name, value: encoded, record: parsed, expected };
    let changes = written(|out| Changes::write_new(out, &[change]));
    let path = encode(|out| write::array(out, 1).and_then(|()| write::str(out, "a")));
    let path = Path::new(Encoded::parse(&path).unwrap()).unwrap();
    let operations = [
        DiffOperation::Set { path, value: encoded },
        DiffOperation::Remove { path },
        DiffOperation::Splice { path, offset: 1, removed: 2, inserted: b"xyz" },
    ];
    let diff = written(|out| Diff::write_new(out, &[8; 32], 99, &operations));
    let read = Diff::parse(Encoded::parse(&diff).unwrap()).unwrap();
    assert_eq!(read.operations().collect::<Vec<_>>(), operations);
    let [first, second] = rows_of(&[&other, &key], [&other_record, &record], encoded);
    let rows = written(|out| Rows::write_new(out, &[first, second]));
    let read = Rows::parse(Encoded::parse(&rows).unwrap()).unwrap();
    assert!(read.iter().eq([first, second]) && read.count() == 2);
    let keys = written(|out| Keys::write_new(out, &[first.key]));
    assert!(Keys::parse(Encoded::parse(&keys).unwrap()).unwrap().iter().eq([first.key]));
    let members = [[1; 32], [2; 32], [3; 32]].concat();
    Parts { key, record, other_record, changes, diff, value, rows, keys, members }
}

/// One with a lease, one without.
fn rows_of<'a>(keys: &[&'a [u8]; 2], records: [&'a [u8]; 2], value: Encoded<'a>) -> [Row<'a>; 2] {
    let key = |at: usize| Key::parse(keys[at]).unwrap().unwrap();
    let record = |at: usize| ValueRecord::parse(records[at]).ok();
    let lease = Some(LeaseRow { holder: NodeId([9; 32]), until_ms: 1, token: 2 });
    [
        Row { key: key(0), value, record: record(0), lease, left_ms: 10_000 },
        Row { key: key(1), value, record: record(1), lease: None, left_ms: 0 },
    ]
}

/// Every combination of options.
/// spec: p2p/store
/// spec: p2p/diff
#[test]
fn stores_come_back_with_any_options() {
    let parts = parts();
    let key = Key::parse(&parts.key).unwrap().unwrap();
    let ballot = Ballot { counter: 7, proposer: NodeId([3; 32]) };
    for bits in 0..1_u32 << 16 {
        let is = |bit: u32| bits >> bit & 1 == 1;
        let options = StoreOptions {
            record: is(0).then(|| ValueRecord::parse(&parts.record).unwrap()),
            sequence: is(1).then_some(u64::MAX),
            expected: is(2).then_some(Expected { sequence: 1, value_hash: &[2; 32] }),
            diff: is(3).then(|| Diff::parse(Encoded::parse(&parts.diff).unwrap()).unwrap()),
            lease: is(4).then_some(LeaseRequest {
                action: LeaseAction::Renew,
                duration_ms: 10_000,
                token: 3,
            }),
            atomic: is(5).then(|| Changes::parse(Encoded::parse(&parts.changes).unwrap()).unwrap()),
            ttl_s: is(6).then_some(3_600),
            prepare: is(7).then_some(ballot),
            accept: is(8).then_some(ballot),
            keys: is(9).then(|| Keys::parse(Encoded::parse(&parts.keys).unwrap()).unwrap()),
            grant: is(10).then_some(Leave { until_ms: 9, signature: &[7; 64] }),
            base: is(11).then_some(ballot),
            rows: is(12).then(|| Rows::parse(Encoded::parse(&parts.rows).unwrap()).unwrap()),
            is_cache: is(13),
            members: is(14).then(|| Members::new(&parts.members[..64], &parts.members[32..]).unwrap()),
            is_over: is(15),
        };
        assert_eq!(options.count(), bits.count_ones());
        let value = if is(3) { Encoded::NIL } else { Encoded::parse(&parts.value).unwrap() };
        assert_request(&Request::Store(Store { address: Address([1; 32]), key, value, options }));
    }
}

/// spec: p2p/store
#[test]
fn a_store_that_contradicts_itself_is_refused() {
    let parts = parts();
    let key = Key::parse(&parts.key).unwrap().unwrap();
    let value = Encoded::parse(&parts.value).unwrap();
    let refused = |key, options, value| {
        let store = Store { address: Address([1; 32]), key, value, options };
        let bytes = encode(|out| store.write(out));
        Request::parse(Operation::Store, &bytes).err()
    };
    let none = StoreOptions::default();
    let record = Some(ValueRecord::parse(&parts.other_record).unwrap());
    let diff = Some(Diff::parse(Encoded::parse(&parts.diff).unwrap()).unwrap());
    let changes = Changes::parse(Encoded::parse(&parts.changes).unwrap()).unwrap();
    let atomic = Some(changes);
    let out_of_range = Some(ArgumentError::OutOfRange);
    assert_eq!(refused(key, none, value), None);
    assert_eq!(refused(key, StoreOptions { record, ..none }, value), out_of_range, "another key's record");
    assert_eq!(refused(key, StoreOptions { diff, ..none }, value), out_of_range, "a value and a diff");
    let (alone, other, far) = (vec![0xa1, b'n'], key_bytes("g", "m"), key_bytes("h", "n"));
    for (key, what) in [(&alone, "no group"), (&other, "the same name"), (&far, "another group")] {
        let key = Key::parse(key).unwrap().unwrap();
        assert_eq!(refused(key, StoreOptions { atomic, ..none }, value), out_of_range, "{what}");
    }
    let change = changes.iter().next().unwrap();
    let twice = encode(|out| Changes::write_new(out, &[change, change]));
    assert_eq!(Changes::parse(Encoded::parse(&twice).unwrap()), Err(ArgumentError::OutOfRange));
    let sixteen = encode(|out| {
        write::array(out, 16)?;
        (0..16).try_for_each(|_| write::nil(out))
    });
    assert_eq!(Changes::parse(Encoded::parse(&sixteen).unwrap()), Err(ArgumentError::OutOfRange));
}

/// A register's state has one form, and is of one register.
/// spec: p2p/register
#[test]
fn rows_that_are_no_register_are_refused() {
    let parts = parts();
    let value = Encoded::parse(&parts.value).unwrap();
    let (alone, m, n) = (vec![0xa1, b'n'], key_bytes("g", "m"), key_bytes("g", "n"));
    let key = |bytes| Key::parse(bytes).unwrap().unwrap();
    let record = ValueRecord::parse(&parts.record).ok();
    let bare = |bytes| Row { key: key(bytes), value: Encoded::NIL, record: None, lease: None, left_ms: 0 };
    let refused = |rows: &[Row<'_>]| {
        let bytes = encode(|out| Rows::write_new(out, rows));
        Rows::parse(Encoded::parse(&bytes).unwrap()).err()
    };
    let out_of_range = Some(ArgumentError::OutOfRange);
    let far = key_bytes("h", "n");
    assert_eq!(refused(&[]), None);
    assert_eq!(refused(&[bare(&m), bare(&n)]), None);
    assert_eq!(refused(&[bare(&n), bare(&m)]), out_of_range, "another order");
    assert_eq!(refused(&[bare(&n), bare(&n)]), out_of_range, "one key twice");
    assert_eq!(refused(&[bare(&n), bare(&far)]), out_of_range, "two groups");
    assert_eq!(refused(&[bare(&alone), bare(&n)]), out_of_range, "a key that is in no group");
    assert_eq!(refused(&[Row { value, ..bare(&n) }]), out_of_range, "a value that nobody wrote");
    assert_eq!(refused(&[Row { record, ..bare(&m) }]), out_of_range, "another key's record");
    assert_eq!(refused(&[Row { left_ms: 1, ..bare(&m) }]), out_of_range, "what is left of no lease");
    let many = encode(|out| {
        write::array(out, 65)?;
        (0..65).try_for_each(|_| write::nil(out))
    });
    assert_eq!(Rows::parse(Encoded::parse(&many).unwrap()), Err(ArgumentError::OutOfRange));
    let many = encode(|out| {
        write::array(out, 16)?;
        (0..16).try_for_each(|_| out.put(&n))
    });
    assert_eq!(Keys::parse(Encoded::parse(&many).unwrap()), Err(ArgumentError::OutOfRange));
    for (rows, keys) in [(Some(&parts.rows), None), (None, Some(&parts.keys))] {
        let options = StoreOptions {
            rows: rows.map(|rows| Rows::parse(Encoded::parse(rows).unwrap()).unwrap()),
            keys: keys.map(|keys| Keys::parse(Encoded::parse(keys).unwrap()).unwrap()),
            ..StoreOptions::default()
        };
        let store = Store { address: Address([1; 32]), key: key(&alone), value: Encoded::NIL, options };
        let bytes = encode(|out| store.write(out));
        let parsed = Request::parse(Operation::Store, &bytes);
        assert_eq!(parsed, Err(ArgumentError::OutOfRange), "another register's");
    }
}

/// Lists of members are in order, name nobody twice, and have somebody in them.
/// spec: p2p/members
#[test]
fn members_that_are_no_lists_are_refused() {
    let ids = |bytes: &[u8]| bytes.iter().flat_map(|byte| [*byte; 32]).collect::<Vec<u8>>();
    let (one, two) = (ids(&[1]), ids(&[1, 2]));
    let members = Members::new(&one, &two).unwrap();
    assert!(
        members.before().eq([NodeId([1; 32])]) && members.now().eq([1, 2].map(|byte| NodeId([byte; 32])))
    );
    assert_eq!(members.to_string(), "2 members after 1");
    let most: Vec<u8> = (1..=16).collect();
    let most = Members::new(&ids(&most), &ids(&most)).map(|members| encode(|out| members.write(out)).len());
    assert_eq!(most, Ok(MEMBERS_LEN_MAX));
    assert!(Members::new(&[], &two).is_ok(), "it came from nowhere");
    let out_of_range = Err(ArgumentError::OutOfRange);
    assert_eq!(Members::new(&one, &[]), out_of_range, "nobody now");
    assert_eq!(Members::new(&one, &ids(&[2, 1])), out_of_range, "another order");
    assert_eq!(Members::new(&ids(&[1, 1]), &two), out_of_range, "one twice");
    let many: Vec<u8> = (0..17).collect();
    assert_eq!(Members::new(&one, &ids(&many)), out_of_range, "too many");
    assert_eq!(Members::new(&one, &two[1..]), Err(ArgumentError::Shape), "bytes are left over");
}

/// spec: p2p/store
#[test]
fn an_option_that_nobody_knows_is_an_error() {
    let key = key_bytes("g", "n");
    let payload = encode(|out| {
        write::array(out, 4)?;
        write::bin(out, &[0; 32])?;
        out.put(&key)?;
        write::nil(out)?;
        write::map(out, 1)?;
        write::str(out, "quorum")?;
        write::unsigned(out, 2)
    });
    assert_eq!(Request::parse(Operation::Store, &payload), Err(ArgumentError::UnknownOption));
}

/// spec: p2p/diff
#[test]
fn operations_that_cannot_be_are_refused() {
    let diff = |operation: &[u8], count: u32| {
        let bytes = encode(|out| {
            write::array(out, 3)?;
            write::bin(out, &[0; 32])?;
            write::unsigned(out, 1)?;
            write::array(out, count)?;
            (0..count).try_for_each(|_| out.put(operation))
        });
        Diff::parse(Encoded::parse(&bytes).unwrap()).err()
    };
    let remove = [0x92, 1, 0x91, 0xa1, b'a'];
    assert_eq!(diff(&remove, 256), None);
    assert_eq!(diff(&remove, 257), Some(ArgumentError::OutOfRange), "too many");
    assert_eq!(
        diff(&[0x92, 1, 0x90], 1),
        Some(ArgumentError::OutOfRange),
        "the whole value cannot be removed"
    );
    assert_eq!(diff(&[0x92, 3, 0x90], 1), Some(ArgumentError::OutOfRange), "an unknown operation");
    assert_eq!(diff(&[0x92, 1, 0x91, 1], 1), Some(ArgumentError::Shape), "a path of numbers");
    assert_eq!(diff(&[0x92, 0, 0x90], 1), Some(ArgumentError::Shape), "nothing to set");
    assert_eq!(diff(&[0x95, 2, 0x90, 0, 0xff, 0xc4, 0], 1), Some(ArgumentError::Shape), "less than nothing");
    let deep = [&[0x92, 1, 0xdc, 0, 17][..], &[0xa0; 17]].concat();
    assert_eq!(diff(&deep, 1), Some(ArgumentError::Shape), "deeper than a value");
}

/// spec: p2p/answers
#[test]
fn answers_come_back() {
    let parts = parts();
    let key = Key::parse(&parts.key).unwrap().unwrap();
    let value = Encoded::parse(&parts.value).unwrap();
    let record = Some(ValueRecord::parse(&parts.record).unwrap());
    let lease = Some(LeaseRow { holder: NodeId([9; 32]), until_ms: 1, token: 2 });
    let low = Ballot { counter: 6, proposer: NodeId([4; 32]) };
    let high = Ballot { counter: 7, proposer: NodeId([3; 32]) };
    assert!(low < high && high < Ballot { proposer: NodeId([4; 32]), ..high });
    let rows = Rows::parse(Encoded::parse(&parts.rows).unwrap()).unwrap();
    let members = Members::new(&parts.members, &parts.members[..32]).ok();
    for (accepted, is_settled, members) in [(None, false, None), (Some(low), true, members)] {
        let promise = Promise { promised: high, accepted, is_settled, rows, members };
        let found = Found { key, value: Encoded::NIL, metadata: Metadata::default() };
        assert_ack(&Ack::Stored(found, Some(promise)));
    }
    for metadata in [
        Metadata { record, lease },
        Metadata { record: None, lease },
        Metadata { record, lease: None },
        Metadata::default(),
    ] {
        let found = Found { key, value, metadata };
        assert_ack(&Ack::Value(found));
        assert_ack(&Ack::Stored(found, None));
        for promised in [None, Some(high)] {
            for metadata in [None, Some(metadata)] {
                let reason = Reason::Mismatch;
                assert_nack(&Nack::Store(StoreNack { reason, metadata, promised }));
            }
        }
    }
    for operation in [Operation::Ping, Operation::ChangeKey, Operation::Speak] {
        assert_ack(&Ack::Plain(operation));
    }
    assert_ack(&Ack::Whisper(SignedMessageId([0xab; 16])));
    assert_ack(&Ack::Custom(value));
    assert_nack(&Nack::Custom(value));
    for reason in Reason::ALL {
        assert_nack(&Nack::Plain(Operation::Reserved13, reason));
    }
}

/// spec: p2p/answers
#[test]
fn at_most_sixteen_nodes_are_told() {
    let records: Vec<Vec<u8>> = (0..17).map(node).collect();
    for count in [0, 1, 16, 17] {
        let bytes = encode(|out| write_nodes(out, records[..count].iter().map(Vec::as_slice)));
        let Ok(Ack::Nodes(nodes)) = Ack::parse(&bytes) else { panic!("no nodes") };
        assert_eq!(nodes.count(), count.min(NODES_MAX));
        assert!(
            nodes
                .iter()
                .map(|record| record.bytes().to_vec())
                .eq(records[..count.min(NODES_MAX)].iter().cloned())
        );
        assert_ack(&Ack::Nodes(nodes));
    }
    let seventeen = encode(|out| {
        write::array(out, 18)?;
        write::unsigned(out, 9)?;
        records.iter().try_for_each(|record| write::bin(out, record))
    });
    assert_eq!(Ack::parse(&seventeen), Err(ArgumentError::OutOfRange));
}

/// spec: p2p/arguments
#[test]
fn other_shapes_are_refused() {
    let refused = |operation, payload: &[u8]| Request::parse(operation, payload).err();
    let shape = Some(ArgumentError::Shape);
    assert_eq!(refused(Operation::Ping, &[0x90]), shape);
    assert_eq!(refused(Operation::Ping, &[]), Some(ArgumentError::Msgpack(MsgpackError::Truncated)));
    assert_eq!(refused(Operation::SetConnectionOption, &[0x91, 0]), shape);
    assert_eq!(refused(Operation::SetConnectionOption, &[0x92, 0xff, 0]), shape);
    assert_eq!(refused(Operation::FindNode, &[0xc4, 1, 0]), shape);
    assert_eq!(refused(Operation::FindNode, &[0xa1, 0]), shape);
    assert_eq!(refused(Operation::Announce, &[0xc4, 0]), Some(ArgumentError::Record(WireError::Truncated)));
    assert_eq!(refused(Operation::Store, &[0x90]), shape);
    for operation in [Operation::Ack, Operation::Nack, Operation::Reserved12, Operation::Reserved14] {
        assert_eq!(refused(operation, &[0xc0]), Some(ArgumentError::Operation));
    }
    for payload in [&[0xc0][..], &[0x90], &[0x91, 0xc0], &[0x92, 2, 2], &[0x91, 8], &[0x93, 9, 1, 2]] {
        assert_eq!(Ack::parse(payload), Err(ArgumentError::Shape), "{payload:02x?}");
    }
    assert_eq!(Ack::parse(&[0x91, 16]), Err(ArgumentError::OutOfRange));
    assert_eq!(Nack::parse(&[0x92, 12, 14]), Err(ArgumentError::OutOfRange));
    assert_eq!(Nack::parse(&[0x92, 12, 0]), Err(ArgumentError::OutOfRange));
}

proptest! {
    /// Junk with the right beginnings: nothing panics, what parses is written and read again.
    #[test]
    fn junk_never_panics(code in 0_u8..16, junk in prop::collection::vec(prop_oneof![0_u8..16, 0x90_u8..0x96, any::<u8>()], 0..80)) {
        let operation = Operation::from_code(code);
        if let Ok(request) = Request::parse(operation, &junk) {
            let again = encode(|out| request.write(out));
            let again = Request::parse(operation, &again);
            prop_assert_eq!(again.map(|request| request.to_string()), Ok(request.to_string()));
        }
        let junk = [&[0x90 | (junk.len() % 7) as u8, code][..], &junk].concat();
        let _ = Ack::parse(&junk).map(|ack| assert_ack(&ack));
        let _ = Nack::parse(&junk).map(|nack| nack.to_string());
    }
}
