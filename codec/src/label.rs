//! What a key signs begins with a label that says what it is, so that a signature of one thing never passes for another.
//!
//! In:    nothing.
//! Out:   the labels, and the network's hash that stands beside most of them.
//! Holds: no label is the front of another.
//!
//! We bind whatever lives in one network to that network: its hash follows the label in what is signed, so that a node
//! of two networks with one key cannot have its words carried from one to the other. A key's own history (inception,
//! change) is the same in all networks.
//!
//! spec: p2p/labels

/// SHA-256 of a network's name: 32 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network(pub [u8; 32]);

/// Bytes of a message's label. With the network's hash it is as long as a signature: whoever verifies writes both over
/// the signature's place, and what was signed lies in one piece without a copy.
pub const MESSAGE_LABEL_LEN: usize = 32;

/// A signed message.
pub const MESSAGE: &[u8; MESSAGE_LABEL_LEN] = b"dunlin signed message v1\0\0\0\0\0\0\0\0";
/// A signed message's id.
pub const MESSAGE_ID: &[u8; 20] = b"dunlin message id v1";
/// A payload that is sealed to its recipient.
pub const SEALED_PAYLOAD: &[u8; 24] = b"dunlin sealed payload v1";
/// A node's record.
pub const NODE_RECORD: &[u8; 21] = b"dunlin node record v1";
/// A value's record.
pub const VALUE_RECORD: &[u8; 22] = b"dunlin value record v1";
/// An owner's leave for another to write a key.
pub const GRANT: &[u8; 15] = b"dunlin grant v1";
/// The first commitment of a key.
pub const INCEPTION: &[u8; 19] = b"dunlin inception v1";
/// One key follows another.
pub const KEY_CHANGE: &[u8; 20] = b"dunlin key change v1";
/// A network's descriptor, hashed for its roll: the one label that nobody signs.
pub const SUBNET: &[u8; 16] = b"dunlin subnet v1";

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: p2p/labels
    #[test]
    fn no_label_is_the_front_of_another() {
        let labels: [&[u8]; 9] = [
            MESSAGE,
            MESSAGE_ID,
            SEALED_PAYLOAD,
            NODE_RECORD,
            VALUE_RECORD,
            GRANT,
            INCEPTION,
            KEY_CHANGE,
            SUBNET,
        ];
        for (at, one) in labels.iter().enumerate() {
            for (other_at, other) in labels.iter().enumerate() {
                assert!(at == other_at || !one.starts_with(other), "{one:?} starts with {other:?}");
            }
        }
    }
}
