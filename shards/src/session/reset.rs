//! Reset tokens: how a node that lost its sessions proves that it was their end (T34).
//!
//! In:    a secret that survives restarts, session ids.
//! Out:   16-byte tokens, compared in constant time.
//! Holds: nobody but the node and the peer that it told knows the token of an id.
//! spec: atp/reset

use dunlin_codec::ids::SessionId;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Bytes of a token.
pub const TOKEN_LEN: usize = 16;

/// What makes a node's tokens; its secret lies in a file beside the key.
pub struct ResetKey(Hmac<Sha256>);

impl ResetKey {
    /// The key of a secret of 32 random bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// The token of one of our session ids: told in the Welcome, shown in a Reset.
    #[must_use]
    pub fn token(&self, id: SessionId) -> [u8; TOKEN_LEN] {
        let mut hmac = self.0.clone();
        hmac.update(b"dunlin reset");
        hmac.update(&id.0.to_be_bytes());
        let mut token = [0; TOKEN_LEN];
        token.copy_from_slice(&hmac.finalize().into_bytes()[..TOKEN_LEN]);
        token
    }
}

/// Whether a Reset shows the token that the peer told us, in constant time.
#[must_use]
pub fn is_token(told: &[u8; TOKEN_LEN], shown: &[u8; TOKEN_LEN]) -> bool {
    told.ct_eq(shown).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// spec: atp/reset
    #[test]
    fn a_token_survives_a_restart_and_belongs_to_one_id() {
        let id = SessionId::new(1, 2, 3);
        let token = ResetKey::new(&[1; 32]).token(id);
        assert!(is_token(&token, &ResetKey::new(&[1; 32]).token(id)));
        assert!(!is_token(&token, &ResetKey::new(&[2; 32]).token(id)));
        assert!(!is_token(&token, &ResetKey::new(&[1; 32]).token(SessionId::new(1, 2, 4))));
    }
}
