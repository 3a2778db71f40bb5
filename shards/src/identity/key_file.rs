//! The key file: one line of text that holds a seed.
//!
//! In:    a seed, or a file's bytes.
//! Out:   the file's bytes, or the seed.
//! Holds: a damaged file is refused, never read as another key.
//!
//! `dunlin-secret-key-1 ` then 64 hexadecimal digits of the seed and 8 of its check, then a line feed. Who
//! may read the file is the engine's affair.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const LABEL: &[u8; 20] = b"dunlin-secret-key-1 ";
const DIGITS: &[u8; 16] = b"0123456789abcdef";
const CHECK_LEN: usize = 4;
const SEED_LEN: usize = 32;

/// Bytes of a key file.
pub const KEY_FILE_LEN: usize = LABEL.len() + 2 * (SEED_LEN + CHECK_LEN) + 1;

/// A file that is no key file, or a damaged one. Nothing of it is told, since it may be a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadKeyFile {
    /// It does not have the form of a key file.
    #[error("this is not a key file")]
    Form,
    /// Its check does not agree with its key.
    #[error("the key file is damaged")]
    Check,
}

/// The bytes of a seed's file.
#[must_use]
pub fn write(seed: &[u8; SEED_LEN]) -> Zeroizing<[u8; KEY_FILE_LEN]> {
    let mut file = Zeroizing::new([b'\n'; KEY_FILE_LEN]);
    let (label, digits) = file.split_at_mut(LABEL.len());
    label.copy_from_slice(LABEL);
    let check = check_of(seed);
    for (pair, byte) in digits.chunks_exact_mut(2).zip(seed.iter().chain(&check)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    file
}

/// The seed in a file's bytes. White space after the line is allowed, as editors leave it.
///
/// # Errors
/// `BadKeyFile`: not a key file, or a damaged one.
pub fn read(file: &[u8]) -> Result<Zeroizing<[u8; SEED_LEN]>, BadKeyFile> {
    let digits = file.trim_ascii_end().strip_prefix(LABEL).ok_or(BadKeyFile::Form)?;
    if digits.len() != 2 * (SEED_LEN + CHECK_LEN) {
        return Err(BadKeyFile::Form);
    }
    let mut bytes = Zeroizing::new([0; SEED_LEN + CHECK_LEN]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    let (seed, check) = bytes.split_first_chunk::<SEED_LEN>().ok_or(BadKeyFile::Form)?;
    let seed = Zeroizing::new(*seed);
    if check != check_of(&seed) {
        return Err(BadKeyFile::Check);
    }
    Ok(seed)
}

fn digit(character: u8) -> Result<u8, BadKeyFile> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(BadKeyFile::Form),
    }
}

fn check_of(seed: &[u8; SEED_LEN]) -> [u8; CHECK_LEN] {
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&Sha256::new().chain_update(LABEL).chain_update(seed).finalize()[..CHECK_LEN]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_comes_back_from_its_file() {
        let seed = core::array::from_fn(|at| at as u8 * 7);
        let file = write(&seed);
        assert!(file.is_ascii() && file.ends_with(b"\n"));
        assert_eq!(*read(&file[..]).unwrap(), seed);
        assert_eq!(*read(&file[..KEY_FILE_LEN - 1]).unwrap(), seed);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let file = write(&[5; 32]);
        for at in 0..KEY_FILE_LEN - 1 {
            let mut changed = *file;
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(read(&changed).is_err(), "byte {at}");
        }
        assert_eq!(read(b"").err(), Some(BadKeyFile::Form));
        assert_eq!(read(&file[..40]).err(), Some(BadKeyFile::Form));
    }
}
