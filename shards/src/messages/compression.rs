//! Compression of transmissions, under the caps of T15.
//!
//! In:    a body and a method; a compressed body that came inside a session.
//! Out:   the compressed body where that pays; the body again, or why it is refused.
//! Holds: what comes out is at most as long as was said, and never much longer than what went in; room grows with what was
//!        really decompressed, never with what a header claims. Nothing stands behind the compressed body.
//!
//! A body that came uncompressed is not for here: it is read where it lies.
//!
//! What the methods' own headers claim: lzma's dictionary may claim 4 GiB, more than `LZMA_MEMORY_MAX` is refused, and no
//! more of it is made than can be filled; bz2 takes 3.7 MB at most for one block at a time; snappy's frames are 64 KiB;
//! a zlib body that wants a preset dictionary is refused; gzip is one member. We write `.lzma` with the length in its
//! header and snappy in its frame format, because only that streams.
//!
//! spec: p2p/compression

use std::io::{self, Read, Write};

use bzip2::bufread::{BzDecoder, BzEncoder};
use dunlin_codec::transmission::Compression;
use flate2::bufread::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use lzma_rust2::{LzmaOptions, LzmaReader, LzmaWriter};

use crate::limits::{
    COMPRESSED_RATIO_MAX, COMPRESSION_GAIN_DIVISOR, COMPRESSION_LEN_MIN, LZMA_MEMORY_MAX, RATIO_FREE_LEN,
};

/// What is decompressed between two looks at the caps, in bytes.
const STEP_LEN: usize = 16 << 10;

/// Bytes of the header of `.lzma`: properties 1, dictionary 4, length 8, little-endian.
const LZMA_HEADER_LEN: usize = 13;

/// Why a compressed body is refused. The peer's fault; what came out so far is worthless.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadBody {
    /// It is not what the method writes, or it ends too early.
    #[error("the body is not what its method writes")]
    Malformed,
    /// Bytes are left over behind it.
    #[error("bytes are left over behind the compressed body")]
    Trailing,
    /// It becomes longer than the session allows.
    #[error("the body becomes too long")]
    TooLong,
    /// It becomes so much longer that it was made for that.
    #[error("the body becomes longer out of proportion")]
    Bomb,
    /// Its header wants more memory than a peer gets.
    #[error("the body wants too much memory")]
    Memory,
}

/// Decompresses `body` into `out`, at most `len_max` bytes; `out` is empty before, and after an error. The caller has
/// authenticated the body: it came inside a session.
///
/// # Errors
/// `BadBody`: the peer wrote it; its session may well end.
pub fn decompress(
    method: Compression,
    body: &[u8],
    len_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), BadBody> {
    out.clear();
    let caps = Caps { body_len: body.len(), len_max };
    let rest = match method {
        Compression::None => {
            if body.len() > len_max {
                return Err(BadBody::TooLong);
            }
            out.extend_from_slice(body);
            Ok(0)
        }
        Compression::Bz2 => {
            let mut reader = BzDecoder::new(body);
            caps.read_to_end(&mut reader, out).map(|()| reader.into_inner().len())
        }
        Compression::Gzip => {
            let mut reader = GzDecoder::new(body);
            caps.read_to_end(&mut reader, out).map(|()| reader.into_inner().len())
        }
        Compression::Zlib => {
            let mut reader = ZlibDecoder::new(body);
            caps.read_to_end(&mut reader, out).map(|()| reader.into_inner().len())
        }
        Compression::Lzma => decompress_lzma(&caps, body, out),
        Compression::Snappy => caps.read_to_end(&mut snap::read::FrameDecoder::new(body), out).map(|()| 0),
    };
    let result = rest.and_then(|rest| if rest == 0 { Ok(()) } else { Err(BadBody::Trailing) });
    result.inspect_err(|_| out.clear())
}

fn decompress_lzma(caps: &Caps, body: &[u8], out: &mut Vec<u8>) -> Result<usize, BadBody> {
    let (header, stream) = body.split_first_chunk::<LZMA_HEADER_LEN>().ok_or(BadBody::Malformed)?;
    let [properties, a, b, c, d, length @ ..] = *header;
    let (dictionary, length) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(length));
    // lc + lp decide over the probabilities' tables: at most 4 by what everybody writes, 12 by the letter.
    let (lc, lp) = (properties % 9, properties / 9 % 5);
    if dictionary > LZMA_MEMORY_MAX || lc + lp > 4 {
        return Err(BadBody::Memory);
    }
    if length != u64::MAX && length > caps.len_max as u64 {
        return Err(BadBody::TooLong);
    }
    // A dictionary longer than all that may come out is never filled.
    let dictionary = dictionary.min(u32::try_from(caps.len_max).unwrap_or(u32::MAX));
    let mut reader = LzmaReader::new_with_props(stream, length, properties, dictionary, None)
        .map_err(|_| BadBody::Malformed)?;
    reader.set_relaxed_end_condition(false);
    caps.read_to_end(&mut reader, out)?;
    let (rest, ahead) = reader.into_parts();
    Ok(rest.len() + ahead.len())
}

/// How long a body may become.
struct Caps {
    body_len: usize,
    len_max: usize,
}

impl Caps {
    fn read_to_end(&self, reader: &mut impl Read, out: &mut Vec<u8>) -> Result<(), BadBody> {
        let mut step = [0; STEP_LEN];
        loop {
            match reader.read(&mut step) {
                Ok(0) => return Ok(()),
                Ok(len) => out.extend_from_slice(&step[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(BadBody::Malformed),
            }
            if out.len() > self.len_max {
                return Err(BadBody::TooLong);
            }
            if is_bomb(out.len(), self.body_len) {
                return Err(BadBody::Bomb);
            }
        }
    }
}

/// Compresses `body` into `out` where that pays: a short body does not, nor does one that hardly becomes shorter, nor one
/// so regular that its receiver would take it for a bomb. Says whether it did; `out` is empty when it did not.
pub fn compress(method: Compression, body: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    if method == Compression::None || body.len() < COMPRESSION_LEN_MIN {
        return false;
    }
    let room = body.len() - body.len() / COMPRESSION_GAIN_DIVISOR;
    let mut limited = Limited { out, room };
    let is_shorter = write_compressed(method, body, &mut limited).is_ok();
    let pays = is_shorter && !is_bomb(body.len(), out.len());
    if !pays {
        out.clear();
    }
    pays
}

/// Whether `len` bytes are out of proportion for a compressed body of `body_len`.
const fn is_bomb(len: usize, body_len: usize) -> bool {
    len > RATIO_FREE_LEN && len / COMPRESSED_RATIO_MAX > body_len
}

fn write_compressed(method: Compression, body: &[u8], out: &mut Limited<'_>) -> io::Result<()> {
    match method {
        Compression::None => out.write_all(body),
        Compression::Bz2 => io::copy(&mut BzEncoder::new(body, bzip2::Compression::fast()), out).map(drop),
        Compression::Gzip => io::copy(&mut GzEncoder::new(body, flate2::Compression::fast()), out).map(drop),
        Compression::Zlib => {
            io::copy(&mut ZlibEncoder::new(body, flate2::Compression::fast()), out).map(drop)
        }
        Compression::Lzma => {
            let mut options = LzmaOptions::with_preset(0);
            options.dict_size = options.dict_size.min(LZMA_MEMORY_MAX);
            let mut writer = LzmaWriter::new_use_header(out, &options, Some(body.len() as u64))?;
            writer.write_all(body)?;
            writer.finish().map(drop)
        }
        Compression::Snappy => {
            let mut writer = snap::write::FrameEncoder::new(out);
            writer.write_all(body)?;
            writer.into_inner().map(drop).map_err(|_| io::Error::from(io::ErrorKind::WriteZero))
        }
    }
}

/// Takes bytes as long as compressing still pays.
struct Limited<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::WriteZero)?;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METHODS: [Compression; 5] =
        [Compression::Bz2, Compression::Gzip, Compression::Lzma, Compression::Zlib, Compression::Snappy];

    fn compressed(method: Compression, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_compressed(method, body, &mut Limited { out: &mut out, room: usize::MAX }).unwrap();
        out
    }

    fn decompressed(method: Compression, body: &[u8], len_max: usize) -> Result<Vec<u8>, BadBody> {
        let mut out = vec![9];
        let result = decompress(method, body, len_max, &mut out);
        assert!(result.is_ok() || out.is_empty());
        result.map(|()| out)
    }

    /// Bytes without any order.
    fn noise() -> impl Iterator<Item = u8> {
        let mut word = 1_u64;
        core::iter::repeat_with(move || {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word as u8
        })
    }

    /// Text of which every method makes something shorter: words in no order.
    fn text(len: usize) -> Vec<u8> {
        let words =
            [&b"dunlin "[..], b"messages ", b"travel ", b"together; ", b"or ", b"alone. ", b"\n", b"7117 "];
        noise().flat_map(|byte| words[usize::from(byte % 8)]).copied().take(len).collect()
    }

    /// spec: p2p/compression
    #[test]
    fn bodies_come_back_by_every_method() {
        for method in METHODS {
            for len in [128, 1_200, 70_000, 1 << 20] {
                let body = text(len);
                let mut short = Vec::new();
                assert!(compress(method, &body, &mut short), "{method} {len}");
                assert!(short.len() < body.len());
                assert!(decompressed(method, &short, len).is_ok_and(|out| out == body), "{method} {len}");
            }
        }
        assert_eq!(decompressed(Compression::None, b"as it is", 8), Ok(b"as it is".to_vec()));
        assert_eq!(decompressed(Compression::None, b"as it is", 7), Err(BadBody::TooLong));
    }

    /// spec: p2p/compression
    #[test]
    fn only_what_becomes_shorter_is_compressed() {
        let noise: Vec<u8> = noise().take(50_000).collect();
        let mut out = vec![9];
        for method in METHODS {
            assert!(!compress(method, &noise, &mut out) && out.is_empty(), "{method}");
            assert!(!compress(method, &[0; COMPRESSION_LEN_MIN - 1], &mut out), "{method}");
        }
        assert!(!compress(Compression::None, &text(9_000), &mut out) && out.is_empty());
    }

    /// What we send, a receiver takes: zeros that would be a bomb go uncompressed.
    /// spec: p2p/compression
    #[test]
    fn we_send_no_bombs() {
        for method in METHODS {
            for len in [1 << 16, (1 << 16) + 1_000, 1 << 20] {
                let zeros = vec![0; len];
                let mut short = Vec::new();
                let is_compressed = compress(method, &zeros, &mut short);
                assert_eq!(is_compressed, !is_bomb(len, compressed(method, &zeros).len()), "{method} {len}");
                assert!(!is_compressed || decompressed(method, &short, len).is_ok(), "{method} {len}");
            }
        }
    }

    /// spec: p2p/compression
    #[test]
    fn a_body_that_becomes_too_long_is_stopped() {
        for method in METHODS {
            let body = text(100_000);
            let short = compressed(method, &body);
            assert_eq!(decompressed(method, &short, 99_999), Err(BadBody::TooLong), "{method}");
            assert!(decompressed(method, &short, 100_000).is_ok_and(|out| out == body), "{method}");
        }
    }

    /// Zeros: everything but snappy makes a thousandth of them, and is stopped early.
    /// spec: p2p/compression
    #[test]
    fn a_bomb_does_not_go_off() {
        let zeros = vec![0; 16 << 20];
        for method in METHODS {
            // Our own levels are the quick ones, a bomb is made with the best.
            let mut short = Vec::new();
            let best = flate2::Compression::best();
            match method {
                Compression::Gzip => _ = GzEncoder::new(&zeros[..], best).read_to_end(&mut short).unwrap(),
                Compression::Zlib => _ = ZlibEncoder::new(&zeros[..], best).read_to_end(&mut short).unwrap(),
                _ => short = compressed(method, &zeros),
            }
            let mut out = Vec::new();
            let expected = if method == Compression::Snappy { Ok(()) } else { Err(BadBody::Bomb) };
            assert_eq!(
                decompress(method, &short, zeros.len(), &mut out),
                expected,
                "{method} {}",
                short.len()
            );
            if expected.is_err() {
                let most = RATIO_FREE_LEN.max((short.len() + 1) * COMPRESSED_RATIO_MAX) + STEP_LEN;
                assert!(out.capacity() <= 2 * most, "{method} took {}", out.capacity());
            }
        }
    }

    /// spec: p2p/compression
    #[test]
    fn nothing_may_stand_behind_and_nothing_may_be_missing() {
        for method in METHODS {
            let body = text(5_000);
            let short = compressed(method, &body);
            let longer = [&short[..], &[0]].concat();
            let refused = decompressed(method, &longer, 1 << 20);
            // Snappy's frames go on to the end, so what stands behind is a frame that is none.
            let expected = if method == Compression::Snappy { BadBody::Malformed } else { BadBody::Trailing };
            assert_eq!(refused, Err(expected), "{method}");
            for len in [0, 1, short.len() / 2, short.len() - 1] {
                let cut = decompressed(method, &short[..len], 1 << 20);
                let is_empty_snappy = method == Compression::Snappy && len == 0;
                assert!(is_empty_snappy || cut == Err(BadBody::Malformed), "{method} {len}: {cut:?}");
            }
        }
    }

    #[test]
    fn a_second_gzip_member_is_not_read() {
        let one = compressed(Compression::Gzip, &text(500));
        assert_eq!(
            decompressed(Compression::Gzip, &[&one[..], &one].concat(), 9_999),
            Err(BadBody::Trailing)
        );
    }

    /// spec: p2p/compression
    #[test]
    fn what_a_header_claims_is_not_allocated() {
        let short = compressed(Compression::Lzma, &text(500));
        let claim = |at: usize, bytes: &[u8]| {
            let mut changed = short.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            decompressed(Compression::Lzma, &changed, 1 << 20)
        };
        assert_eq!(claim(1, &[0xff; 4]), Err(BadBody::Memory), "a dictionary of 4 GiB");
        assert_eq!(claim(1, &(LZMA_MEMORY_MAX + 1).to_le_bytes()), Err(BadBody::Memory));
        assert_eq!(claim(1, &LZMA_MEMORY_MAX.to_le_bytes()), Ok(text(500)), "as much as may be");
        assert_eq!(claim(0, &[8 + 9 * 4]), Err(BadBody::Memory), "tables for lc 8, lp 4");
        assert_eq!(claim(0, &[0xff]), Err(BadBody::Memory));
        assert_eq!(claim(5, &[0, 0, 0, 0, 1, 0, 0, 0]), Err(BadBody::TooLong), "a length of 4 GiB");
    }

    #[test]
    fn a_preset_dictionary_is_refused() {
        let mut body = compressed(Compression::Zlib, &text(500));
        // FDICT set, and the check bits of the header right again.
        body[1] = 0x20;
        body[1] += 31 - ((u16::from(body[0]) << 8 | u16::from(body[1])) % 31) as u8;
        assert_eq!(decompressed(Compression::Zlib, &body, 9_999), Err(BadBody::Malformed));
    }

    proptest! {
        /// spec: p2p/compression
        #[test]
        fn any_body_comes_back(at in 0_usize..5, body in prop::collection::vec(any::<u8>(), 0..3_000)) {
            let short = compressed(METHODS[at], &body);
            prop_assert_eq!(decompressed(METHODS[at], &short, 3_000), Ok(body));
        }

        #[test]
        fn junk_never_panics(
            at in 0_usize..5, junk in prop::collection::vec(any::<u8>(), 0..300), change in any::<prop::sample::Index>(),
        ) {
            let _ = decompressed(METHODS[at], &junk, 1 << 16);
            let mut short = compressed(METHODS[at], &text(2_000));
            let place = change.index(short.len());
            short[place] ^= junk.first().copied().unwrap_or(1);
            let _ = decompressed(METHODS[at], &short, 1 << 16);
        }
    }
}
