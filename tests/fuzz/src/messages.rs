//! Transmissions, the messages in them, and their arguments.

use dunlin_codec::args::{Ack, Nack, Request, Roll};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::message::{CarriedMessages, DirectMessages, Operation, set_signature};
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::transmission::{Compression, Transmission};
use dunlin_shards::messages::compression::{compress, decompress};

use super::packets::{assert_shows, written};

/// What a body may become.
const BODY_LEN_MAX: usize = 1 << 20;

/// A transmission: it is decompressed, and what comes out is read as messages.
pub fn transmission(input: &[u8]) {
    let Ok(transmission) = Transmission::parse(input) else { return };
    assert_eq!(written(input.len(), |out| transmission.write(out)), input);
    assert_shows(&transmission);
    let mut body = Vec::new();
    if decompress(transmission.compression, transmission.body, BODY_LEN_MAX, &mut body).is_err() {
        assert!(body.is_empty(), "what was refused leaves nothing behind");
        return;
    }
    assert!(body.len() <= BODY_LEN_MAX);
    message(&body);
    let (mut short, mut again) = (Vec::new(), Vec::new());
    for method in Compression::ALL {
        if compress(method, &body, &mut short) {
            assert!(short.len() < body.len());
            assert_eq!(decompress(method, &short, body.len(), &mut again), Ok(()), "{method}");
            assert_eq!(again, body, "{method}");
        }
    }
}

/// A body of messages, read in both forms.
pub fn message(input: &[u8]) {
    let mut front = 0;
    for message in DirectMessages::new(input) {
        let Ok(message) = message else { break };
        // Integers may be longer than need be, so a message may have come longer than it is written.
        let bytes = written(message.encoded_len(), |out| message.write(out));
        assert_eq!(DirectMessages::new(&bytes).next(), Some(Ok(message)));
        assert_shows(&message);
        front += bytes.len();
    }
    assert!(front <= input.len());
    let mut rest = input;
    for message in CarriedMessages::new(input) {
        let Ok(message) = message else { break };
        let bytes = message.message.bytes();
        let header = message.message.header();
        let mut again = written(bytes.len(), |out| header.write(out, message.message.payload()));
        set_signature(&mut again, message.message.signature()).expect("a message has a signature");
        assert_eq!(again, bytes, "nothing in a message is lost");
        assert_eq!(rest[0], message.hops);
        assert_eq!(&rest[1..=bytes.len()], bytes, "it is carried on as it came");
        rest = &rest[1 + bytes.len()..];
        assert_shows(&message);
    }
}

/// An operation's number, then its payload.
pub fn arguments(input: &[u8]) {
    let Some((code, payload)) = input.split_first() else { return };
    let operation = Operation::from_code(*code);
    let Some((line, again)) = rewritten(operation, payload) else { return };
    assert!(again.len() <= payload.len(), "nothing is written longer than it came");
    let twice = rewritten(operation, &again).expect("what was written reads back");
    assert_eq!(twice, (line, again), "and says the same");
}

/// What a holder says to be the roll.
pub fn roll(input: &[u8]) {
    let Ok(Ok(roll)) = Encoded::parse(input).map(Roll::parse) else { return };
    assert_shows(&roll);
    let records: Vec<&[u8]> = roll.iter().map(|record| record.bytes()).collect();
    let again = bytes_of(input.len(), |out| Roll::write_new(out, &records));
    let twice = Encoded::parse(&again).map(Roll::parse).expect("what was written is a value");
    let records_again = twice.expect("and a roll").iter().map(|record| record.bytes().to_vec());
    assert_eq!(records_again.collect::<Vec<_>>(), records, "and says the same");
}

/// What a payload says, and how it is written.
fn rewritten(operation: Operation, payload: &[u8]) -> Option<(String, Vec<u8>)> {
    let len = payload.len();
    match operation {
        Operation::Ack => {
            let ack = Ack::parse(payload).ok()?;
            Some((assert_shows(&ack), bytes_of(len, |out| ack.write(out))))
        }
        Operation::Nack => {
            let nack = Nack::parse(payload).ok()?;
            Some((assert_shows(&nack), bytes_of(len, |out| nack.write(out))))
        }
        _ => {
            let request = Request::parse(operation, payload).ok()?;
            assert_eq!(request.operation(), operation);
            Some((assert_shows(&request), bytes_of(len, |out| request.write(out))))
        }
    }
}

/// What is written into at most `len` bytes.
fn bytes_of(len: usize, write: impl FnOnce(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut room = vec![0; len];
    let mut out = Writer::new(&mut room);
    write(&mut out).expect("nothing is written longer than it came");
    out.written().to_vec()
}
