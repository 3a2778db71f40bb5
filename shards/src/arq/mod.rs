//! Reliability: selective repeat over packets that may be lost, reordered or duplicated.

pub mod acknowledgements;
pub mod congestion;
pub mod mtu;
pub mod pacer;
pub mod ranges;
pub mod receiver;
pub mod recovery;
pub mod rtt;
pub mod sender;
