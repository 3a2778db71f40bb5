//! What travels inside handshake packets, and the messages of a file transfer.

use dunlin_codec::file::{BLOCK_LEN_MAX, FileMessage};
use dunlin_codec::payload::{FinishPayload, HelloPayload, WelcomePayload};

use super::packets::{assert_shows, written};

/// The payloads of all three handshake messages: each reads the whole input.
pub fn payloads(input: &[u8]) {
    if let Ok(payload) = HelloPayload::parse(input) {
        assert!(payload.encoded_len() <= input.len());
        assert_eq!(written(input.len(), |out| payload.write(out, input.len())), input);
        let bare = written(payload.encoded_len(), |out| payload.write(out, 0));
        assert_eq!(HelloPayload::parse(&bare), Ok(payload), "padding means nothing");
        assert_shows(&payload);
    }
    if let Ok(payload) = WelcomePayload::parse(input) {
        assert_eq!(payload.encoded_len(), input.len());
        assert_eq!(written(input.len(), |out| payload.write(out)), input);
        assert_shows(&payload);
    }
    if let Ok(payload) = FinishPayload::parse(input) {
        assert_eq!(payload.encoded_len(), input.len());
        assert_eq!(written(input.len(), |out| payload.write(out)), input);
        assert_shows(&payload);
    }
}

/// A message of a file transfer.
pub fn file_message(input: &[u8]) {
    let Ok(message) = FileMessage::parse(input) else { return };
    assert_eq!(message.encoded_len(), input.len());
    assert_eq!(written(input.len(), |out| message.write(out)), input);
    assert_shows(&message);
    if let FileMessage::Block { offset, bytes } = message {
        assert!(bytes.len() <= BLOCK_LEN_MAX as usize && offset.checked_add(bytes.len() as u64).is_some());
    }
}
