//! Values in msgpack, records, and diffs.

use dunlin_codec::args::{Diff, Request};
use dunlin_codec::bytes::Writer;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::{DEPTH_MAX, ELEMENTS_MAX, Encoded, Value, write};
use dunlin_codec::record::{
    KeyChange, NODE_RECORD_LEN_MAX, NodeRecord, VALUE_RECORD_LEN_MAX, ValueRecord, set_signature,
};
use dunlin_shards::dht::diff::{apply, propose};
use dunlin_shards::identity::chain::{KeyChains, Word};
use dunlin_shards::identity::change::{SIGNED_CHANGE_LEN, SignedChange};
use dunlin_shards::time::WallMillis;

use super::packets::{assert_shows, written};

/// What a diff may make.
const VALUE_LEN_MAX: usize = 64 << 10;

/// One value.
pub fn msgpack(input: &[u8]) {
    let Ok(value) = Encoded::parse(input) else { return };
    assert_eq!(value.bytes(), input);
    let mut elements = 0;
    assert_walks(value, DEPTH_MAX, &mut elements);
    assert!(elements <= ELEMENTS_MAX as usize);
    let line = assert_shows(&value);
    // A double of four bytes is written in eight: nothing else becomes longer.
    let mut room = vec![0; 2 * input.len()];
    let mut out = Writer::new(&mut room);
    write::shortest(&mut out, value).expect("the shortest encoding fits");
    let again = Encoded::parse(out.written()).expect("what was written reads back");
    assert_eq!(again.to_string(), line, "every encoding of a value says the same");
}

/// Everything in a value is there, and nothing is deeper than allowed.
fn assert_walks(value: Encoded<'_>, depth: usize, elements: &mut usize) {
    let inner = || depth.checked_sub(1).expect("nothing is deeper than allowed");
    match value.value() {
        Value::Array(array) => {
            assert_eq!(array.iter().count(), array.count());
            *elements += array.count();
            let depth = inner();
            array.iter().for_each(|item| assert_walks(item, depth, elements));
        }
        Value::Map(map) => {
            assert_eq!(map.iter().count(), map.count());
            *elements += 2 * map.count();
            let mut names: Vec<&str> = map.iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "keys differ");
            let depth = inner();
            map.iter().for_each(|(_, value)| assert_walks(value, depth, elements));
        }
        Value::Negative(value) => assert!(value < 0),
        Value::Nil => assert!(value.is_nil()),
        _ => {}
    }
}

/// A record of any kind.
pub fn record(input: &[u8]) {
    if let Ok(node) = NodeRecord::parse(input) {
        assert!(input.len() <= NODE_RECORD_LEN_MAX);
        let endpoints: Vec<_> = node.endpoints().collect();
        assert!(endpoints.iter().all(|endpoint| endpoint.port() != 0));
        let mut again = written(input.len(), |out| node.fields.write(out, &endpoints));
        set_signature(&mut again, node.signature()).expect("a record has a signature");
        assert_eq!(again, input, "nothing in a record is lost");
        assert_shows(&node);
    }
    if let Ok(value) = ValueRecord::parse(input) {
        assert!(input.len() <= VALUE_RECORD_LEN_MAX);
        let grant = value.grant.map(|grant| (grant.until_ms, grant.signature));
        let mut again = written(input.len(), |out| value.fields.write(out, grant));
        set_signature(&mut again, value.signature()).expect("a record has a signature");
        assert_eq!(again, input, "nothing in a record is lost");
        assert_shows(&value);
    }
    if let Ok(change) = KeyChange::parse(input) {
        assert_eq!(change.to_bytes(), input);
        assert_shows(&change);
    }
    if let Ok(bytes) = input.try_into() {
        signed_change(bytes);
    }
}

/// A change of key with both signatures: what was kept, what is told of it, what becomes of whoever hears it.
fn signed_change(bytes: &[u8; SIGNED_CHANGE_LEN]) {
    let Some(signed) = SignedChange::from_bytes(bytes) else { return };
    assert_eq!(signed.to_bytes(), *bytes);
    let payload = signed.payload();
    let Ok(Request::ChangeKey(told)) = Request::parse(Operation::ChangeKey, &payload) else {
        panic!("what we tell is one");
    };
    assert_eq!(SignedChange::told(&told), signed);
    let (mut chains, now) = (KeyChains::default(), WallMillis(signed.change.time_ms));
    let heard = chains.on_change(&signed, now, Word::Of(signed.change.current));
    let is_followed = chains.present(&signed.change.current) == signed.change.new;
    assert_eq!(heard.is_ok(), is_followed);
    assert!(signed.verify().is_ok() || !is_followed);
}

/// Two bytes with the length of a value, the value, and a diff.
pub fn diff(input: &[u8]) {
    let Some((len, rest)) = input.split_first_chunk() else { return };
    let Some((base, diff)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))) else { return };
    let (Ok(base), Ok(value)) = (Encoded::parse(base), Encoded::parse(diff)) else { return };
    let Ok(mut diff) = Diff::parse(value) else { return };
    assert_shows(&diff);
    let applied = apply(base, &diff, VALUE_LEN_MAX);
    let Ok(proposed) = propose(base, &diff, VALUE_LEN_MAX) else {
        assert!(applied.is_err());
        return;
    };
    assert!(proposed.len() <= VALUE_LEN_MAX && Encoded::parse(&proposed).is_ok());
    assert!(applied.is_err() || applied.as_ref() == Ok(&proposed));
    diff.result_len = proposed.len() as u64;
    assert_eq!(apply(base, &diff, VALUE_LEN_MAX), Ok(proposed), "a storer comes to the same");
}
