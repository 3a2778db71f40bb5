//! The golden vectors: bytes, what they mean, and that writing them again gives the same bytes.
//!
//! In:    `tests/vectors/*.txt`, made from the layouts as documented, not by this code.
//! Out:   one comparison for every entry.
//! Holds: every entry is complete: a name, its line or its error, its bytes.

mod rewrite;

use std::fmt::Debug;
use std::path::PathBuf;

use dunlin_codec::args::{Ack, Nack, Request, Roll};
use dunlin_codec::bytes::Reader;
use dunlin_codec::error::WireError;
use dunlin_codec::file::FileMessage;
use dunlin_codec::frame::Frame;
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::{Carried, Direct, Operation};
use dunlin_codec::msgpack::{self, Encoded};
use dunlin_codec::packet::Packet;
use dunlin_codec::payload::{FinishPayload, HelloPayload, WelcomePayload};
use dunlin_codec::record::{self, Chain, KeyChange, NodeRecord, ValueRecord};
use dunlin_codec::transmission::Transmission;
use rewrite::{write_packet, written};

#[derive(Debug, Default)]
struct Vector {
    what: String,
    /// The displayed line, or the name of the error.
    expected: Option<Result<String, String>>,
    hex: String,
    again: String,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors")
}

fn from_hex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "half a byte in {hex}");
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn read_vectors(file: &str) -> Vec<Vector> {
    let text = std::fs::read_to_string(folder().join(file)).expect("the vectors are part of the repository");
    let mut vectors: Vec<Vector> = Vec::new();
    let mut is_new = true;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.is_empty() {
            is_new = true;
            continue;
        }
        if is_new {
            vectors.push(Vector { what: line.to_owned(), ..Vector::default() });
            is_new = false;
            continue;
        }
        let vector = vectors.last_mut().expect("a name came first");
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "show" => vector.expected = Some(Ok(value.to_owned())),
            "error" => vector.expected = Some(Err(value.to_owned())),
            "hex" => vector.hex += value,
            "again" => vector.again += value,
            _ => panic!("{file}: what is {line:?}?"),
        }
    }
    assert!(!vectors.is_empty(), "{file} is empty");
    vectors
}

/// Compares every entry of `file` with what `read` makes of its bytes: the displayed line, and the bytes written again.
fn compare(file: &str, read: impl Fn(&[u8]) -> Result<(String, Vec<u8>), WireError>) {
    compare_by(file, read);
}

/// The same for layouts with errors of their own.
fn compare_by<E: Debug + PartialEq>(file: &str, read: impl Fn(&[u8]) -> Result<(String, Vec<u8>), E>) {
    for vector in read_vectors(file) {
        let place = format!("{file}: {}", vector.what);
        let bytes = from_hex(&vector.hex);
        let again = if vector.again.is_empty() { bytes.clone() } else { from_hex(&vector.again) };
        match vector.expected.unwrap_or_else(|| panic!("{place}: neither show nor error")) {
            Ok(line) => assert_eq!(read(&bytes), Ok((line, again)), "{place}"),
            Err(error) => {
                let refused = read(&bytes).map_err(|error| format!("{error:?}"));
                assert_eq!(refused, Err(error), "{place}");
            }
        }
    }
}

/// spec: atp/frames
/// spec: atp/segments
/// spec: atp/acknowledgement
#[test]
fn frames() {
    compare("frames.txt", |bytes| {
        let mut reader = Reader::new(bytes);
        let frame = Frame::parse(&mut reader)?;
        assert!(reader.is_empty(), "one frame to an entry");
        let again = written(|out| match frame {
            Frame::Segment(segment) => segment.write(out, bytes[0] & 0x01 == 0),
            _ => frame.write(out),
        });
        Ok((frame.to_string(), again))
    });
}

/// spec: atp/demultiplexing
/// spec: atp/hello
/// spec: atp/welcome
/// spec: atp/cookie
/// spec: atp/finish
/// spec: atp/reset
/// spec: atp/sealed
#[test]
fn packets() {
    compare("packets.txt", |bytes| {
        let packet = Packet::parse(bytes)?;
        Ok((packet.to_string(), write_packet(&packet)))
    });
}

/// spec: atp/handshake-payload
#[test]
fn payloads() {
    compare("hello-payloads.txt", |bytes| {
        let payload = HelloPayload::parse(bytes)?;
        Ok((payload.to_string(), written(|out| payload.write(out, bytes.len()))))
    });
    compare("welcome-payloads.txt", |bytes| {
        let payload = WelcomePayload::parse(bytes)?;
        Ok((payload.to_string(), written(|out| payload.write(out))))
    });
    compare("finish-payloads.txt", |bytes| {
        let payload = FinishPayload::parse(bytes)?;
        Ok((payload.to_string(), written(|out| payload.write(out))))
    });
}

/// spec: atp/file-transfer
#[test]
fn file_messages() {
    compare("files.txt", |bytes| {
        let message = FileMessage::parse(bytes)?;
        Ok((message.to_string(), written(|out| message.write(out))))
    });
}

/// spec: atp/identity
#[test]
fn ids() {
    compare("ids.txt", |bytes| {
        let id = NodeId(*Reader::new(bytes).array()?);
        let read: NodeId = id.to_string().parse().expect("what is displayed reads back");
        Ok((id.to_string(), read.0.to_vec()))
    });
}

/// spec: p2p/msgpack
#[test]
fn msgpack_values() {
    compare_by("msgpack.txt", |bytes| {
        let value = Encoded::parse(bytes)?;
        Ok::<_, msgpack::MsgpackError>((
            value.to_string(),
            written(|out| msgpack::write::shortest(out, value)),
        ))
    });
}

/// spec: p2p/transmission
#[test]
fn transmissions() {
    compare("transmissions.txt", |bytes| {
        let transmission = Transmission::parse(bytes)?;
        Ok((transmission.to_string(), written(|out| transmission.write(out))))
    });
}

/// spec: p2p/direct
/// spec: p2p/signed
#[test]
fn messages() {
    compare("direct-messages.txt", |bytes| {
        let mut reader = Reader::new(bytes);
        let message = Direct::parse(&mut reader)?;
        reader.finish()?;
        Ok((message.to_string(), written(|out| message.write(out))))
    });
    compare("signed-messages.txt", |bytes| {
        let mut reader = Reader::new(bytes);
        let Carried { hops, message } = Carried::parse(&mut reader)?;
        reader.finish()?;
        // From nothing but what the accessors say.
        let mut again = written(|out| message.header().write(out, message.payload()));
        dunlin_codec::message::set_signature(&mut again, message.signature())?;
        let again = [&[hops][..], &again].concat();
        Ok((Carried { hops, message }.to_string(), again))
    });
}

/// spec: p2p/node-record
/// spec: p2p/value-record
/// spec: p2p/change-key
#[test]
fn records() {
    compare("node-records.txt", |bytes| {
        let node = NodeRecord::parse(bytes)?;
        let endpoints: Vec<_> = node.endpoints().collect();
        let mut again = written(|out| node.fields.write(out, &endpoints));
        record::set_signature(&mut again, node.signature())?;
        assert_eq!(node.inception().is_some(), matches!(node.fields.chain, Chain::Inception { .. }));
        Ok((node.to_string(), again))
    });
    compare("value-records.txt", |bytes| {
        let value = ValueRecord::parse(bytes)?;
        let grant = value.grant.map(|grant| (grant.until_ms, grant.signature));
        let mut again = written(|out| value.fields.write(out, grant));
        record::set_signature(&mut again, value.signature())?;
        Ok((value.to_string(), again))
    });
    compare("key-changes.txt", |bytes| {
        let change = KeyChange::parse(bytes)?;
        Ok((change.to_string(), written(|out| change.write(out))))
    });
}

/// One byte for the operation stands before each payload.
/// spec: p2p/arguments
/// spec: p2p/answers
#[test]
fn arguments() {
    compare_by("arguments.txt", |bytes| {
        let (code, payload) = bytes.split_first().expect("an operation comes first");
        let operation = Operation::from_code(*code);
        let (line, again) = match operation {
            Operation::Ack => {
                Ack::parse(payload).map(|ack| (ack.to_string(), written(|out| ack.write(out))))?
            }
            Operation::Nack => {
                Nack::parse(payload).map(|nack| (nack.to_string(), written(|out| nack.write(out))))?
            }
            _ => {
                let request = Request::parse(operation, payload)?;
                assert_eq!(request.operation(), operation);
                (request.to_string(), written(|out| request.write(out)))
            }
        };
        Ok::<_, dunlin_codec::args::ArgumentError>((line, [&[*code][..], &again].concat()))
    });
}

/// spec: p2p/roll
#[test]
fn rolls() {
    compare_by("rolls.txt", |bytes| {
        let roll = Roll::parse(Encoded::parse(bytes)?)?;
        let records: Vec<_> = roll.iter().map(|record| record.bytes()).collect();
        Ok::<_, dunlin_codec::args::ArgumentError>((
            roll.to_string(),
            written(|out| Roll::write_new(out, &records)),
        ))
    });
}
