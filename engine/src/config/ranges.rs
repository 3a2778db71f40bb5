//! Which values are possible: alone, and beside each other.

use std::net::SocketAddr;
use std::time::Duration;

use dunlin_codec::ids::SessionId;
use dunlin_shards::messages::conversation::Constants;

use super::sections::{Config, fields};
use super::values::Keepalive;

/// A value that is out of range. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{key} = {value} is out of range; give {wants}")]
pub struct OutOfRange {
    /// The key.
    pub key: &'static str,
    /// Its value as TOML.
    pub value: String,
    /// What it may be.
    pub wants: &'static str,
}

/// A packet's length field and the transport's tables end here.
const NETWORK_NAME_LEN_MAX: usize = 255;
const MESSAGE_LEN_MAX: u64 = 16 << 20;
const BUFFER_LEN_MIN: u64 = 256 << 10;
const BUFFER_LEN_MAX: u64 = 1 << 30;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Whether others can call it: not every address, and no port of the kernel's choice.
fn is_callable(address: &SocketAddr) -> bool {
    !address.ip().is_unspecified() && !address.ip().is_multicast() && address.port() != 0
}

impl Config {
    /// Whether every value is in range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let rules = self.check_alone().into_iter().chain(self.check_beside()).chain(self.check_network());
        match rules.into_iter().find(|(holds, _, _)| !holds) {
            None => Ok(()),
            Some((_, key, wants)) => {
                let field = fields().find(|field| field.key == key).expect("the rules name keys that exist");
                Err(OutOfRange { key: field.key, value: (field.show)(self), wants })
            }
        }
    }

    fn check_alone(&self) -> [(bool, &'static str, &'static str); 10] {
        let (node, io, transport, limits) = (&self.node, &self.io, &self.transport, &self.limits);
        let buffer = BUFFER_LEN_MIN..=BUFFER_LEN_MAX;
        [
            (
                (1..=NETWORK_NAME_LEN_MAX).contains(&node.network.len()),
                "node.network",
                "1 to 255 bytes of text",
            ),
            (node.cores <= SessionId::SHARDS_MAX, "node.cores", "at most 128, or 0 for all"),
            ((1_200..=9_216).contains(&io.datagram_max.0), "io.datagram_max", "1200 to 9216"),
            (
                (1..=MESSAGE_LEN_MAX).contains(&transport.message_max.0),
                "transport.message_max",
                "1 to \"16MiB\"",
            ),
            ((SECOND..=DAY).contains(&transport.idle_timeout), "transport.idle_timeout", "\"1s\" to \"24h\""),
            (
                (SECOND..=DAY).contains(&transport.handshake_deadline),
                "transport.handshake_deadline",
                "\"1s\" to \"24h\"",
            ),
            (
                buffer.contains(&transport.receive_buffer_max.0),
                "transport.receive_buffer_max",
                "\"256KiB\" to \"1GiB\"",
            ),
            (
                buffer.contains(&transport.send_buffer_max.0),
                "transport.send_buffer_max",
                "\"256KiB\" to \"1GiB\"",
            ),
            (
                (1..=100).contains(&limits.handshake_cpu_max.0),
                "limits.handshake_cpu_max",
                "\"1%\" to \"100%\"",
            ),
            ((1..=SessionId::SLOTS_MAX).contains(&limits.sessions_max), "limits.sessions_max", "1 to 262144"),
        ]
    }

    fn check_network(&self) -> [(bool, &'static str, &'static str); 7] {
        let network = &self.network;
        let constants = network.constants();
        // One after the other: each rule takes it that those before hold.
        let usual = Constants::default();
        let k = Constants { replication: constants.replication, parallel: 1, ..usual };
        let alpha = Constants { parallel: constants.parallel, ..k };
        let tau = Constants { address_bits: constants.address_bits, links: 1, ..alpha };
        [
            (k.checked().is_ok(), "network.k", "1 to 16"),
            (alpha.checked().is_ok(), "network.alpha", "1 to network.k"),
            (tau.checked().is_ok(), "network.tau", "8 to 256, a multiple of 8"),
            (constants.checked().is_ok(), "network.links", "1 to what the buckets hold (4062 by default)"),
            (
                network.description.len() <= NETWORK_NAME_LEN_MAX,
                "network.description",
                "at most 255 bytes of text",
            ),
            (network.advertise.len() <= 4, "network.advertise", "at most four addresses"),
            (
                network.advertise.iter().all(is_callable),
                "network.advertise",
                "addresses that others can call",
            ),
        ]
    }

    fn check_beside(&self) -> [(bool, &'static str, &'static str); 3] {
        let transport = &self.transport;
        let keepalive = match transport.keepalive {
            Keepalive::Auto | Keepalive::Off => true,
            Keepalive::Every(every) => every >= SECOND && every < transport.idle_timeout,
        };
        [
            (
                transport.receive_buffer_max >= transport.message_max,
                "transport.receive_buffer_max",
                "at least transport.message_max: a message is delivered whole",
            ),
            (keepalive, "transport.keepalive", "\"1s\" or more, and less than transport.idle_timeout"),
            (
                self.limits.shard_memory_max >= transport.receive_buffer_max,
                "limits.shard_memory_max",
                "at least transport.receive_buffer_max",
            ),
        ]
    }
}
