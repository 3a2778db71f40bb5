//! Values against a simple model, and every way in which bytes are none.

use proptest::prelude::*;

use super::write;
use super::*;
use crate::bytes::Writer;
use crate::error::NoRoom;

fn written(write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut room = vec![0xa5; 2 << 20];
    let mut out = Writer::new(&mut room);
    write(&mut out).unwrap();
    out.written().to_vec()
}

/// A map's bytes with the given keys, all values 0.
fn map_of(keys: impl ExactSizeIterator<Item = String>) -> Vec<u8> {
    written(|out| {
        write::map(out, keys.len() as u32)?;
        for key in keys {
            write::str(out, &key)?;
            write::unsigned(out, 0)?;
        }
        Ok(())
    })
}

/// spec: p2p/msgpack
#[test]
fn what_the_profile_does_not_have_is_refused_by_name() {
    use MsgpackError::*;
    let cases: [(&[u8], MsgpackError); 18] = [
        (&[], Truncated),
        (&[0xc1], Reserved),
        (&[0xc7, 0x00, 0x01], Extension),
        (&[0xd4, 0x01, 0x10], Extension),
        (&[0xd6, 0xff, 0, 0, 0, 0], Extension),
        (&[0x91, 0xd8], Extension),
        (&[0xc0, 0xc0], Trailing),
        (&[0xa1, 0xff], NotUtf8),
        (&[0x81, 0xa1, 0xff, 0], NotUtf8),
        (&[0xa2, 0x61], Truncated),
        (&[0xdd, 0xff, 0xff, 0xff, 0xff, 0], Truncated),
        (&[0xdf, 0xff, 0xff, 0xff, 0xff, 0], Truncated),
        (&[0xdb, 0xff, 0xff, 0xff, 0xff, 0], Truncated),
        (&[0xc6, 0xff, 0xff, 0xff, 0xff, 0], Truncated),
        (&[0x81, 0x01, 0x02], KeyNotStr),
        (&[0x81, 0xc4, 0x01, 0x61, 0x02], KeyNotStr),
        (&[0x82, 0xa1, 0x61, 0x01, 0xa1, 0x61, 0x02], DuplicateKey),
        // The same key in two encodings.
        (&[0x83, 0xa1, 0x62, 1, 0xa1, 0x61, 1, 0xd9, 0x01, 0x62, 2], DuplicateKey),
    ];
    for (bytes, error) in cases {
        assert_eq!(Encoded::parse(bytes), Err(error), "{bytes:02x?}");
    }
}

/// spec: p2p/msgpack
#[test]
fn sixteen_levels_pass_and_seventeen_do_not() {
    let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    assert!(Encoded::parse(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(Encoded::parse(&nested(DEPTH_MAX + 1)), Err(MsgpackError::TooDeep));
    assert_eq!(Encoded::parse(&nested(1 << 20)), Err(MsgpackError::TooDeep));
    let maps = |depth: usize| [[0x81, 0xa1, 0x61].repeat(depth), vec![0xc0]].concat();
    assert!(Encoded::parse(&maps(DEPTH_MAX)).is_ok());
    assert_eq!(Encoded::parse(&maps(DEPTH_MAX + 1)), Err(MsgpackError::TooDeep));
}

/// spec: p2p/msgpack
#[test]
fn elements_are_counted_over_the_whole_value() {
    let list = |count: u32| {
        let mut bytes = written(|out| write::array(out, count));
        bytes.resize(bytes.len() + count as usize, 0xc0);
        bytes
    };
    assert!(Encoded::parse(&list(ELEMENTS_MAX)).is_ok());
    assert_eq!(Encoded::parse(&list(ELEMENTS_MAX + 1)), Err(MsgpackError::TooManyElements));
    let two = [&[0x92][..], &list(ELEMENTS_MAX / 2), &list(ELEMENTS_MAX / 2)].concat();
    assert_eq!(Encoded::parse(&two), Err(MsgpackError::TooManyElements));
    assert_eq!(Encoded::parse(&vec![0; LEN_MAX + 1]), Err(MsgpackError::TooLong));
}

/// Large maps in any order pass; one equal pair among them does not, wherever it stands.
#[test]
fn equal_keys_are_found_in_maps_of_every_size() {
    for count in [2_usize, 63, 64, 65, 4_096, 4_097, 32_768] {
        let key = |at: usize| format!("{:05}", at * 7_919 % 65_521);
        let keys: Vec<String> = (0..count).rev().map(key).collect();
        assert!(Encoded::parse(&map_of(keys.clone().into_iter())).is_ok(), "{count}");
        let sorted = std::collections::BTreeSet::from_iter(keys.clone());
        assert!(Encoded::parse(&map_of(sorted.into_iter().collect::<Vec<_>>().into_iter())).is_ok());
        for (one, other) in [(0, count - 1), (count / 2, count / 2 - 1), (0, count / 3 + 1)] {
            let mut keys = keys.clone();
            keys[one] = keys[other].clone();
            let bytes = map_of(keys.into_iter());
            assert_eq!(Encoded::parse(&bytes), Err(MsgpackError::DuplicateKey), "{count}: {one} and {other}");
        }
    }
}

/// Keys that were searched for until they fall into one class.
#[test]
fn keys_made_to_collide_are_refused() {
    let classes = 16_384_u32.div_ceil(2_048);
    let is_crafted = |key: &String| keys::mix(key.as_bytes()).is_multiple_of(classes);
    let keys: Vec<String> = (0..).map(|at: u32| format!("{at:x}")).filter(is_crafted).take(16_384).collect();
    assert_eq!(Encoded::parse(&map_of(keys.into_iter().rev())), Err(MsgpackError::CraftedKeys));
}

#[test]
fn lists_and_maps_are_taken_apart() {
    let bytes = [0x93, 0x01, 0x82, 0xa1, 0x62, 0x91, 0xc0, 0xa1, 0x61, 0xc4, 0x02, 8, 9, 0xff];
    let value = Encoded::parse(&bytes).unwrap();
    let [one, map, negative] = value.as_array().unwrap().exactly().unwrap();
    assert_eq!((one.as_unsigned(), negative.value()), (Some(1), Value::Negative(-1)));
    let map = map.as_map().unwrap();
    assert_eq!((map.count(), map.iter().count()), (2, 2));
    assert_eq!(map.get("a").and_then(|value| value.as_bytes()), Some(&[8, 9]));
    assert_eq!(map.get("b").map(|value| value.to_string()), Some("[nil]".into()));
    assert!(map.get("c").is_none());
    assert!(value.as_array().unwrap().exactly::<2>().is_none());
    assert!(value.as_array().unwrap().split_first::<4>().is_none());
    let (_, rest) = value.as_array().unwrap().split_first::<2>().unwrap();
    assert_eq!(rest.map(|item| item.to_string()).collect::<Vec<_>>(), ["-1"]);
    assert_eq!(value.to_string(), r#"[1, {"b": [nil], "a": 0x0809}, -1]"#);
}

/// What a test knows of a value.
#[derive(Clone, Debug)]
enum Model {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Double(f64),
    Str(String),
    Bin(Vec<u8>),
    Array(Vec<Model>),
    Map(Vec<(String, Model)>),
}

fn models() -> impl Strategy<Value = Model> {
    let integer = (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift);
    let leaf = prop_oneof![
        Just(Model::Nil),
        any::<bool>().prop_map(Model::Bool),
        integer.clone().prop_map(Model::Unsigned),
        integer.prop_map(|value| Model::Negative(-1 - (value >> 1) as i64)),
        any::<u64>().prop_map(|bits| Model::Double(f64::from_bits(bits))),
        ".{0,40}".prop_map(Model::Str),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Model::Bin),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let map = prop::collection::btree_map(".{0,4}", inner.clone(), 0..20);
        let entries = map.prop_map(|map| map.into_iter().collect::<Vec<_>>()).prop_shuffle();
        prop_oneof![prop::collection::vec(inner, 0..20).prop_map(Model::Array), entries.prop_map(Model::Map),]
    })
}

/// Writes a model; `wide` takes the longest encoding of everything.
fn write_model(out: &mut Writer<'_>, model: &Model, wide: bool) -> Result<(), NoRoom> {
    let head = |out: &mut Writer<'_>, marker: u8, count: usize| {
        out.u8(marker).and_then(|()| out.u32(u32::try_from(count).unwrap()))
    };
    match model {
        Model::Nil => write::nil(out),
        Model::Bool(value) => write::bool(out, *value),
        Model::Unsigned(value) if wide => out.u8(0xcf).and_then(|()| out.u64(*value)),
        Model::Unsigned(value) => write::unsigned(out, *value),
        Model::Negative(value) if wide => out.u8(0xd3).and_then(|()| out.u64(value.cast_unsigned())),
        Model::Negative(value) => write::signed(out, *value),
        Model::Double(value) => write::double(out, *value),
        Model::Str(text) if wide => head(out, 0xdb, text.len()).and_then(|()| out.put(text.as_bytes())),
        Model::Str(text) => write::str(out, text),
        Model::Bin(bytes) if wide => head(out, 0xc6, bytes.len()).and_then(|()| out.put(bytes)),
        Model::Bin(bytes) => write::bin(out, bytes),
        Model::Array(items) => {
            if wide {
                head(out, 0xdd, items.len())?
            } else {
                write::array(out, items.len() as u32)?
            }
            items.iter().try_for_each(|item| write_model(out, item, wide))
        }
        Model::Map(entries) => {
            if wide {
                head(out, 0xdf, entries.len())?
            } else {
                write::map(out, entries.len() as u32)?
            }
            entries.iter().try_for_each(|(key, value)| {
                write_model(out, &Model::Str(key.clone()), wide)?;
                write_model(out, value, wide)
            })
        }
    }
}

fn assert_is(value: Encoded<'_>, model: &Model) {
    match (value.value(), model) {
        (Value::Nil, Model::Nil) => assert!(value.is_nil()),
        (Value::Bool(value), Model::Bool(expected)) => assert_eq!(value, *expected),
        (Value::Unsigned(value), Model::Unsigned(expected)) => assert_eq!(value, *expected),
        (Value::Negative(value), Model::Negative(expected)) => assert_eq!(value, *expected),
        (Value::Double(value), Model::Double(expected)) => assert_eq!(value.to_bits(), expected.to_bits()),
        (Value::Str(value), Model::Str(expected)) => assert_eq!(value, expected),
        (Value::Bin(value), Model::Bin(expected)) => assert_eq!(value, expected),
        (Value::Array(items), Model::Array(expected)) => {
            assert_eq!(items.count(), expected.len());
            assert_eq!(items.iter().count(), expected.len());
            items.iter().zip(expected).for_each(|(item, model)| assert_is(item, model));
        }
        (Value::Map(entries), Model::Map(expected)) => {
            assert_eq!(entries.count(), expected.len());
            assert_eq!(entries.iter().count(), expected.len());
            for ((key, value), (name, model)) in entries.iter().zip(expected) {
                assert_eq!(key, name);
                assert_is(value, model);
            }
        }
        (value, model) => panic!("{value:?} for {model:?}"),
    }
}

proptest! {
    /// spec: p2p/msgpack
    #[test]
    fn values_come_back_from_the_shortest_and_the_longest_encoding(model in models()) {
        let short = written(|out| write_model(out, &model, false));
        let wide = written(|out| write_model(out, &model, true));
        let value = Encoded::parse(&short).unwrap();
        let wide = Encoded::parse(&wide).unwrap();
        assert_is(value, &model);
        assert_is(wide, &model);
        prop_assert_eq!(value.to_string(), wide.to_string());
        prop_assert!(!value.to_string().contains('\n'));
        prop_assert_eq!(written(|out| write::shortest(out, wide)), &short[..]);
        let mut room = vec![0; short.len() - 1];
        let mut out = Writer::new(&mut room);
        prop_assert!(write::shortest(&mut out, wide).is_err() && out.is_empty());
    }

    #[test]
    fn junk_never_panics_and_what_passes_comes_back(junk in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(value) = Encoded::parse(&junk) {
            let short = written(|out| write::shortest(out, value));
            prop_assert!(short.len() <= junk.len() + 4 * junk.len());
            prop_assert_eq!(Encoded::parse(&short).unwrap().to_string(), value.to_string());
        }
    }
}
