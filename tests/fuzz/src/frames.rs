//! The frames of a packet's plaintext, and acknowledgements by themselves.

use dunlin_codec::bytes::{Reader, VARINT_MAX};
use dunlin_codec::error::WireError;
use dunlin_codec::frame::{Ack, Frame, FrameKind, Frames, RANGES_MAX, write_ack};

use super::packets::{assert_shows, written};

/// The type bytes of an acknowledgement: without and with congestion marks.
const ACK_TAGS: [u8; 2] = [0x02, 0x03];

/// A packet's plaintext.
pub fn frames(input: &[u8]) {
    let mut reader = Reader::new(input);
    let mut list = Frames::new(input);
    while !reader.is_empty() {
        let before = reader.left();
        let frame = Frame::parse(&mut reader);
        assert_eq!(list.next(), Some(frame), "the iterator gives what the parser gives");
        let Ok(frame) = frame else {
            assert_eq!(list.next(), None, "nothing comes behind an error");
            return;
        };
        assert!(reader.left() < before, "a frame takes bytes");
        assert_comes_back(&frame, before - reader.left());
    }
    assert_eq!(list.next(), None);
}

/// Written and read again it is the same, and no longer than it came.
fn assert_comes_back(frame: &Frame<'_>, came_len: usize) {
    let bytes = written(frame.encoded_len(), |out| frame.write(out));
    let mut reader = Reader::new(&bytes);
    assert_eq!(Frame::parse(&mut reader).as_ref(), Ok(frame));
    assert!(reader.is_empty());
    // A segment up to the packet's end is written with its length here: at most eight bytes more.
    let more = if frame.kind() == FrameKind::Segment { 8 } else { 0 };
    assert!(bytes.len() <= came_len + more, "integers are written in their shortest form");
    assert!(assert_shows(frame).starts_with(frame.kind().name()));
    if let Frame::Segment(segment) = frame {
        let to_end = written(segment.header_len(true) + segment.bytes.len(), |out| segment.write(out, true));
        assert_eq!(Frame::parse(&mut Reader::new(&to_end)).as_ref(), Ok(frame));
    }
}

/// What stands behind an acknowledgement's type byte, read as either type.
pub fn ack(input: &[u8]) {
    for tag in ACK_TAGS {
        let bytes = [&[tag], input].concat();
        match Frame::parse(&mut Reader::new(&bytes)) {
            Ok(Frame::Ack(ack)) => assert_ranges(&ack),
            Ok(frame) => panic!("{tag:#x} was read as {frame}"),
            Err(error) => assert!(matches!(error, WireError::Truncated | WireError::OutOfRange)),
        }
    }
}

fn assert_ranges(ack: &Ack<'_>) {
    let ranges: Vec<_> = ack.ranges().collect();
    assert!((1..=RANGES_MAX).contains(&ranges.len()));
    assert_eq!(ack.largest().0, *ranges[0].end());
    assert!(ranges.iter().all(|range| range.start() <= range.end() && *range.end() <= VARINT_MAX));
    assert!(ranges.windows(2).all(|pair| pair[1].end() + 1 < *pair[0].start()), "a gap between any two");
    let frame = Frame::Ack(*ack);
    let whole = written(frame.encoded_len(), |out| frame.write(out));
    // With less room the later ranges are left out, never the first, and what is left reads back.
    for room in 0..whole.len() {
        let mut short = vec![0; room];
        let mut out = dunlin_codec::bytes::Writer::new(&mut short);
        if write_ack(&mut out, ack.ranges(), ack.delay_us(), ack.ecn()).is_err() {
            assert!(out.is_empty());
            continue;
        }
        let Ok(Frame::Ack(cut)) = Frame::parse(&mut Reader::new(out.written())) else {
            panic!("what was written is an acknowledgement");
        };
        let kept: Vec<_> = cut.ranges().collect();
        assert!(!kept.is_empty() && kept == ranges[..kept.len()]);
        assert_eq!((cut.delay_us(), cut.ecn()), (ack.delay_us(), ack.ecn()));
    }
    assert_shows(&frame);
}
