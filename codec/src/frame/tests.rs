//! Round trips of every frame, and whatever the network may send instead.

use core::ops::RangeInclusive;

use proptest::prelude::*;

use super::*;
use crate::bytes::VARINT_MAX;

fn varint() -> impl Strategy<Value = u64> {
    (any::<u64>(), 2u32..64).prop_map(|(value, shift)| value >> shift)
}

fn channel_id() -> impl Strategy<Value = ChannelId> {
    any::<u32>().prop_map(ChannelId)
}

/// Descending ranges with a gap between any two, from `largest` down, as many as stay above zero.
fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u64>>> {
    (varint(), prop::collection::vec((0u64..300, 0u64..300), 1..80)).prop_map(|(largest, steps)| {
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        let mut end = largest;
        for (gap, len) in steps {
            let start = end.saturating_sub(len);
            ranges.push(start..=end);
            match start.checked_sub(gap + 2) {
                Some(next) => end = next,
                None => break,
            }
        }
        ranges
    })
}

/// A frame that owns its bytes, so that proptest can make it.
#[derive(Clone, Debug)]
enum Owned {
    Plain(Frame<'static>),
    Close(u64, String),
    Handshake(u8, Vec<u8>),
    Segment {
        channel: ChannelId,
        message: u64,
        unordered: bool,
        after: Option<u64>,
        part: Option<(u32, u32)>,
        bytes: Vec<u8>,
    },
}

impl Owned {
    fn as_frame(&self) -> Frame<'_> {
        match self {
            Self::Plain(frame) => *frame,
            Self::Close(code, reason) => Frame::Close(Close { code: *code, reason }),
            Self::Handshake(kind, bytes) => Frame::Handshake { kind: *kind, bytes },
            Self::Segment { channel, message, unordered, after, part, bytes } => Frame::Segment(Segment {
                channel: *channel,
                message: MessageId(*message),
                unordered: *unordered,
                unreliable: *after,
                part: part.filter(|_| !bytes.is_empty()).map(|(offset, more)| {
                    let offset = offset >> 1;
                    let end = offset + bytes.len() as u32;
                    Part { offset, total: end.saturating_add(more >> 2) }
                }),
                bytes,
            }),
        }
    }
}

fn plain() -> impl Strategy<Value = Frame<'static>> {
    prop_oneof![
        (1usize..400).prop_map(Frame::Padding),
        Just(Frame::Ping),
        (channel_id(), varint()).prop_map(|(channel, limit)| Frame::ChannelCredit { channel, limit }),
        varint().prop_map(|limit| Frame::SessionCredit { limit }),
        (prop::option::of(channel_id()), varint())
            .prop_map(|(channel, limit)| Frame::CreditBlocked { channel, limit }),
        (channel_id(), varint()).prop_map(|(channel, code)| Frame::ChannelReset { channel, code }),
        any::<[u8; 8]>().prop_map(Frame::PathChallenge),
        any::<[u8; 8]>().prop_map(Frame::PathResponse),
        any::<[u8; 16]>().prop_map(Frame::ResetToken),
        (channel_id(), varint())
            .prop_map(|(channel, message)| Frame::Skip { channel, message: MessageId(message) }),
        Just(Frame::ImmediateAck),
        (varint(), varint()).prop_map(|(sequence, bytes)| Frame::AckFrequency { sequence, bytes }),
    ]
}

fn frame() -> impl Strategy<Value = Owned> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let segment = (
        channel_id(),
        varint(),
        any::<bool>(),
        prop::option::of(varint()),
        prop::option::of(any::<(u32, u32)>()),
        bytes(),
    );
    prop_oneof![
        4 => plain().prop_map(Owned::Plain),
        1 => (varint(), "\\PC{0,32}").prop_map(|(code, reason)| Owned::Close(code, reason)),
        1 => (any::<u8>(), bytes()).prop_map(|(kind, bytes)| Owned::Handshake(kind, bytes)),
        4 => segment.prop_map(|(channel, message, unordered, after, part, bytes)| Owned::Segment {
            channel, message, unordered, after, part, bytes
        }),
    ]
}

/// Bytes that often begin like frames do.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![0u8..0x20, any::<u8>()], 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// spec: atp/frames
    #[test]
    fn every_frame_comes_back(owned in frame()) {
        let frame = owned.as_frame();
        let mut buffer = [0xa5; 1024];
        let mut writer = Writer::new(&mut buffer);
        frame.write(&mut writer).unwrap();
        prop_assert_eq!(writer.len(), frame.encoded_len());
        let mut reader = Reader::new(writer.written());
        prop_assert_eq!(Frame::parse(&mut reader), Ok(frame));
        prop_assert!(reader.is_empty());
        prop_assert!(!frame.to_string().contains('\n'));
        prop_assert!(frame.to_string().starts_with(frame.kind().name()));
    }

    #[test]
    fn a_frame_without_room_leaves_nothing(owned in frame(), short in 1usize..50) {
        let frame = owned.as_frame();
        let needed = frame.encoded_len();
        let room = needed.saturating_sub(short);
        let mut buffer = vec![0; room];
        let mut writer = Writer::new(&mut buffer);
        prop_assert_eq!(frame.write(&mut writer), Err(NoRoom { needed, left: room }));
        prop_assert_eq!(writer.len(), 0);
    }

    /// spec: atp/segments
    #[test]
    fn the_last_segment_needs_no_length(owned in frame()) {
        let Frame::Segment(segment) = owned.as_frame() else { return Ok(()) };
        let mut buffer = [0; 1024];
        let mut writer = Writer::new(&mut buffer);
        writer.u8(tag::PING).unwrap();
        segment.write(&mut writer, true).unwrap();
        prop_assert_eq!(writer.len(), 1 + segment.header_len(true) + segment.bytes.len());
        prop_assert!(segment.header_len(false) <= Segment::HEADER_LEN_MAX);
        let frames: Vec<_> = Frames::new(writer.written()).collect();
        prop_assert_eq!(frames, vec![Ok(Frame::Ping), Ok(Frame::Segment(segment))]);
    }

    /// `fitting` names the most bytes that fit, no fewer and no more.
    #[test]
    fn fitting_is_exact(owned in frame(), room in 0usize..20_000, left in 1usize..20_000, to_end: bool) {
        let Frame::Segment(segment) = owned.as_frame() else { return Ok(()) };
        let bytes = vec![0; left];
        let len = |count: usize| {
            let part = segment.part.map(|part| Part { offset: part.offset, total: u32::MAX });
            Segment { bytes: &bytes[..count], part, ..segment }.header_len(to_end) + count
        };
        let segment = Segment { part: segment.part.map(|part| Part { offset: part.offset, total: u32::MAX }), ..segment };
        let fitting = segment.fitting(room, left, to_end);
        prop_assert!(fitting <= left);
        prop_assert!(fitting == 0 || len(fitting) <= room);
        prop_assert!(fitting == left || len(fitting + 1) > room);
    }

    /// spec: atp/acknowledgement
    #[test]
    fn acknowledged_ranges_come_back(
        ranges in ranges(), delay_us in varint(), ecn in prop::option::of((varint(), varint())), room in 0usize..700,
    ) {
        let ecn = ecn.map(|(ect0, ce)| EcnCounts { ect0, ce });
        let mut buffer = vec![0; room];
        let mut writer = Writer::new(&mut buffer);
        if let Err(NoRoom { needed, left }) = write_ack(&mut writer, ranges.iter().cloned(), delay_us, ecn) {
            prop_assert!(needed > left && left == room && writer.is_empty());
            return Ok(());
        }
        let Ok(Frame::Ack(ack)) = Frame::parse(&mut Reader::new(writer.written())) else { panic!("not an ack") };
        let read: Vec<_> = ack.ranges().collect();
        prop_assert_eq!(&read[..], &ranges[..read.len()]);
        prop_assert_eq!((ack.largest().0, ack.delay_us(), ack.ecn()), (*ranges[0].end(), delay_us, ecn));
        prop_assert_eq!(Frame::Ack(ack).encoded_len(), writer.len());
        let most = ranges.len().min(RANGES_MAX);
        prop_assert!(read.len() == most || room - writer.len() < 4, "ranges left out although they fit");
    }

    #[test]
    fn junk_never_panics_and_what_parses_comes_back(bytes in junk()) {
        for frame in Frames::new(&bytes) {
            let Ok(frame) = frame else { break };
            let mut buffer = [0; 1024];
            let mut writer = Writer::new(&mut buffer);
            frame.write(&mut writer).unwrap();
            prop_assert_eq!(Frame::parse(&mut Reader::new(writer.written())), Ok(frame));
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Frame<'_>, WireError> {
    Frame::parse(&mut Reader::new(bytes))
}

/// spec: atp/acknowledgement
#[test]
fn ranges_that_pass_zero_are_refused() {
    assert_eq!(parse(&[tag::ACK, 5, 0, 0, 6]), Err(WireError::OutOfRange));
    assert_eq!(parse(&[tag::ACK, 5, 0, 1, 3, 0, 1]), Err(WireError::OutOfRange));
    assert_eq!(
        parse(&[tag::ACK, 5, 0, 1, 3, 0, 0]).map(|frame| frame.to_string()),
        Ok("ack 2-5,0 delay 0 us".into())
    );
    assert_eq!(parse(&[tag::ACK, 5, 0, 0x40, 64, 0]), Err(WireError::OutOfRange));
}

#[test]
fn no_ranges_write_no_acknowledgement() {
    let mut buffer = [0; 8];
    let mut writer = Writer::new(&mut buffer);
    write_ack(&mut writer, core::iter::empty(), 0, None).unwrap();
    assert!(writer.is_empty());
}

/// spec: atp/segments
#[test]
fn a_piece_outside_its_message_is_refused() {
    let part = tag::SEGMENT | 0x03;
    assert_eq!(parse(&[part, 16, 0, 3, 4, 2, 1, 1]), Err(WireError::OutOfRange), "past the end");
    assert_eq!(parse(&[part, 16, 0, 3, 4, 0]), Err(WireError::OutOfRange), "empty");
    assert!(parse(&[part, 16, 0, 3, 4, 1, 1]).is_ok());
    let wide = [0xc0, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(parse(&[&[tag::SEGMENT][..], &wide, &[0]].concat()), Err(WireError::OutOfRange), "channel");
}

#[test]
fn a_reason_is_cut_between_characters_and_never_read_longer() {
    let reason = "a".repeat(REASON_LEN_MAX - 1) + "é";
    let mut buffer = [0; 256];
    let mut writer = Writer::new(&mut buffer);
    Frame::Close(Close { code: VARINT_MAX, reason: &reason }).write(&mut writer).unwrap();
    let Ok(Frame::Close(close)) = parse(writer.written()) else { panic!("not a close") };
    assert_eq!(close, Close { code: VARINT_MAX, reason: &reason[..REASON_LEN_MAX - 1] });

    let mut long = vec![tag::CLOSE, 0, 0x40, 129];
    long.extend([b'a'; 129]);
    assert_eq!(parse(&long), Err(WireError::OutOfRange));
    assert_eq!(parse(&[tag::CLOSE, 0, 1, 0xff]), Err(WireError::OutOfRange), "not UTF-8");
}

#[test]
fn only_padding_acknowledgements_and_close_ask_for_no_acknowledgement() {
    let close = Frame::Close(Close { code: 0, reason: "" });
    assert!(!close.is_ack_eliciting() && !Frame::Padding(1).is_ack_eliciting());
    assert!(!parse(&[tag::ACK, 0, 0, 0, 0]).unwrap().is_ack_eliciting());
    assert!(Frame::Ping.is_ack_eliciting() && Frame::ImmediateAck.is_ack_eliciting());
    for (index, kind) in FrameKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, index);
    }
}

#[test]
fn frames_end_after_the_first_error() {
    let frames: Vec<_> = Frames::new(&[tag::PING, 0x3f, tag::PING]).collect();
    assert_eq!(frames, [Ok(Frame::Ping), Err(WireError::Unknown)]);
}
