//! Cryptography that can be looked through: another one, plus a copy of every plaintext that is sealed.
//!
//! In:    any `Crypto`.
//! Out:   the same bytes on the wire; `drain` shows what they were made of.
//! Holds: nothing about the inner cryptography changes. Copies are kept per thread until they are drained.

use core::cell::{Cell, RefCell};
use core::marker::PhantomData;

use dunlin_codec::ids::{NodeId, PacketNumber};
use dunlin_shards::identity::Identity;
use dunlin_shards::session::crypto::{
    BadIdentity, Crypto, Forged, HEADER_LEN, NONCE_LEN, PacketKey, StaticPublic, Suite, TAG_LEN,
};
use snow::resolvers::BoxedCryptoResolver;
use zeroize::Zeroizing;

use crate::lies::Lie;

/// `C`, with a window in it.
pub struct Glass<C>(PhantomData<C>);

/// A packet key of `C`.
pub struct GlassKey<K>(K);

/// A packet as it was before it was sealed.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its number.
    pub number: PacketNumber,
    /// Its header, which names the peer's session.
    pub header: [u8; HEADER_LEN],
    /// Its frames.
    pub plain: &'a [u8],
}

#[derive(Default)]
struct Copies {
    packets: Vec<(PacketNumber, [u8; HEADER_LEN], usize)>,
    bytes: Vec<u8>,
}

thread_local! {
    static LIE: Cell<Option<Lie>> = const { Cell::new(None) };
    static COPIES: RefCell<Copies> = const { RefCell::new(Copies { packets: Vec::new(), bytes: Vec::new() }) };
}

/// From now on packets of this thread are sealed with what the lie makes of them.
pub fn lie_with(lie: Option<Lie>) {
    LIE.set(lie);
}

/// Shows every packet sealed on this thread since the last call, in order.
pub fn drain(mut look: impl FnMut(Seen<'_>)) {
    let mut copies = COPIES.take();
    let mut from = 0;
    for (number, header, end) in copies.packets.drain(..) {
        look(Seen { number, header, plain: &copies.bytes[from..end] });
        from = end;
    }
    copies.bytes.clear();
    COPIES.set(copies);
}

impl<C: Crypto> Crypto for Glass<C> {
    type Key = GlassKey<C::Key>;
    type Static = C::Static;

    fn key(suite: Suite, secret: &[u8; 32]) -> Self::Key {
        GlassKey(C::key(suite, secret))
    }

    fn static_pair(identity: &Identity) -> Self::Static {
        C::static_pair(identity)
    }

    fn static_public(pair: &Self::Static) -> StaticPublic {
        C::static_public(pair)
    }

    fn static_secret(pair: &Self::Static) -> &[u8; 32] {
        C::static_secret(pair)
    }

    fn public_of(id: &NodeId) -> Result<StaticPublic, BadIdentity> {
        C::public_of(id)
    }

    fn resolver(pair: &Self::Static, ephemeral: Zeroizing<[u8; 32]>) -> BoxedCryptoResolver {
        C::resolver(pair, ephemeral)
    }
}

impl<K: PacketKey> PacketKey for GlassKey<K> {
    fn seal(&self, number: PacketNumber, header: &[u8; HEADER_LEN], plain: &mut [u8]) -> [u8; TAG_LEN] {
        if let Some(lie) = LIE.get() {
            lie(plain);
        }
        COPIES.with_borrow_mut(|copies| {
            copies.bytes.extend_from_slice(plain);
            copies.packets.push((number, *header, copies.bytes.len()));
        });
        self.0.seal(number, header, plain)
    }

    fn open(
        &self,
        number: PacketNumber,
        header: &[u8; HEADER_LEN],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        self.0.open(number, header, sealed)
    }

    fn seal_once(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], plain: &mut [u8]) -> [u8; TAG_LEN] {
        self.0.seal_once(nonce, associated, plain)
    }

    fn open_once(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Forged> {
        self.0.open_once(nonce, associated, sealed)
    }
}
