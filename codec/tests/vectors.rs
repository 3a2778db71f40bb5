//! The msgpack profile against the msgpack test suite: every legal encoding is read, the others are refused by name.
//!
//! The file lies in `../shared/vectors` beside the project, or where DUNLIN_VECTORS says. Without it the test prints
//! SKIPPED, and fails where CI is set.
#![expect(clippy::unwrap_used, reason = "a vector that does not parse is a failure")]

use std::path::PathBuf;

use dunlin_codec::bytes::Writer;
use dunlin_codec::msgpack::{Encoded, MsgpackError, Value, write};
use serde_json::Value as Json;

const FILE: &str = "msgpack-test-suite.json";

/// The suite's groups, and how many encodings they have in all.
const GROUPS: usize = 15;
const CASES: usize = 233;

fn load() -> Option<Json> {
    let folder = std::env::var_os("DUNLIN_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        PathBuf::from,
    );
    match std::fs::read(folder.join(FILE)) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => {
            println!("SKIPPED vectors: {FILE}: {error} (set DUNLIN_VECTORS)");
            assert!(std::env::var_os("CI").is_none(), "{FILE} was not found, and CI is set");
            None
        }
    }
}

/// `81-a1-61-01`.
fn hex(value: &Json) -> Vec<u8> {
    let pairs = value.as_str().unwrap().split('-').filter(|pair| !pair.is_empty());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Whether a value is the number that the suite names; it names some as floating-point numbers, some in digits.
fn is_number(value: Value<'_>, number: &Json, digits: &Json) -> bool {
    let exact: Option<i128> = match digits.as_str() {
        Some(digits) => digits.parse().ok(),
        None => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
    };
    match value {
        Value::Unsigned(value) => exact == Some(i128::from(value)),
        Value::Negative(value) => exact == Some(i128::from(value)),
        Value::Double(value) => exact.map_or(number.as_f64(), |exact| Some(exact as f64)) == Some(value),
        _ => false,
    }
}

/// Whether a value is what JSON says, in arrays and maps.
fn is_json(value: Encoded<'_>, json: &Json) -> bool {
    match (value.value(), json) {
        (Value::Nil, Json::Null) => true,
        (Value::Bool(value), Json::Bool(expected)) => value == *expected,
        (Value::Str(value), Json::String(expected)) => value == expected,
        (Value::Array(items), Json::Array(expected)) => {
            items.count() == expected.len()
                && items.iter().zip(expected).all(|(item, json)| is_json(item, json))
        }
        (Value::Map(map), Json::Object(expected)) => {
            map.count() == expected.len()
                && expected.iter().all(|(key, json)| map.get(key).is_some_and(|value| is_json(value, json)))
        }
        (value, Json::Number(_)) => is_number(value, json, &Json::Null),
        _ => false,
    }
}

/// One encoding of a case that the profile has.
fn assert_read(case: &Json, bytes: &[u8]) {
    let value = Encoded::parse(bytes).unwrap_or_else(|error| panic!("{case}: {bytes:02x?}: {error}"));
    let is_right = if let Some(number) = case.get("number").or_else(|| case.get("bignum")) {
        is_number(value.value(), number, case.get("bignum").unwrap_or(&Json::Null))
    } else if let Some(binary) = case.get("binary") {
        value.as_bin() == Some(&hex(binary))
    } else {
        let names = ["nil", "bool", "string", "array", "map"];
        let expected = names.iter().find_map(|name| case.get(*name));
        is_json(value, expected.unwrap_or_else(|| panic!("what is {case}?")))
    };
    assert!(is_right, "{case}: {bytes:02x?} was read as {value}");
    let mut room = vec![0; bytes.len() + 8];
    let mut out = Writer::new(&mut room);
    write::shortest(&mut out, value).unwrap();
    // No encoding of the suite is shorter, but those as floating-point numbers: an integer stays one, and a double has
    // eight bytes.
    let listed: Vec<Vec<u8>> = case["msgpack"].as_array().unwrap().iter().map(hex).collect();
    let is_double = matches!(value.value(), Value::Double(_));
    let exact = listed.iter().filter(|bytes| !matches!(bytes[0], 0xca | 0xcb));
    let shortest = exact.map(Vec::len).min().unwrap_or(9);
    assert!(listed.iter().any(|bytes| bytes == out.written()) || is_double, "{case}: {:02x?}", out.written());
    assert!(out.len() == shortest || is_double, "{case}: {} bytes", out.len());
}

/// spec: p2p/msgpack
#[test]
fn msgpack_test_suite() {
    let Some(file) = load() else { return };
    let groups = file.as_object().unwrap();
    let (mut read, mut refused) = (0, 0);
    for (group, cases) in groups {
        for case in cases.as_array().unwrap() {
            for bytes in case["msgpack"].as_array().unwrap().iter().map(hex) {
                if case.get("ext").is_some() || case.get("timestamp").is_some() {
                    assert_eq!(Encoded::parse(&bytes), Err(MsgpackError::Extension), "{group}: {case}");
                    refused += 1;
                } else {
                    assert_read(case, &bytes);
                    read += 1;
                }
            }
        }
    }
    println!("{FILE}: {} groups, {read} encodings read, {refused} extensions refused", groups.len());
    assert!(groups.len() >= GROUPS, "{} groups of {GROUPS}", groups.len());
    assert!(read + refused >= CASES, "{} encodings of {CASES}", read + refused);
}
