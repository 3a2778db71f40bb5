//! Packets that are not sealed: what a shard costs without its cipher.
//!
//! In:    see `crypto`.
//! Out:   packets in the clear, with zeros for a tag; handshakes are as real as ever.
//! Holds: only this program has it. An engine is compiled for the real cryptography and cannot be asked for another, so that no
//!        setting, no peer and no caller of the library ever meets an unsealed session.

use dunlin_codec::ids::{NodeId, PacketNumber};
use dunlin_shards::identity::Identity;
use dunlin_shards::session::aws_lc::{AwsLc, AwsLcStatic};
use dunlin_shards::session::crypto::{
    BadIdentity, Crypto, Forged, HEADER_LEN, NONCE_LEN, PacketKey, StaticPublic, Suite, TAG_LEN,
};
use snow::resolvers::BoxedCryptoResolver;
use zeroize::Zeroizing;

/// The real cryptography but for packets.
pub(crate) enum Unsealed {}

/// The key of no lock.
pub(crate) struct NoKey;

impl NoKey {
    /// Bytes in front of the tag's place.
    fn plain_len(sealed: &[u8]) -> Result<usize, Forged> {
        sealed.len().checked_sub(TAG_LEN).ok_or(Forged)
    }
}

impl PacketKey for NoKey {
    #[inline]
    fn seal(&self, _: PacketNumber, _: &[u8; HEADER_LEN], _: &mut [u8]) -> [u8; TAG_LEN] {
        [0; TAG_LEN]
    }

    #[inline]
    fn open(&self, _: PacketNumber, _: &[u8; HEADER_LEN], sealed: &mut [u8]) -> Result<usize, Forged> {
        Self::plain_len(sealed)
    }

    fn seal_once(&self, _: &[u8; NONCE_LEN], _: &[u8], _: &mut [u8]) -> [u8; TAG_LEN] {
        [0; TAG_LEN]
    }

    fn open_once(&self, _: &[u8; NONCE_LEN], _: &[u8], sealed: &mut [u8]) -> Result<usize, Forged> {
        Self::plain_len(sealed)
    }
}

impl Crypto for Unsealed {
    type Key = NoKey;
    type Static = AwsLcStatic;

    fn key(_: Suite, _: &[u8; 32]) -> NoKey {
        NoKey
    }

    fn static_pair(identity: &Identity) -> AwsLcStatic {
        AwsLc::static_pair(identity)
    }

    fn static_public(pair: &AwsLcStatic) -> StaticPublic {
        AwsLc::static_public(pair)
    }

    fn static_secret(pair: &AwsLcStatic) -> &[u8; 32] {
        AwsLc::static_secret(pair)
    }

    fn public_of(id: &NodeId) -> Result<StaticPublic, BadIdentity> {
        AwsLc::public_of(id)
    }

    fn resolver(pair: &AwsLcStatic, ephemeral: Zeroizing<[u8; 32]>) -> BoxedCryptoResolver {
        AwsLc::resolver(pair, ephemeral)
    }
}
