//! Errands: what a node is asked for on our own account, over whatever session there is or one that is opened for it.
//!
//! In:    a peer, where it is, why.
//! Out:   a question; afterwards a changed table, and a search that goes on.
//! Holds: each errand ends once: by an answer, by none, or with its session or call.

use core::net::SocketAddr;

use dunlin_codec::args::{Ack, Request};
use dunlin_codec::ids::NodeId;

use super::Neighbours;
use crate::dht::contact::Heard;
use crate::dht::space::Space;
use crate::event::Ticket;
use crate::limits::REQUEST_TIMEOUT;
use crate::messages::conversation::Outcome;

/// Why a node is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// For its own record.
    Introduce,
    /// Whether it is there.
    Ping,
    /// For what is close to a search's place.
    Search(u64),
}

/// A question to one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand {
    pub(super) peer: NodeId,
    pub(super) endpoint: SocketAddr,
    pub(super) purpose: Purpose,
    /// It was under way when its session ended, and is on its way again.
    is_again: bool,
}

impl Errand {
    pub(super) const fn new(peer: NodeId, endpoint: SocketAddr, purpose: Purpose) -> Self {
        Self { peer, endpoint, purpose, is_again: false }
    }
}

/// A session that is being opened, and what for.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) peer: NodeId,
    pub(super) endpoint: SocketAddr,
    pub(super) errands: Vec<Errand>,
}

impl Neighbours {
    /// Asks at once where a session with the peer goes to that endpoint, else calls it there.
    pub(super) fn run_errand(&mut self, errand: Errand) {
        let session = self.by_peer.get(&errand.peer).copied();
        let is_there = |talk: &super::Talk| talk.remote == errand.endpoint && !talk.is_leaving;
        let Some(talk) = session.and_then(|session| self.talks.get(&session)).filter(|talk| is_there(talk))
        else {
            return self.call(errand.peer, errand.endpoint, errand);
        };
        let session = talk.session;
        let ticket = self.ticket();
        let request = match errand.purpose {
            Purpose::Introduce => Request::FindNode(Space::place(&errand.peer)),
            Purpose::Ping => Request::Ping,
            Purpose::Search(search) => match self.searches.get(&search) {
                Some(lookup) => Request::FindNode(lookup.place()),
                None => return,
            },
        };
        let Some(talk) = self.talks.get_mut(&session) else { return };
        talk.used_at = self.bench.now;
        match talk.conversation.ask(&mut self.bench, ticket, &request, REQUEST_TIMEOUT) {
            Ok(()) => {
                self.errands.insert(ticket, errand);
                self.pump(session);
            }
            Err(_) => self.on_errand_failed(&errand, false),
        }
    }

    /// One of our own questions is done with.
    pub(super) fn on_errand_answered(&mut self, ticket: Ticket, outcome: &Outcome) {
        let Some(errand) = self.errands.remove(&ticket) else { return };
        let told = match outcome.ack() {
            Some(Ack::Nodes(nodes)) => nodes.iter().map(|record| Heard::new(&record)).collect(),
            Some(_) => Vec::new(),
            // Its session ended, or became another: that says nothing of the node.
            None if *outcome == Outcome::Over && !errand.is_again => {
                return self.run_errand(Errand { is_again: true, ..errand });
            }
            None => return self.on_errand_failed(&errand, *outcome == Outcome::TimedOut),
        };
        for heard in &told {
            self.on_heard(heard, errand.peer);
        }
        self.table.on_answer(self.bench.now, &errand.peer, errand.endpoint);
        if let Purpose::Search(search) = errand.purpose
            && let Some(lookup) = self.searches.get_mut(&search)
        {
            lookup.on_answer(&errand.peer, told);
        }
        if errand.purpose == Purpose::Introduce && self.table.count() == 1 {
            // The first node that we know: the others are found from there.
            let own = Space::place(&self.own.id());
            self.begin_search(own);
        }
    }

    /// Somebody told of a node: worth a signature's check only where the table does not have it.
    fn on_heard(&mut self, heard: &Heard, source: NodeId) {
        let is_known = self.table.is_member(&heard.id()) && heard.id() != source;
        if heard.id() == self.own.id() || is_known {
            return;
        }
        if let Ok(contact) = heard.check(&self.bench.terms.network, self.wall) {
            self.table.on_told(self.bench.now, contact, source);
        }
    }

    /// The node did not answer, or could not be asked; `is_silence`: it had its time.
    pub(super) fn on_errand_failed(&mut self, errand: &Errand, is_silence: bool) {
        if is_silence {
            self.table.on_silence(&errand.peer, errand.endpoint);
        }
        if let Purpose::Search(search) = errand.purpose
            && let Some(lookup) = self.searches.get_mut(&search)
        {
            lookup.on_failure(&errand.peer);
        }
    }
}
