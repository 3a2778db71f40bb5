//! Applying a diff to a value: a pure function, whole or not at all.
//!
//! In:    a value and a diff (`dunlin_codec::args::Diff` says what its operations mean), how long the result may be.
//! Out:   the new value's bytes, or why there are none.
//! Holds: the result's length is known before its room is made, and is what the diff says. Work grows with the lengths of
//!        value and diff, not with their product: a map is taken apart once, and a spliced text is a list of pieces of
//!        which no byte is copied before the end (T14).
//!
//! Only what a path goes through is taken apart; everything else keeps its bytes. A map that was taken apart comes out in
//! ascending order of its keys with a head of the shortest form, so that every node gets the same bytes.
//!
//! spec: p2p/diff

use std::collections::BTreeMap;

use dunlin_codec::args::{Diff, DiffOperation, Path};
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::msgpack::{Encoded, MsgpackError, Value, write};

/// Why a diff gives nothing. Whoever sent it had another value in mind, or meant harm.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadApply {
    /// There is no map at a path, or no entry in it.
    #[error("a path leads nowhere")]
    NoSuchPath,
    /// What is to be spliced is neither str nor bin.
    #[error("what is to be spliced is neither str nor bin")]
    NotText,
    /// A splice reaches beyond what is there.
    #[error("a splice reaches beyond the text")]
    OutOfRange,
    /// A str is no longer UTF-8.
    #[error("a spliced str is not UTF-8")]
    NotUtf8,
    /// The result is longer than allowed.
    #[error("the result is too long")]
    TooLong,
    /// The result is not as long as the diff says.
    #[error("the result is not as long as was said")]
    OtherLength,
    /// The result is no value of the profile: too deep, too many elements.
    #[error("the result is no value: {0}")]
    Result(#[from] MsgpackError),
}

/// Does to `base` what `diff` says, for a storer; the result is at most `len_max` bytes and as long as the diff says. That
/// `base` is the value the diff is for, the caller has checked by its hash, as it checks the result's.
///
/// # Errors
/// `BadApply`: nothing changed.
pub fn apply(base: Encoded<'_>, diff: &Diff<'_>, len_max: usize) -> Result<Vec<u8>, BadApply> {
    if diff.result_len > len_max as u64 {
        return Err(BadApply::TooLong);
    }
    let changed = changed(base, diff)?;
    if changed.encoded_len() as u64 != diff.result_len {
        return Err(BadApply::OtherLength);
    }
    written(&changed)
}

/// The same for whoever makes a diff and does not know yet how long the result is.
///
/// # Errors
/// `BadApply`, never `OtherLength`: this diff is not worth sending.
pub fn propose(base: Encoded<'_>, diff: &Diff<'_>, len_max: usize) -> Result<Vec<u8>, BadApply> {
    let changed = changed(base, diff)?;
    if changed.encoded_len() > len_max {
        return Err(BadApply::TooLong);
    }
    written(&changed)
}

fn changed<'a>(base: Encoded<'a>, diff: &Diff<'a>) -> Result<Node<'a>, BadApply> {
    let mut root = Node::Whole(base);
    for operation in diff.operations() {
        step(&mut root, &operation)?;
    }
    Ok(root)
}

fn written(changed: &Node<'_>) -> Result<Vec<u8>, BadApply> {
    let mut result = vec![0; changed.encoded_len()];
    changed.write(&mut Writer::new(&mut result)).map_err(|_| BadApply::OtherLength)?;
    // Spliced text is checked here, as are depth and number of elements.
    match Encoded::parse(&result) {
        Ok(_) => Ok(result),
        Err(MsgpackError::NotUtf8) => Err(BadApply::NotUtf8),
        Err(error) => Err(BadApply::Result(error)),
    }
}

/// A part of the value that is being changed.
enum Node<'a> {
    /// Untouched.
    Whole(Encoded<'a>),
    /// Taken apart.
    Map(BTreeMap<&'a str, Node<'a>>),
    /// Spliced.
    Text(Text<'a>),
}

/// A str or a bin in pieces.
struct Text<'a> {
    is_str: bool,
    len: u64,
    pieces: Vec<&'a [u8]>,
}

fn step<'a>(root: &mut Node<'a>, operation: &DiffOperation<'a>) -> Result<(), BadApply> {
    match *operation {
        DiffOperation::Set { path, value } => {
            match parent(root, path)? {
                (node, None) => *node = Node::Whole(value),
                (node, Some(last)) => _ = node.entries()?.insert(last, Node::Whole(value)),
            }
            Ok(())
        }
        DiffOperation::Remove { path } => match parent(root, path)? {
            (_, None) => Err(BadApply::NoSuchPath),
            (node, Some(last)) => node.entries()?.remove(last).map(drop).ok_or(BadApply::NoSuchPath),
        },
        DiffOperation::Splice { path, offset, removed, inserted } => {
            let (node, last) = parent(root, path)?;
            let node = match last {
                None => node,
                Some(last) => node.entries()?.get_mut(last).ok_or(BadApply::NoSuchPath)?,
            };
            node.text()?.splice(offset, removed, inserted)
        }
    }
}

/// The node that holds what a path means, and the key it has there; none: the path means the node itself.
fn parent<'n, 'a>(
    root: &'n mut Node<'a>,
    path: Path<'a>,
) -> Result<(&'n mut Node<'a>, Option<&'a str>), BadApply> {
    let mut node = root;
    let mut keys = path.keys().peekable();
    while let Some(key) = keys.next() {
        if keys.peek().is_none() {
            return Ok((node, Some(key)));
        }
        node = node.entries()?.get_mut(key).ok_or(BadApply::NoSuchPath)?;
    }
    Ok((node, None))
}

impl<'a> Node<'a> {
    /// The entries of the map that it is.
    fn entries(&mut self) -> Result<&mut BTreeMap<&'a str, Node<'a>>, BadApply> {
        if let Self::Whole(value) = self {
            let map = value.as_map().ok_or(BadApply::NoSuchPath)?;
            *self = Self::Map(map.iter().map(|(key, value)| (key, Node::Whole(value))).collect());
        }
        match self {
            Self::Map(entries) => Ok(entries),
            Self::Whole(_) | Self::Text(_) => Err(BadApply::NoSuchPath),
        }
    }

    /// The text that it is.
    fn text(&mut self) -> Result<&mut Text<'a>, BadApply> {
        if let Self::Whole(value) = self {
            let (is_str, bytes) = match value.value() {
                Value::Str(text) => (true, text.as_bytes()),
                Value::Bin(bytes) => (false, bytes),
                _ => return Err(BadApply::NotText),
            };
            *self = Self::Text(Text { is_str, len: bytes.len() as u64, pieces: vec![bytes] });
        }
        match self {
            Self::Text(text) => Ok(text),
            Self::Whole(_) | Self::Map(_) => Err(BadApply::NotText),
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Whole(value) => value.bytes().len(),
            Self::Map(entries) => {
                let entry = |(key, node): (&&str, &Node<'_>)| text_len(true, key.len()) + node.encoded_len();
                head_len(entries.len(), 15, 0) + entries.iter().map(entry).sum::<usize>()
            }
            Self::Text(text) => text_len(text.is_str, usize::try_from(text.len).unwrap_or(usize::MAX)),
        }
    }

    fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        match self {
            Self::Whole(value) => write::encoded(out, *value),
            Self::Map(entries) => {
                write::map(out, u32::try_from(entries.len()).unwrap_or(u32::MAX))?;
                entries.iter().try_for_each(|(key, node)| {
                    write::str(out, key)?;
                    node.write(out)
                })
            }
            Self::Text(text) => text.write(out),
        }
    }
}

/// Bytes of the head of something of `count` parts: one up to `one_max`, two up to `two_max`, then three or five.
const fn head_len(count: usize, one_max: usize, two_max: usize) -> usize {
    if count <= one_max {
        1
    } else if count <= two_max {
        2
    } else if count <= 0xffff {
        3
    } else {
        5
    }
}

/// Bytes of a str or a bin of `len` bytes with its head.
const fn text_len(is_str: bool, len: usize) -> usize {
    let head = if is_str {
        head_len(len, 31, 0xff)
    } else if len <= 0xff {
        2
    } else {
        head_len(len, 0, 0)
    };
    len.saturating_add(head)
}

impl<'a> Text<'a> {
    /// `removed` bytes from `offset` on make place for `inserted`.
    fn splice(&mut self, offset: u64, removed: u64, inserted: &'a [u8]) -> Result<(), BadApply> {
        let end = offset.checked_add(removed).filter(|end| *end <= self.len).ok_or(BadApply::OutOfRange)?;
        let (mut pieces, mut start) = (Vec::with_capacity(self.pieces.len() + 2), 0);
        let mut is_inserted = false;
        for piece in &self.pieces {
            let piece_end = start + piece.len() as u64;
            // What lies before the offset stays, then comes what is new, then what lies from the end on.
            let before = part(piece, start, 0, offset);
            let behind = part(piece, start, end, piece_end);
            pieces.extend(before);
            if !is_inserted && piece_end >= offset {
                pieces.push(inserted);
                is_inserted = true;
            }
            pieces.extend(behind);
            start = piece_end;
        }
        if !is_inserted {
            pieces.push(inserted);
        }
        self.pieces = pieces;
        self.len = self.len - removed + inserted.len() as u64;
        Ok(())
    }

    fn write(&self, out: &mut Writer<'_>) -> Result<(), NoRoom> {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let room = out.reserve(text_len(self.is_str, len))?;
        let (head, mut rest) = room.split_at_mut(room.len() - len);
        for piece in &self.pieces {
            let (place, behind) = rest.split_at_mut(piece.len());
            place.copy_from_slice(piece);
            rest = behind;
        }
        write_text_head(head, self.is_str, len);
        Ok(())
    }
}

/// The part of a piece that begins at `start` which lies from `from` up to `to`, unless it is empty.
fn part(piece: &[u8], start: u64, from: u64, to: u64) -> Option<&[u8]> {
    let place = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(piece.len());
    piece.get(place(from)..place(to)).filter(|part| !part.is_empty())
}

/// The head of a str or a bin; `head` is as long as `text_len` says.
fn write_text_head(head: &mut [u8], is_str: bool, len: usize) {
    let len_bytes = (len as u32).to_be_bytes();
    let (marker, rest) = head.split_first_mut().expect("a head has a byte at least");
    *marker = match (is_str, rest.len()) {
        (true, 0) => 0xa0 | len as u8,
        (true, 1) => 0xd9,
        (true, 2) => 0xda,
        (true, _) => 0xdb,
        (false, 1) => 0xc4,
        (false, 2) => 0xc5,
        (false, _) => 0xc6,
    };
    rest.copy_from_slice(&len_bytes[len_bytes.len() - rest.len()..]);
}

#[cfg(test)]
mod tests;
