//! What people write and files hold: addresses, IDs, key files, inception records.

use core::str::FromStr;

use dunlin_codec::ids::NodeId;
use dunlin_codec::uri::{DunlinUri, ID_LEN};
use dunlin_shards::identity::{inception, key_file};

use super::packets::assert_shows;

/// An address or an ID, read as both.
pub fn address(input: &[u8]) {
    let Ok(text) = core::str::from_utf8(input) else { return };
    match DunlinUri::from_str(text) {
        Ok(uri) => assert_eq!(assert_shows(&uri).parse(), Ok(uri), "what is shown reads back"),
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.position), "{error} in {text:?}");
            assert_shows(&error);
        }
    }
    match NodeId::from_str(text) {
        Ok(id) => {
            assert_eq!(assert_shows(&id), text.to_ascii_lowercase(), "a key has one spelling");
            assert_eq!(text.len(), ID_LEN);
        }
        Err(error) => assert!((1..=text.len() + 1).contains(&error.position), "{error} in {text:?}"),
    }
    if let Some(key) = input.first_chunk::<32>() {
        let id = NodeId(*key);
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

/// A key file's bytes, read as a key and as an inception record.
pub fn key_file(input: &[u8]) {
    match key_file::read(input) {
        Ok(seed) => {
            let again = key_file::write(&seed);
            assert_eq!(again.trim_ascii_end(), input.trim_ascii_end());
        }
        Err(error) => drop(assert_shows(&error)),
    }
    if let Some(seed) = input.first_chunk::<32>() {
        let file = key_file::write(seed);
        assert_eq!(key_file::read(&file[..]).expect("just written")[..], seed[..]);
    }
    match inception::read(input) {
        Ok(record) => {
            assert_eq!(input.len(), inception::INCEPTION_LEN);
            assert!(input[19..].starts_with(&record.key.0));
        }
        Err(error) => drop(assert_shows(&error)),
    }
}
