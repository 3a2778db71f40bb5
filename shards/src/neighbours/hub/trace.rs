//! Traces of keys: the change of a key lies in the DHT under ["key-change", old key], for whoever calls that one later.
//!
//! In:    our own past; errands to nodes that nobody knows, or that do not answer where they should be.
//! Out:   a store each hour, as long as the node runs; the same errands to whoever has the key by now, or their end.
//! Holds: what is found counts by its signatures alone: the old key's own word, as if it had been called, for as long as nothing
//!        else is known of it. Every errand ends: one to a node that did not answer is on its way once more, with as much time
//!        as a call has. At most [`KEY_TRACES_MAX`] keys are looked for at once, and only for the application.
//!
//! A day after a change nobody answers for the old key, and whoever knows only that has nothing but the DHT.
//!
//! spec: p2p/key-trace

use std::collections::BTreeMap;

use dunlin_codec::args::Request;
use dunlin_codec::bytes::Writer;
use dunlin_codec::error::NoRoom;
use dunlin_codec::ids::NodeId;
use dunlin_codec::message::Operation;
use dunlin_codec::msgpack::write;

use super::errand::Purpose;
use super::values::Aim;
use super::{Errand, Hub};
use crate::dht::values::PutWish;
use crate::identity::chain::Word;
use crate::identity::change::{Past, SignedChange};
use crate::limits::{
    CALL_WAIT_MAX, KEY_CHANGE_SKEW, KEY_CHANGE_STORE_AFTER, KEY_TRACES_MAX, REPUBLISH_INTERVAL,
    VALUE_RECORD_LIFE_MAX,
};
use crate::neighbours::Failure;
use crate::time::{Instant, WallMillis};

/// What is looked for, and when our own change is stored next.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// By old key, the errands that wait, and what becomes of each if nothing is found.
    waiting: BTreeMap<NodeId, Vec<(Errand, Failure)>>,
    store_at: Option<Instant>,
}

impl Traces {
    /// There is a change of ours to be stored.
    pub(super) fn on_new_key(&mut self) {
        self.store_at = None;
    }
}

/// Under which key the change of a key lies.
fn place_of(old: &NodeId) -> Vec<u8> {
    let mut room = [0; 64];
    let mut out = Writer::new(&mut room);
    let written: Result<(), NoRoom> = write::array(&mut out, 2)
        .and_then(|()| write::str(&mut out, "key-change"))
        .and_then(|()| write::bin(&mut out, &old.0));
    written.expect("both are short");
    out.written().to_vec()
}

impl Hub {
    /// Nobody knows where the node is: its key may have changed.
    pub(super) fn on_not_found(&mut self, errand: Errand) {
        // Words for one alone go from node to node before anything else is tried.
        if self.whisper_on(&errand) {
            return;
        }
        self.trace(errand, Failure::NotFound);
    }

    /// Nobody answered where the node should be: its key may have changed long ago, and it may still be there.
    pub(super) fn on_not_reached(&mut self, errand: Errand, failure: &Failure) {
        if errand.is_traced || errand.purpose.ticket().is_none() {
            return self.on_errand_failed(&errand, failure, true);
        }
        self.note_failure(&errand, true);
        let until = self.now.instant + CALL_WAIT_MAX;
        self.trace(Errand { is_traced: true, until, ..errand }, failure.clone());
    }

    fn trace(&mut self, errand: Errand, failure: Failure) {
        let old = errand.peer;
        if let Some(waiting) = self.traces.waiting.get_mut(&old) {
            return waiting.push((errand, failure));
        }
        let is_wanted = errand.purpose.ticket().is_some() && self.traces.waiting.len() < KEY_TRACES_MAX;
        if !is_wanted {
            return self.on_errand_failed(&errand, &failure, false);
        }
        self.traces.waiting.insert(old, vec![(errand, failure)]);
        if self.begin_job(Aim::Trace { old, key: place_of(&old) }).is_err() {
            self.end_trace(old);
        }
    }

    /// What lies under the key's place; none: nothing that enough holders agree on.
    pub(super) fn on_traced(&mut self, old: NodeId, payload: Option<&[u8]>) {
        let request = payload.map(|payload| Request::parse(Operation::ChangeKey, payload));
        if let Some(Ok(Request::ChangeKey(told))) = request
            && told.change.current == old
            && told.change.new != self.own.id()
        {
            let made = WallMillis(told.change.time_ms);
            let skew = KEY_CHANGE_SKEW.as_millis() as u64;
            if made.0 <= self.now.wall.0.saturating_add(skew) {
                // However long ago: nothing that came after it is undone by it. What does not count leaves all as it is.
                let _ = self.chains.on_change(&SignedChange::told(&told), made, Word::Of(old));
                self.work_key_news();
            }
        }
        self.end_trace(old);
    }

    /// What waited goes on, to another key or not at all.
    fn end_trace(&mut self, old: NodeId) {
        let peer = self.chains.present(&old);
        for (errand, failure) in self.traces.waiting.remove(&old).unwrap_or_default() {
            if peer == old {
                self.on_errand_failed(&errand, &failure, false);
                continue;
            }
            // Whoever is to be met at an address is met there; anybody else may be elsewhere by now.
            let endpoint = errand.endpoint.filter(|_| matches!(errand.purpose, Purpose::Introduce(_)));
            self.run_errand(Errand { peer, endpoint, ..errand });
        }
    }

    /// A second has passed.
    pub(super) fn work_traces(&mut self) {
        let now = self.now.instant;
        let mut late = Vec::new();
        for errands in self.traces.waiting.values_mut() {
            late.extend(errands.extract_if(.., |(errand, _)| errand.until <= now));
        }
        self.traces.waiting.retain(|_, errands| !errands.is_empty());
        late.iter().for_each(|(errand, failure)| self.on_errand_failed(errand, failure, false));
        let Past::Changed(signed) = &self.past else { return };
        let store_at = *self.traces.store_at.get_or_insert(now + KEY_CHANGE_STORE_AFTER);
        if store_at > now || self.table.count() == 0 {
            return;
        }
        self.traces.store_at = Some(now + REPUBLISH_INTERVAL);
        let wish = PutWish {
            key: place_of(&signed.change.current),
            value: signed.payload().into_vec(),
            owner: Some(self.own.id()),
            leave: None,
            life: VALUE_RECORD_LIFE_MAX,
        };
        if let Some(store) = self.store_arguments(&wish, self.now.wall.0) {
            self.begin_chore(Aim::Again { to: None, key: wish.key, store });
            self.work_values();
        }
    }
}

#[cfg(test)]
mod tests {
    use dunlin_codec::args::{Ack, Found, Metadata};
    use dunlin_codec::label::Network;
    use dunlin_codec::msgpack::Encoded;
    use dunlin_codec::record::Key;

    use super::*;
    use crate::dht::values::{Answer, Finding};
    use crate::event::{CloseReason, Ticket};
    use crate::identity::Identity;
    use crate::identity::chain::News;
    use crate::limits::{KEY_CHANGE_LIFE, REQUEST_TIMEOUT};
    use crate::messages::conversation::{Constants, Terms};
    use crate::neighbours::{HUB, Notice, Seat};
    use crate::note::{Note, Question};
    use crate::placement::{Placement, PlacementSeeds};
    use crate::rng::Rng;
    use crate::time::Now;

    const WALL: WallMillis = WallMillis(1_760_000_000_000);

    fn key(byte: u8) -> Identity {
        Identity::from_seed([byte; 32])
    }

    /// A node that knows nobody: it keeps the whole DHT itself.
    fn hub() -> Hub {
        let own = key(100);
        let terms = Terms::new(own.id(), Network([7; 32]), Constants::default(), "a test").unwrap();
        let placement = Placement::new(1, PlacementSeeds { steering: 1, keys: [2, 3] });
        let seat = Seat { shard: HUB, placement, endpoints: vec!["192.0.2.9:9".parse().unwrap()] };
        let now = Now { instant: Instant::ZERO, wall: WALL };
        Hub::new(&own, &terms, &seat, (now, Rng::from_number(1)))
    }

    fn ask(hub: &mut Hub, peer: NodeId) {
        let question = Question { operation: Operation::Ping, payload: [0x90].into(), wait: REQUEST_TIMEOUT };
        hub.on_note(Note::Ask { ticket: Ticket(1), peer, question });
    }

    /// Answers what the hub asks its own holder: this value for this key, nothing for any other. How often it asked.
    /// Calls go to `called`.
    fn answer(hub: &mut Hub, key: &[u8], value: &[u8], called: impl Fn(&Note)) -> usize {
        let mut asked = 0;
        while let Some((_, note)) = hub.poll_note() {
            if matches!(note, Note::Call { .. }) {
                called(&note);
            }
            let Note::Keep { origin, operation, payload, .. } = note else { continue };
            let Ok(Request::FindValue(find)) = Request::parse(operation, &payload) else { continue };
            asked += 1;
            let finding = if find.key.bytes() == key {
                let metadata = Metadata { record: None, lease: None };
                let key = Key::parse(key).unwrap().unwrap();
                let mut room = [0; 1_024];
                let mut out = Writer::new(&mut room);
                Ack::Value(Found { key, value: Encoded::parse(value).unwrap(), metadata })
                    .write(&mut out)
                    .unwrap();
                Finding::Answer(Answer { is_ack: true, payload: out.written().to_vec() })
            } else {
                Finding::Nowhere(find.address)
            };
            hub.on_note(Note::Kept { origin, finding });
        }
        asked
    }

    fn told(hub: &mut Hub) -> (Vec<News>, usize) {
        let (mut news, mut not_found) = (Vec::new(), 0);
        while let Some(notice) = hub.poll_notice() {
            match notice {
                Notice::Key(one) => news.push(one),
                Notice::Answered { result: Err(Failure::NotFound), .. } => not_found += 1,
                _ => {}
            }
        }
        (news, not_found)
    }

    /// A day is over long ago and nobody knows the old key: its change lies in the DHT. The new one is looked for then.
    /// spec: p2p/key-trace
    #[test]
    fn a_later_caller_finds_the_change() {
        let (old, new) = (key(1).id(), key(2).id());
        let made = WALL.0 - 3 * KEY_CHANGE_LIFE.as_millis() as u64;
        let signed = SignedChange::sign((&key(1), &key(2)), &key(3).id(), (1, made));
        let mut hub = hub();
        ask(&mut hub, old);
        // The old key's change, and then whether the new one has become another, too.
        assert_eq!(answer(&mut hub, &place_of(&old), &signed.payload(), |_| {}), 2);
        assert_eq!(told(&mut hub), (vec![News::Followed { old, new }], 1));
    }

    /// Nobody answers for the old key where it was. The node may still be there under the new one, and is called there; when
    /// nothing is found, or nobody answers that call either, the application hears why.
    /// spec: p2p/key-trace
    #[test]
    fn a_caller_whom_nobody_answers_looks_for_the_change() {
        let (old, new) = (key(1).id(), key(2).id());
        let endpoint = "192.0.2.1:7".parse().unwrap();
        let signed = SignedChange::sign((&key(1), &key(2)), &key(3).id(), (1, WALL.0 - 1));
        let fail_call = |hub: &mut Hub, whom: NodeId| {
            let call = core::iter::from_fn(|| hub.poll_note()).find_map(|(_, note)| match note {
                Note::Call { ticket, peer, endpoint: at } if peer == whom && at == endpoint => Some(ticket),
                _ => None,
            });
            let (ticket, reason) = (call.expect("it is called"), CloseReason::HandshakeTimeout);
            hub.on_note(Note::CallFailed { ticket, reason });
        };
        let not_reached = |hub: &mut Hub| {
            let failed = |notice: &Notice| {
                matches!(notice, Notice::Answered { ticket: Ticket(1), result: Err(Failure::NotReached(_)) })
            };
            core::iter::from_fn(|| hub.poll_notice()).filter(failed).count()
        };
        let mut hub = hub();
        hub.on_note(Note::Join { ticket: Ticket(1), peer: old, endpoint });
        fail_call(&mut hub, old);
        let begun = hub.now.instant;
        let after = core::time::Duration::from_secs(1);
        // Nothing is told before the answer.
        assert_eq!(not_reached(&mut hub), 0);
        let mut asked = answer(&mut hub, &place_of(&old), &signed.payload(), |note| {
            assert!(
                matches!(note, Note::Call { peer, endpoint: at, .. } if *peer == new && *at == endpoint),
                "{note:?}"
            );
        });
        assert_eq!((asked, not_reached(&mut hub)), (1, 0));
        // The new one is not there either: it is not looked for again.
        hub.begin(Now { instant: begun + CALL_WAIT_MAX + after, wall: WALL });
        hub.on_time();
        assert_eq!(not_reached(&mut hub), 1);
        // And where nothing lies in the DHT.
        let mut hub = self::hub();
        hub.on_note(Note::Join { ticket: Ticket(1), peer: old, endpoint });
        fail_call(&mut hub, old);
        asked = answer(&mut hub, b"", b"", |note| panic!("{note:?}"));
        assert_eq!((asked, not_reached(&mut hub)), (1, 1));
    }

    /// What the node wants of others for itself is not worth a search.
    /// spec: p2p/key-trace
    #[test]
    fn only_the_applications_errands_are_traced() {
        let mut hub = hub();
        let endpoint = "192.0.2.1:7".parse().unwrap();
        hub.begin_errand(key(1).id(), Some(endpoint), Purpose::Ping);
        let call = core::iter::from_fn(|| hub.poll_note()).find_map(|(_, note)| match note {
            Note::Call { ticket, .. } => Some(ticket),
            _ => None,
        });
        hub.on_note(Note::CallFailed { ticket: call.unwrap(), reason: CloseReason::HandshakeTimeout });
        assert!(hub.traces.waiting.is_empty());
    }

    /// Whatever lies there counts by its signatures, and only for the key that was asked for.
    /// spec: p2p/key-trace
    #[test]
    fn a_forged_change_leads_nowhere() {
        let old = key(1).id();
        let others = SignedChange::sign((&key(4), &key(2)), &key(3).id(), (1, WALL.0)).payload();
        let mut forged = SignedChange::sign((&key(1), &key(2)), &key(3).id(), (1, WALL.0)).to_bytes();
        forged[200] ^= 1;
        let forged = SignedChange::from_bytes(&forged).unwrap().payload();
        let later = SignedChange::sign((&key(1), &key(2)), &key(3).id(), (1, WALL.0 + 120_001)).payload();
        for payload in [&[0xc3][..], &others, &forged, &later] {
            let mut hub = hub();
            ask(&mut hub, old);
            assert_eq!(answer(&mut hub, &place_of(&old), payload, |_| {}), 1);
            assert_eq!(told(&mut hub), (Vec::new(), 1));
        }
    }
}
