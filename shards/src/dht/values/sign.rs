//! Signing: what a writer and an owner put their names to.
//!
//! In:    what a record or a grant says.
//! Out:   the record's bytes; the grant's signature.
//! Holds: what is signed here passes `check`.
//!
//! spec: p2p/value-record

use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_codec::record::{
    Grant, Key, SIGNATURE_LEN, VALUE_RECORD_LEN_MAX, ValueFields, ValueRecord, set_signature,
};

use crate::identity::Identity;

/// An owner's leave, as whoever was given it keeps it. What is written by it ends with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GivenLeave {
    /// Whose key it is.
    pub owner: NodeId,
    /// When it ends: unix time in milliseconds.
    pub until_ms: u64,
    /// The owner's signature.
    pub signature: [u8; SIGNATURE_LEN],
}

/// Makes a record. `grant` when the writer is not the owner.
///
/// # Panics
/// When the writer is not `identity`, or a grant is there that is not needed, or is needed and not there.
#[must_use]
pub fn sign_record(
    identity: &Identity,
    network: &Network,
    fields: &ValueFields<'_>,
    grant: Option<&GivenLeave>,
) -> Vec<u8> {
    assert_eq!(fields.writer, identity.id(), "whoever writes signs");
    let mut room = [0; VALUE_RECORD_LEN_MAX];
    let mut out = Writer::new(&mut room);
    let grant = grant.map(|grant| (grant.until_ms, &grant.signature));
    fields.write(&mut out, grant).expect("the room is as large as a record can be");
    let record = ValueRecord::parse(out.written()).expect("what was written reads back");
    let signature = identity.sign(&record.signing_input(network).concat());
    set_signature(out.written_mut(), &signature).expect("a record ends with its signature");
    out.written().to_vec()
}

/// Gives another leave to write a key until then.
#[must_use]
pub fn sign_grant(
    owner: &Identity,
    network: &Network,
    (key, writer): (&Key<'_>, NodeId),
    until_ms: u64,
) -> GivenLeave {
    let unsigned = Grant { key: *key, writer, until_ms, signature: &[0; SIGNATURE_LEN] };
    let signature = owner.sign(&unsigned.signing_input(network, &mut [0; 8]).concat());
    GivenLeave { owner: owner.id(), until_ms, signature }
}
