//! Changes of keys: ours, which peers are told of for a day, and those of others, which everything here follows.
//!
//! In:    our key's past, records with inceptions, payloads of CHANGE_KEY.
//! Out:   our record, errands that tell of our change; a table, sessions, links and errands under the new key.
//! Holds: our record's sequence never goes back. A peer is answered whether its change counts, and may ask again.
//!
//! A Welcome has no room for a change (it must not be longer than its Hello, T3), so that it is the first thing that is said on a
//! session, to whoever calls: a caller of the old key moves over with it.
//!
//! spec: p2p/key-change

use core::net::SocketAddr;

use dunlin_codec::args::Request;
use dunlin_codec::ids::{NodeId, SessionId};
use dunlin_codec::message::Operation;

use super::{Hub, Notice, Open, Purpose, TICK};
use crate::dht::contact::Contact;
use crate::identity::Identity;
use crate::identity::chain::{BadChange, News, Word};
use crate::identity::change::{Past, SignedChange};
use crate::limits::{REQUEST_TIMEOUT, SEQUENCE_RETRY_AFTER};
use crate::note::{Note, Question};

impl Hub {
    /// Our own key has a past.
    pub(in crate::neighbours) fn on_past(&mut self, past: Past) {
        if let Past::Changed(signed) = &past {
            // What we owned by the key before is ours: nobody has to be told that here.
            let _ = self.chains.on_own_change(signed);
            while self.chains.poll_news().is_some() {}
            self.keep_chain(&signed.change.current);
            self.tell_kin();
        }
        self.past = past;
        self.sign_own();
    }

    /// The node runs on under another key: its peers are told, on the sessions that there are, and everybody by a rumour.
    // spec: p2p/own-key-change
    pub(in crate::neighbours) fn on_new_key(&mut self, identity: Identity, past: Past) {
        self.table.move_to(identity.id(), self.now.instant);
        self.lately.move_to(identity.id());
        let before = core::mem::replace(&mut self.identity, identity);
        if let Past::Changed(signed) = &past {
            self.answer_previous(before, signed.answered_until(self.now));
        }
        self.on_past(past);
        self.on_own_key_changed();
        // Whoever hears of it asks for our record at once.
        self.publish_at = self.now.instant;
        self.voice.on_new_key();
        self.traces.on_new_key();
        self.roll.on_new_key(self.now.instant + TICK);
        self.acquaint = Some((self.now.instant + TICK, 0));
        let newest = |open: &Vec<Open>| open.last().map(|open| open.remote);
        let peers: Vec<(NodeId, SocketAddr)> =
            self.sessions.iter().filter_map(|(peer, open)| Some((*peer, newest(open)?))).collect();
        for (peer, remote) in peers {
            self.tell_key_change(peer, remote);
        }
    }

    /// Every shard hears which keys became which.
    fn tell_kin(&mut self) {
        let kin = self.chains.kin();
        let shards = 0..self.placement.shard_count() as u8;
        self.outbox.extend(shards.map(|shard| (shard, Note::Kin(kin.clone()))));
    }

    /// Our record's sequences, from `first` up to `until`: no more are used before the disk has it that they may.
    pub(in crate::neighbours) fn on_sequences(&mut self, first: u64, until: u64) {
        self.reserve = Some(until);
        self.sign_own_after(first.saturating_sub(1));
    }

    /// The disk has it that sequences up to `until` may have been used.
    pub(super) fn on_reserved(&mut self, until: u64) {
        self.reserve = self.reserve.map(|before| before.max(until));
    }

    /// A chain of an earlier start. False: it is none.
    pub(in crate::neighbours) fn restore_chain(&mut self, row: &[u8]) -> bool {
        let first = self.chains.restore(row);
        if let Some(first) = &first {
            self.keep_chain(first);
            self.tell_kin();
        }
        first.is_some()
    }

    /// Makes our own record anew.
    pub(super) fn sign_own(&mut self) {
        self.sign_own_after(self.own.sequence());
    }

    // spec: p2p/own-sequence
    fn sign_own_after(&mut self, last: u64) {
        let (wall, next) = (self.now.wall, last.saturating_add(1));
        let sequence = match self.reserve {
            None => wall.0.max(next),
            Some(until) if next <= until => next,
            Some(_) => {
                // The disk is behind, or full: the record that there is does a while longer.
                self.renew_at = self.now.instant + SEQUENCE_RETRY_AFTER;
                return;
            }
        };
        let said = (&self.endpoints[..], self.past.chain());
        self.own = Contact::sign_with(&self.identity, &self.network, (sequence, wall), said);
        self.published = None;
        self.voice.on_news();
    }

    /// Whoever we talk to hears of the change of our key, as long as it is new.
    pub(super) fn tell_key_change(&mut self, peer: NodeId, remote: SocketAddr) {
        if self.fresh_key_change().is_some() {
            self.begin_errand(peer, Some(remote), Purpose::KeyChange);
        }
    }

    /// The payload that tells of the change of our key, as long as it is new.
    pub(super) fn fresh_key_change(&self) -> Option<Box<[u8]>> {
        let (signed, until) = self.past.told()?;
        (self.now.wall < until).then(|| signed.payload())
    }

    pub(super) fn own_key_change(&self) -> Option<Question> {
        let (signed, _) = self.past.told()?;
        let (operation, payload) = (Operation::ChangeKey, signed.payload());
        Some(Question { operation, payload, wait: REQUEST_TIMEOUT })
    }

    /// A record that was checked may tell what its key committed to.
    pub(super) fn learn_past(&mut self, contact: &Contact) {
        if let Some(inception) = contact.record().inception() {
            // One that does not hold is as if there were none; of a fork there is news.
            let _ = self.chains.on_inception(&inception, self.now.wall);
            self.work_key_news();
        }
    }

    /// The peer of a session says that a key follows another.
    pub(super) fn on_key_change_told(
        &mut self,
        (session, peer): (SessionId, NodeId),
        request: u64,
        payload: &[u8],
    ) {
        let judged = self.on_key_change(payload, Word::Of(peer));
        // What waits for its past was taken, too.
        let is_taken = matches!(judged, Ok(()) | Err(BadChange::Unanchored));
        self.outbox.push_back((session.shard(), Note::KeyChangeJudged { session, request, is_taken }));
    }

    /// A payload of CHANGE_KEY came: on a session, or as a rumour whose own signature held.
    pub(super) fn on_key_change(&mut self, payload: &[u8], word: Word) -> Result<(), BadChange> {
        let Ok(Request::ChangeKey(told)) = Request::parse(Operation::ChangeKey, payload) else {
            return Err(BadChange::Signature);
        };
        if told.change.current == self.own.id() || told.change.new == self.own.id() {
            // Ours are not heard from others.
            return Err(BadChange::InUse);
        }
        let judged = self.chains.on_change(&SignedChange::told(&told), self.now.wall, word);
        self.work_key_news();
        judged
    }

    /// What a key became lasts longer than this start.
    fn keep_chain(&mut self, key: &NodeId) {
        let row = self.chains.row_of(key);
        self.notices.extend(row.map(|(first, row)| Notice::KeyChain { first, row }));
    }

    pub(super) fn work_key_news(&mut self) {
        let mut is_news = false;
        while let Some(news) = self.chains.poll_news() {
            is_news = true;
            let key = match news {
                News::Followed { old, new } => {
                    self.follow(old, new);
                    old
                }
                News::Frozen(key) => key,
            };
            self.keep_chain(&key);
            self.notices.push_back(Notice::Key(news));
        }
        if is_news {
            self.tell_kin();
        }
    }

    /// Everything that was the old key's is the new one's. The node is asked for its new record.
    fn follow(&mut self, old: NodeId, new: NodeId) {
        let remote = self.sessions.get(&old).and_then(|open| open.last()).map(|open| open.remote);
        let endpoint = remote.or_else(|| self.table.endpoint_of(&old));
        self.move_sessions(&old, new);
        self.links.on_key_changed(&old, new);
        self.table.forget(&old);
        self.lately.forget(&old);
        let calls = self.calls.values_mut().flat_map(|call| &mut call.errands);
        let errands = self.errands.values_mut().chain(calls).filter(|errand| errand.peer == old);
        for errand in errands.filter(|errand| !matches!(errand.purpose, Purpose::Search(_))) {
            errand.peer = new;
        }
        if let Some(endpoint) = endpoint {
            self.begin_errand(new, Some(endpoint), Purpose::Introduce(None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::event::Ticket;
    use crate::gossip::Rumour;
    use crate::identity::inception;
    use crate::limits::{KEY_CHANGE_LIFE, NODE_RECORD_RENEW_AFTER};
    use crate::messages::conversation::{Constants, Terms};
    use crate::neighbours::{HUB, Seat};
    use crate::placement::{Placement, PlacementSeeds};
    use crate::rng::Rng;
    use crate::time::{Instant, Now, WallMillis};
    use dunlin_codec::label::Network;
    use dunlin_codec::message::{EVERYBODY, Freshness, SignedHeader};

    const WALL: WallMillis = WallMillis(1_760_000_000_000);
    const SESSION: SessionId = SessionId::new(0, 3, 0);
    const NETWORK: Network = Network([7; 32]);

    fn key(byte: u8) -> Identity {
        Identity::from_seed([byte; 32])
    }

    fn change([current, new, next]: [u8; 3]) -> SignedChange {
        SignedChange::sign((&key(current), &key(new)), &key(next).id(), (1, WALL.0))
    }

    fn hub() -> Hub {
        let own = key(100);
        let terms = Terms::new(own.id(), NETWORK, Constants::default(), "a test").unwrap();
        let placement = Placement::new(1, PlacementSeeds { steering: 1, keys: [2, 3] });
        let seat = Seat { shard: HUB, placement, endpoints: vec!["192.0.2.9:9".parse().unwrap()] };
        let now = Now { instant: Instant::ZERO, wall: WALL };
        Hub::new(&own, &terms, &seat, (now, Rng::from_number(1)))
    }

    fn remote() -> SocketAddr {
        "192.0.2.1:7".parse().unwrap()
    }

    fn up(hub: &mut Hub, peer: NodeId) {
        hub.on_note(Note::Up { session: SESSION, peer, remote: remote(), ticket: None });
    }

    fn tell(hub: &mut Hub, peer: NodeId, signed: &SignedChange) -> bool {
        hub.on_note(Note::KeyChangeTold { session: SESSION, peer, request: 7, payload: signed.payload() });
        let judged = notes(hub).into_iter().find_map(|note| match note {
            Note::KeyChangeJudged { session: SESSION, request: 7, is_taken } => Some(is_taken),
            _ => None,
        });
        judged.expect("the peer is answered")
    }

    fn notes(hub: &mut Hub) -> Vec<Note> {
        core::iter::from_fn(|| hub.poll_note()).map(|(_, note)| note).collect()
    }

    /// What was followed lies in a row, by which another start follows it.
    /// spec: p2p/key-chain-rows
    #[test]
    fn what_others_became_is_known_after_a_restart() {
        let mut hub = hub();
        let (old, new) = (key(1).id(), key(2).id());
        up(&mut hub, old);
        assert!(tell(&mut hub, old, &change([1, 2, 3])));
        let row = core::iter::from_fn(|| hub.poll_notice()).find_map(|notice| match notice {
            Notice::KeyChain { first, row } if first == old => Some(row),
            _ => None,
        });
        let mut again = self::hub();
        assert!(again.restore_chain(&row.unwrap()));
        up(&mut again, new);
        assert_eq!(asked(&mut again, old), Some(SESSION));
    }

    fn news(hub: &mut Hub) -> Vec<News> {
        let notices = core::iter::from_fn(|| hub.poll_notice());
        notices.filter_map(|notice| if let Notice::Key(news) = notice { Some(news) } else { None }).collect()
    }

    /// Where a question to a node goes: on a session, or nowhere yet.
    fn asked(hub: &mut Hub, peer: NodeId) -> Option<SessionId> {
        let question = Question { operation: Operation::Ping, payload: [0x90].into(), wait: REQUEST_TIMEOUT };
        hub.on_note(Note::Ask { ticket: Ticket(1), peer, question });
        notes(hub).into_iter().find_map(|note| match note {
            Note::AskOn { session, .. } => Some(session),
            _ => None,
        })
    }

    fn learn(hub: &mut Hub, first: u8, next: u8) {
        let past = Past::first(&inception::write(&key(first), &key(next).id()));
        let said = (&[remote()][..], past.chain());
        let contact = Contact::sign_with(&key(first), &NETWORK, (1, WALL), said);
        hub.on_note(Note::Remember { records: vec![contact.bytes().into()], anchors: Vec::new() });
        notes(hub);
    }

    /// Whoever is asked by its old key or its new one is asked on the session that there is; when that is gone, it is for both.
    /// spec: p2p/key-change
    #[test]
    fn what_was_the_old_keys_is_the_new_ones() {
        let mut hub = hub();
        let (old, new) = (key(1).id(), key(2).id());
        learn(&mut hub, 1, 2);
        up(&mut hub, old);
        assert_eq!((asked(&mut hub, old), asked(&mut hub, new)), (Some(SESSION), None));
        assert!(tell(&mut hub, old, &change([1, 2, 3])));
        assert_eq!(news(&mut hub), [News::Followed { old, new }]);
        assert_eq!((asked(&mut hub, old), asked(&mut hub, new)), (Some(SESSION), Some(SESSION)));
        assert!(tell(&mut hub, old, &change([1, 2, 3])), "a replay is taken, and changes nothing");
        assert!(news(&mut hub).is_empty());
        hub.on_note(Note::Gone { session: SESSION, peer: old });
        assert_eq!((asked(&mut hub, old), asked(&mut hub, new)), (None, None));
    }

    /// spec: p2p/key-change
    #[test]
    fn a_change_that_does_not_count_changes_nothing() {
        let mut hub = hub();
        let old = key(1).id();
        learn(&mut hub, 1, 2);
        up(&mut hub, old);
        assert!(!tell(&mut hub, old, &change([1, 7, 8])));
        assert!(news(&mut hub).is_empty());
        assert_eq!((asked(&mut hub, old), asked(&mut hub, key(7).id())), (Some(SESSION), None));
        hub.on_note(Note::KeyChangeTold { session: SESSION, peer: old, request: 7, payload: [0xc0].into() });
        let refused = notes(&mut hub);
        assert!(matches!(refused[..], [Note::KeyChangeJudged { is_taken: false, .. }]), "{refused:?}");
    }

    /// spec: p2p/key-change
    #[test]
    fn whoever_comes_within_a_day_hears_of_our_change() {
        let told_at = |after: core::time::Duration| {
            let mut hub = hub();
            hub.on_past(Past::Changed(Box::new(change([99, 100, 101]))));
            let wall = WallMillis(WALL.0 + after.as_millis() as u64);
            hub.begin(Now { instant: Instant::ZERO + after, wall });
            up(&mut hub, key(1).id());
            notes(&mut hub).into_iter().any(|note| {
                matches!(note, Note::AskOn { question: Question { operation: Operation::ChangeKey, .. }, .. })
            })
        };
        assert!(told_at(core::time::Duration::ZERO) && !told_at(KEY_CHANGE_LIFE));
    }

    /// As a rumour it counts by what was announced; whoever carried it is not heard of it.
    /// spec: p2p/key-change
    #[test]
    fn a_rumour_of_a_change_is_followed() {
        let mut hub = hub();
        let freshness = Freshness { time_ms: WALL.0, instance: 1, count: 0 };
        let header = SignedHeader {
            operation: Operation::ChangeKey,
            is_sealed: false,
            from: key(2).id(),
            to: EVERYBODY,
            freshness: Some(freshness),
        };
        let payload = change([1, 2, 3]).payload();
        let rumour = Arc::new(Rumour::sign(&key(2), &NETWORK, (&header, &payload), None));
        hub.on_note(Note::Arrived(Arc::clone(&rumour)));
        assert!(news(&mut hub).is_empty(), "nothing is known of the key");
        learn(&mut hub, 1, 2);
        assert_eq!(news(&mut hub), [News::Followed { old: key(1).id(), new: key(2).id() }]);
    }

    /// spec: p2p/key-change
    #[test]
    fn our_change_goes_out_once_there_is_a_link() {
        let mut hub = hub();
        hub.on_past(Past::Changed(Box::new(change([99, 100, 101]))));
        let mut said = |seconds: u64, is_link: bool| {
            let after = core::time::Duration::from_secs(seconds);
            hub.begin(Now { instant: Instant::ZERO + after, wall: WALL });
            if is_link {
                let peer = key(1).id();
                up(&mut hub, peer);
                hub.on_note(Note::LinkAsked { session: SESSION, peer, request: 1, is_link: true });
            }
            hub.on_time();
            let is_change = |note: &Note| matches!(note, Note::Rumour(rumour) if rumour.message().operation() == Operation::ChangeKey);
            notes(&mut hub).iter().filter(|note| is_change(note)).count()
        };
        assert_eq!([said(2, false), said(4, true), said(6, false)], [0, 1, 0]);
    }

    /// Its peers are asked to follow on the sessions that they have, its record is the new key's, and whom it knew it knows.
    /// spec: p2p/own-key-change
    #[test]
    fn a_running_node_goes_on_under_its_new_key() {
        let mut hub = hub();
        let peer = key(1).id();
        let said = (&[remote()][..], dunlin_codec::record::Chain::Unknown);
        let contact = Contact::sign_with(&key(1), &NETWORK, (1, WALL), said);
        hub.table.on_told(Instant::ZERO, contact, peer);
        hub.table.on_answer(Instant::ZERO, &peer, remote());
        up(&mut hub, peer);
        notes(&mut hub);
        let (before, signed) = (hub.own.sequence(), change([100, 101, 102]));
        hub.on_new_key(key(101), Past::Changed(Box::new(signed)));
        assert_eq!(hub.own.id(), key(101).id());
        assert!(hub.own.sequence() > before && hub.table.is_member(&peer));
        let notes = notes(&mut hub);
        let is_told = |note: &Note| matches!(note, Note::AskOn { session: SESSION, question, .. } if question.payload == signed.payload());
        assert!(notes.iter().any(is_told), "{notes:?}");
        let is_known = |note: &Note| matches!(note, Note::Known(known) if known.iter().any(|contact| contact.id() == key(101).id()));
        assert!(notes.iter().any(is_known), "{notes:?}");
        // An hour later the next one follows.
        let later = WallMillis(WALL.0 + 3_600_000);
        hub.begin(Now { instant: Instant::ZERO + core::time::Duration::from_secs(3600), wall: later });
        let next = SignedChange::sign((&key(101), &key(102)), &key(103).id(), (2, later.0));
        hub.on_new_key(key(102), Past::Changed(Box::new(next)));
        let kin = hub.chains.kin();
        assert_eq!([100, 101, 102].map(|old| kin.present(&key(old).id())), [key(102).id(); 3]);
    }

    /// spec: p2p/own-sequence
    #[test]
    fn our_records_sequence_never_goes_back() {
        let mut hub = hub();
        assert_eq!(hub.own.sequence(), WALL.0, "without a disk the clock is all there is");
        // The clock was set back since the sequences before these were reserved.
        hub.on_sequences(WALL.0 + 5_001, WALL.0 + 5_003);
        assert_eq!(hub.own.sequence(), WALL.0 + 5_001);
        let after = |hub: &mut Hub, count: u32| {
            let instant = Instant::ZERO + count * NODE_RECORD_RENEW_AFTER;
            hub.begin(Now { instant, wall: WallMillis(WALL.0 + 50_000) });
            hub.on_time();
            hub.own.sequence() - WALL.0
        };
        assert_eq!(
            [1, 2, 3].map(|count| after(&mut hub, count)),
            [5_002, 5_003, 5_003],
            "no more are reserved"
        );
        hub.on_note(Note::OwnReserved(WALL.0 + 5_010));
        hub.begin(Now {
            instant: Instant::ZERO + 3 * NODE_RECORD_RENEW_AFTER + SEQUENCE_RETRY_AFTER,
            wall: WALL,
        });
        hub.on_time();
        assert_eq!(hub.own.sequence(), WALL.0 + 5_004, "soon after there are more");
    }
}
