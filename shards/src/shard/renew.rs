//! The exchange inside a session that renews its secrets: computed here, where the node's keys are.
//!
//! Holds: session ids, packet numbers, channels and paths stay; only the next phase's secrets are new.

use dunlin_codec::ids::SessionId;
use dunlin_codec::suite::{ENCRYPTED_KEY_LEN, KEY_LEN, TAG_LEN, VERSION};
use zeroize::Zeroizing;

use crate::rng::Entropy;
use crate::session::crypto::Crypto;
use crate::session::handshake::{Front, Initiator, Prologue, Responder};
use crate::session::renewal::{ANSWER, ASK, Renewal, Stage};
use crate::shard::Shard;

impl<C: Crypto, E: Entropy> Shard<C, E> {
    /// A session asked for new secrets, or its peer did.
    pub(super) fn work_renewal(&mut self, id: SessionId) {
        let Some(session) = self.table.live(id) else { return };
        let wanted = core::mem::take(&mut session.renewal_wanted);
        let inbox = session.renewal_inbox.take();
        if wanted {
            self.ask_renewal(id);
        }
        match inbox {
            Some((ASK, bytes)) => self.answer_renewal(id, bytes),
            Some((ANSWER, bytes)) => self.finish_renewal(id, &bytes),
            _ => {}
        }
    }

    // spec: atp/rehandshake
    fn ask_renewal(&mut self, id: SessionId) {
        let ephemeral = Zeroizing::new(self.entropy.array());
        let Some(session) = self.table.live(id) else { return };
        let prologue = Prologue {
            version: VERSION,
            suite: session.agreement.suite,
            network: &self.config.network,
            extra: &session.handshake_hash,
        };
        let (_, pair) = self.own.of(session.agreement.era);
        let mut handshake = Initiator::ik::<C>(pair, session.agreement.peer_static, &prologue, ephemeral);
        let mut sealed = [0; TAG_LEN];
        let Ok(front) = handshake.write_first(&[], &mut sealed) else { return };
        let mut bytes = front.ephemeral.to_vec();
        bytes.extend_from_slice(front.sealed_static.as_ref().map_or(&[], |sealed| &sealed[..]));
        bytes.extend_from_slice(&sealed);
        session.send_keys.hold();
        let stage = Stage::Asking(Box::new(handshake));
        session.renewal = Some(Box::new(Renewal { stage, kind: ASK, bytes, due: true }));
        self.touch(id);
    }

    fn answer_renewal(&mut self, id: SessionId, ask: Vec<u8>) {
        let ephemeral = Zeroizing::new(self.entropy.array());
        let Some(session) = self.table.live(id) else { return };
        let prologue = Prologue {
            version: VERSION,
            suite: session.agreement.suite,
            network: &self.config.network,
            extra: &session.handshake_hash,
        };
        // The peer knows us by the key that the session was begun with.
        let (_, pair) = self.own.of(session.agreement.era);
        let mut responder = Responder::<C>::ik(pair, &prologue, ephemeral);
        let Some((front, sealed)) = split_ask(&ask) else {
            return session.on_violation(&mut self.around, "a HANDSHAKE frame that does not parse");
        };
        let read = responder.read_first(&front, sealed, &mut []);
        if read.is_err() || responder.remote_static() != Some(session.agreement.peer_static) {
            return session.on_violation(&mut self.around, "a HANDSHAKE frame that does not verify");
        }
        let mut sealed = [0; TAG_LEN];
        let Ok(front) = responder.write_second(&[], &mut sealed) else { return };
        let secrets = responder.into_secrets();
        let mut bytes = front.ephemeral.to_vec();
        bytes.extend_from_slice(&sealed);
        session.send_keys.hold();
        session.receive_keys.install(secrets.receive);
        session.handshake_hash = secrets.hash;
        session.on_renewal_taken(&ask);
        let stage = Stage::Answering { ask, send: Some(secrets.send) };
        session.renewal = Some(Box::new(Renewal { stage, kind: ANSWER, bytes, due: true }));
        self.around.stats.rehandshakes += 1;
        self.touch(id);
    }

    fn finish_renewal(&mut self, id: SessionId, answer: &[u8]) {
        let now = self.around.now.instant;
        let Some(session) = self.table.live(id) else { return };
        let Some(renewal) = session.renewal.take() else { return };
        let Stage::Asking(mut handshake) = renewal.stage else { return };
        let Some((ephemeral, sealed)) = answer.split_first_chunk::<KEY_LEN>() else {
            return session.on_violation(&mut self.around, "a HANDSHAKE frame that does not parse");
        };
        let front = Front { ephemeral: *ephemeral, sealed_static: None };
        if handshake.read_second(&front, sealed, &mut []).is_err() {
            return session.on_violation(&mut self.around, "a HANDSHAKE frame that does not verify");
        }
        let secrets = handshake.into_secrets();
        session.send_keys.install(secrets.send);
        session.receive_keys.install(secrets.receive);
        session.handshake_hash = secrets.hash;
        session.on_renewal_taken(answer);
        session.secrets_since = now;
        // The flip needs a packet of the present phase to be acknowledged, and then one to carry it.
        session.control.ping = true;
        self.around.stats.rehandshakes += 1;
        self.touch(id);
    }
}

/// An ask's parts: e, the sealed static, the sealed (empty) payload.
fn split_ask(ask: &[u8]) -> Option<(Front, &[u8])> {
    let (ephemeral, rest) = ask.split_first_chunk::<KEY_LEN>()?;
    let (sealed_static, sealed) = rest.split_first_chunk::<ENCRYPTED_KEY_LEN>()?;
    Some((Front { ephemeral: *ephemeral, sealed_static: Some(*sealed_static) }, sealed))
}
