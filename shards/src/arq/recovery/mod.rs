//! stub
use core::ops::RangeInclusive;
use core::time::Duration;
use dunlin_codec::ids::PacketNumber;
use dunlin_codec::frame::EcnCounts;
use crate::time::Instant;
use crate::arq::rtt::Rtt;
pub struct Recovery<T>(Rtt, Vec<T>);
pub struct Packet<T> { pub number: PacketNumber, pub sent: Instant, pub contents: T }
pub enum Outcome<T> { Acked(Packet<T>), Lost(Packet<T>) }
pub enum SentKind { AckOnly, Data, MtuProbe }
pub struct AckInput<R> { pub largest: PacketNumber, pub delay: Duration, pub ranges: R, pub ecn: Option<EcnCounts> }
pub struct AckSummary { pub spurious: u32 }
pub struct FalseAck;
pub struct TimeoutKind;
impl TimeoutKind { pub fn probes(&self) -> u8 { 0 } }
impl<T: Copy> Recovery<T> {
    pub fn new(_now: Instant) -> Self { todo!() }
    pub fn on_sent(&mut self, _now: Instant, _number: PacketNumber, _bytes: usize, _kind: SentKind, _contents: T) { }
    pub fn on_ack<R: Iterator<Item = RangeInclusive<u64>>>(&mut self, _now: Instant, _ack: AckInput<R>, _sink: &mut impl FnMut(Outcome<T>)) -> Result<AckSummary, FalseAck> { todo!() }
    pub fn on_timeout(&mut self, _now: Instant, _sink: &mut impl FnMut(Outcome<T>)) -> TimeoutKind { todo!() }
    pub fn poll_timeout(&self) -> Option<Instant> { None }
    pub fn bytes_in_flight(&self) -> usize { 0 }
    pub fn window(&self) -> usize { 0 }
    pub fn window_left(&self) -> usize { 0 }
    pub fn pacing_allowance(&self, _now: Instant) -> usize { 0 }
    pub fn pacing_next_at(&self, now: Instant) -> Instant { now }
    pub fn rtt(&self) -> &Rtt { &self.0 }
    pub fn on_path_changed(&mut self, _now: Instant) {}
    pub fn on_first_round_trip(&mut self, _rtt: Duration) {}
}
