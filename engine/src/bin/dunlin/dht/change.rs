//! `dunlin dht diff` and `dht atomic`: changes described in JSON.

use clap::Args;
use dunlin::control::{ChangeOf, WishLine, to_hex};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::msgpack::{Encoded, write};
use serde::Deserialize;
use serde_json::Value;

use super::key::{self, KeyFlags, Name, encode};
use super::put::condition;
use super::terms::{LeaveFlag, LeavesFlag, Terms};
use crate::failure::Failure;
use crate::{Done, words};

/// Bytes of a file with changes.
const FILE_LEN_MAX: usize = 2 << 20;

#[derive(Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    key: KeyFlags,
    /// A file with the operations; - is standard input
    #[arg(value_name = "PATCH.json")]
    patch: String,
    /// Only if this is there: SEQUENCE:HASH as `dunlin dht get --cas` prints it, or none
    #[arg(long, value_name = "SEQUENCE:HASH|none", value_parser = condition)]
    cas: Option<String>,
    #[command(flatten)]
    leave: LeaveFlag,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Args)]
pub(crate) struct Atomic {
    /// A file with the changes; - is standard input
    #[arg(value_name = "FILE.json")]
    file: String,
    #[command(flatten)]
    leaves: LeavesFlag,
    #[command(flatten)]
    terms: Terms,
}

/// One operation of a patch.
#[derive(Deserialize)]
#[serde(untagged)]
enum Operation {
    Set(Set),
    Remove(Remove),
    Splice(Splice),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    set: Vec<String>,
    to: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    remove: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Splice {
    splice: Vec<String>,
    at: u64,
    #[serde(default)]
    remove: u64,
    #[serde(default)]
    insert: Value,
}

/// What `dunlin dht atomic` reads.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Together {
    group: Name,
    changes: Vec<One>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: Name,
    cas: Option<String>,
    /// Told from its absence: null is what `delete` leaves.
    #[serde(default, deserialize_with = "some")]
    set: Option<Value>,
    #[serde(default)]
    delete: bool,
    diff: Option<Vec<Operation>>,
}

fn some<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

pub(super) fn diff(arguments: &Diff) -> Done {
    let (key, token) = (arguments.key.encode()?, arguments.key.token(arguments.terms.token)?);
    let leaves = arguments.leave.read()?.into_iter().collect();
    let text = read(&arguments.patch)?;
    let operations: Vec<Operation> = parse("diff", &arguments.patch, &text)?;
    let wish = WishLine::Diff(operations_of(&operations, text.len())?);
    let change = ChangeOf { key, cas: arguments.cas.clone(), wish };
    arguments.terms.decide(vec![change], (token, leaves))
}

pub(super) fn atomic(arguments: &Atomic) -> Done {
    let text = read(&arguments.file)?;
    let together: Together = parse("atomic", &arguments.file, &text)?;
    let change = |one: &One| change_of(&together.group, one, text.len());
    let changes = together.changes.iter().map(change).collect::<Result<Vec<ChangeOf>, Failure>>()?;
    let first = together.changes.first().ok_or_else(|| Failure::usage("there is nothing to change"))?;
    let token = key::token((&first.name, Some(&together.group)), arguments.terms.token)?;
    arguments.terms.decide(changes, (token, arguments.leaves.read()?))
}

fn change_of(group: &Name, one: &One, len: usize) -> Result<ChangeOf, Failure> {
    let named = |why: &str| Failure::usage(format_args!("{}: {why}", one.name));
    let cas = one.cas.as_deref().map(condition).transpose().map_err(|why| named(&why))?;
    let wish = match (&one.set, one.delete, &one.diff) {
        (Some(value), false, None) => {
            WishLine::Set(checked(&words::packed(len, |out| words::write_json(out, value)))?)
        }
        (None, true, None) => WishLine::Delete,
        (None, false, Some(operations)) => WishLine::Diff(operations_of(operations, len)?),
        _ => return Err(named("give one of \"set\", \"delete\": true and \"diff\"")),
    };
    Ok(ChangeOf { key: encode(&one.name, Some(group))?, cas, wish })
}

fn read(path: &str) -> Result<Vec<u8>, Failure> {
    let text = words::file_bytes(path, FILE_LEN_MAX)?;
    if text.len() > FILE_LEN_MAX {
        return Err(Failure::usage(format_args!("{path}: this is longer than {FILE_LEN_MAX} bytes")));
    }
    Ok(text)
}

fn parse<'t, T: Deserialize<'t>>(verb: &str, path: &str, text: &'t [u8]) -> Result<T, Failure> {
    serde_json::from_slice(text).map_err(|error| {
        Failure::usage(format_args!("{path}: {error}; `dunlin dht {verb} --help` shows what is meant"))
    })
}

/// The operations as nodes are told: their array in msgpack.
fn operations_of(operations: &[Operation], len: usize) -> Result<String, Failure> {
    let bytes = words::packed(len, |out| {
        write::array(out, u32::try_from(operations.len()).unwrap_or(u32::MAX))?;
        operations.iter().try_for_each(|operation| operation.write(out))
    });
    checked(&bytes)
}

fn checked(bytes: &[u8]) -> Result<String, Failure> {
    match Encoded::parse(bytes) {
        Ok(_) => Ok(to_hex(bytes)),
        Err(error) => Err(Failure::usage(format_args!("this cannot be a value: {error}"))),
    }
}

impl Operation {
    fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        match self {
            Self::Set(Set { set, to }) => {
                head(out, (3, 0), set)?;
                words::write_json(out, to)
            }
            Self::Remove(Remove { remove }) => head(out, (2, 1), remove),
            Self::Splice(Splice { splice, at, remove, insert }) => {
                head(out, (5, 2), splice)?;
                write::unsigned(out, *at)?;
                write::unsigned(out, *remove)?;
                match words::hex_of(insert) {
                    Some(bytes) => write::bin(out, &bytes),
                    None => write::bin(out, insert.as_str().unwrap_or_default().as_bytes()),
                }
            }
        }
    }
}

/// How many elements an operation has, its number and its path.
fn head(out: &mut Writer<'_>, (count, kind): (u32, u64), path: &[String]) -> Result<(), NoRoom> {
    write::array(out, count)?;
    write::unsigned(out, kind)?;
    write::array(out, u32::try_from(path.len()).unwrap_or(u32::MAX))?;
    path.iter().try_for_each(|key| write::str(out, key))
}

#[cfg(test)]
mod tests {
    use dunlin_codec::args::{Diff as Parsed, DiffOperation};

    use super::*;

    fn encoded(patch: &str) -> Result<Vec<u8>, Failure> {
        let operations: Vec<Operation> = parse("diff", "-", patch.as_bytes())?;
        let digits = operations_of(&operations, patch.len())?;
        Ok(dunlin::control::from_hex(&digits).unwrap())
    }

    #[test]
    fn a_patch_becomes_operations() {
        let patch = r#"[{"set":["a","b"],"to":{"c":1}},{"remove":["d"]},{"splice":["t"],"at":1,"remove":2,"insert":"xy"},
            {"splice":["u"],"at":0,"insert":{"hex":"ff"}}]"#;
        let operations = encoded(patch).unwrap();
        let whole = words::packed(operations.len() + 64, |out| {
            write::array(out, 3)?;
            write::bin(out, &[0; 32])?;
            write::unsigned(out, 0)?;
            write::encoded(out, Encoded::parse(&operations).unwrap())
        });
        let parsed = Parsed::parse(Encoded::parse(&whole).unwrap()).unwrap();
        let shown: Vec<String> =
            parsed.operations().map(|operation: DiffOperation<'_>| operation.to_string()).collect();
        assert_eq!(
            shown,
            [
                r#"set ["a", "b"] {"c": 1}"#,
                r#"remove ["d"]"#,
                r#"splice ["t"] at 1 removed 2 inserted 2"#,
                r#"splice ["u"] at 0 removed 0 inserted 1"#
            ]
        );
        for wrong in [
            "",
            "{}",
            "[1]",
            r#"[{"set":["a"]}]"#,
            r#"[{"remove":["a"],"to":1}]"#,
            r#"[{"splice":[],"at":-1}]"#,
        ] {
            assert!(encoded(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_change_of_a_group_says_one_thing() {
        let change = |text: &str| {
            let one: One = serde_json::from_str(text).unwrap();
            change_of(&Name::Text("g".to_owned()), &one, text.len()).map(|change| (change.key, change.wish))
        };
        let (key, wish) = change(r#"{"name":"n","set":null}"#).unwrap();
        assert_eq!((key.as_str(), wish), ("92a167a16e", WishLine::Set("c0".to_owned())));
        assert_eq!(change(r#"{"name":"n","delete":true}"#).unwrap().1, WishLine::Delete);
        let (key, _) = change(r#"{"name":{"hex":"ff"},"delete":true}"#).unwrap();
        assert_eq!(key, "92a167c401ff", "a name of bytes");
        for wrong in [
            r#"{"name":"n"}"#,
            r#"{"name":"n","set":1,"delete":true}"#,
            r#"{"name":"n","cas":"nonsense","delete":true}"#,
        ] {
            assert!(change(wrong).is_err(), "{wrong}");
        }
    }
}
