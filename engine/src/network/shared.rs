//! What the application's threads and the drivers share of a network: requests, events, whom we know.
//!
//! Holds: a driver locks these only for what concerns the application, never for what nodes ask each other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dunlin_codec::ids::NodeId;
use dunlin_shards::dht::contact::Heard;
use dunlin_shards::dht::known::Known;
use dunlin_shards::dht::values::GivenLeave;
use dunlin_shards::dht::values::decision::Decided;
use dunlin_shards::dht::values::get::Got;
use dunlin_shards::dht::values::put::Stored;
use dunlin_shards::event::Ticket;
use dunlin_shards::messages::conversation::Constants;
use dunlin_shards::neighbours::rows::{ROW_OF_CHAIN, row_key};
use dunlin_shards::neighbours::{Failure, Said};
use dunlin_shards::outcome::Outcome;

use super::Row;
use super::event::NetworkEvent;
use crate::bell::Bell;
use crate::clock::Clock;
use crate::mailbox::lock;

/// Events that wait for the application at most; the oldest go first, and are counted.
const EVENTS_MAX: usize = 4_096;

/// The answer to a request of the application's.
pub(super) enum Answered {
    Outcome(Result<Outcome, Failure>),
    Nodes(Option<Vec<Heard>>),
    Stored(Result<Stored, Failure>),
    Read(Result<Got, Failure>),
    Decided(Result<Decided, Failure>),
    Granted(Option<GivenLeave>),
    Said(Result<Said, Failure>),
    Stopped,
}

/// A request under way.
#[derive(Default)]
pub(super) struct Pending {
    answer: Mutex<Option<Answered>>,
    answered: Bell,
}

impl Pending {
    pub(super) async fn wait(&self) -> Answered {
        loop {
            let listener = self.answered.listen();
            if let Some(answer) = lock(&self.answer).take() {
                return answer;
            }
            listener.await;
        }
    }
}

/// Looks at an event, and gives it back unless it took it.
pub(super) type Watcher = Box<dyn FnMut(NetworkEvent) -> Option<NetworkEvent> + Send>;

/// Events that wait.
#[derive(Default)]
struct Waiting {
    queue: Mutex<VecDeque<NetworkEvent>>,
    happened: Bell,
}

/// What a network's handles and the drivers share.
pub(crate) struct NetworkShared {
    pub(super) constants: Constants,
    /// The shards' clock.
    pub(super) clock: Clock,
    known: Mutex<Arc<Known>>,
    /// What keys became, by the first of each chain.
    chains: Mutex<BTreeMap<NodeId, Vec<u8>>>,
    pending: Mutex<HashMap<Ticket, Arc<Pending>>>,
    /// For whoever asks for the next event.
    events: Waiting,
    /// For the chain of watchers, once there is one.
    watched: Waiting,
    pub(super) watchers: Mutex<Vec<Watcher>>,
    has_watchers: AtomicBool,
    dropped: AtomicU64,
    stopped: AtomicBool,
    /// Rung when the engine has stopped.
    pub(super) ended: Bell,
}

/// Whom a driver wakes at the end of its turn.
#[derive(Default)]
pub(crate) struct Rings {
    answered: Vec<Arc<Pending>>,
    happened: bool,
}

impl NetworkShared {
    pub(crate) fn new(constants: Constants, known: Arc<Known>, clock: Clock) -> Self {
        Self {
            constants,
            clock,
            known: Mutex::new(known),
            chains: Mutex::default(),
            pending: Mutex::default(),
            events: Waiting::default(),
            watched: Waiting::default(),
            watchers: Mutex::default(),
            has_watchers: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            ended: Bell::default(),
        }
    }

    pub(super) fn known(&self) -> Arc<Known> {
        Arc::clone(&lock(&self.known))
    }

    pub(super) fn set_known(&self, known: Arc<Known>) {
        *lock(&self.known) = known;
    }

    pub(super) fn put_chain(&self, first: NodeId, row: Vec<u8>) {
        lock(&self.chains).insert(first, row);
    }

    /// What keys became, as rows.
    pub(super) fn chains(&self) -> Vec<Row> {
        let chains = lock(&self.chains);
        chains.iter().map(|(first, row)| (row_key(ROW_OF_CHAIN, *first), row.clone())).collect()
    }

    /// Enters a request, so that its answer finds it.
    pub(super) fn expect(&self, ticket: Ticket) -> Arc<Pending> {
        let pending = Arc::new(Pending::default());
        lock(&self.pending).insert(ticket, Arc::clone(&pending));
        pending
    }

    /// The request was not even posted.
    pub(super) fn forget(&self, ticket: Ticket) {
        lock(&self.pending).remove(&ticket);
    }

    pub(super) fn put_answer(&self, ticket: Ticket, answer: Answered, rings: &mut Rings) {
        // Whoever asked may have gone.
        let Some(pending) = lock(&self.pending).remove(&ticket) else { return };
        *lock(&pending.answer) = Some(answer);
        rings.answered.push(pending);
    }

    /// An event for the watchers, or for whoever asks for the next one.
    pub(super) fn put_event(&self, event: NetworkEvent, rings: &mut Rings) {
        let has_watchers = self.has_watchers.load(Ordering::Acquire);
        let waiting = if has_watchers { &self.watched } else { &self.events };
        self.put(waiting, event);
        rings.happened = true;
    }

    fn put(&self, waiting: &Waiting, event: NetworkEvent) {
        let mut queue = lock(&waiting.queue);
        let oldest = if queue.len() >= EVENTS_MAX { queue.pop_front() } else { None };
        queue.push_back(event);
        drop(queue);
        if oldest.is_some() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // A question that goes unanswered is refused: not under the lock.
        drop(oldest);
    }

    /// Events that were dropped because nobody asked for them.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn ring(&self, rings: &mut Rings) {
        rings.answered.drain(..).for_each(|pending| pending.answered.ring());
        if core::mem::take(&mut rings.happened) {
            self.watched.happened.ring();
            self.events.happened.ring();
        }
    }

    pub(super) fn happened(&self) -> &Bell {
        &self.events.happened
    }

    /// The next event, or that there will be none.
    pub(super) fn next_event(&self) -> Option<NetworkEvent> {
        let event = lock(&self.events.queue).pop_front();
        event.or_else(|| self.is_stopped().then_some(NetworkEvent::Stopped))
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Puts a watcher at the end of the chain. Whether it is the first.
    pub(super) fn add_watcher(&self, watcher: Watcher) -> bool {
        lock(&self.watchers).push(watcher);
        !self.has_watchers.swap(true, Ordering::AcqRel)
    }

    /// Leads every event along the chain, until the engine stops.
    pub(super) fn run_watchers(&self) {
        loop {
            let listener = self.watched.happened.listen();
            let event = lock(&self.watched.queue).pop_front();
            match event {
                Some(event) => self.lead_along(event),
                None if self.is_stopped() => return,
                None => listener.wait(),
            }
        }
    }

    fn lead_along(&self, event: NetworkEvent) {
        let left = lock(&self.watchers).iter_mut().try_fold(event, |event, watcher| watcher(event));
        if let Some(event) = left {
            self.put(&self.events, event);
            self.events.happened.ring();
        }
    }

    /// The drivers are gone: nobody who waits for them may wait on.
    pub(crate) fn on_stopped(&self) {
        // First, so that a request is either seen below or sees this.
        self.stopped.store(true, Ordering::SeqCst);
        let pending: Vec<Arc<Pending>> = lock(&self.pending).drain().map(|(_, pending)| pending).collect();
        for pending in pending {
            *lock(&pending.answer) = Some(Answered::Stopped);
            pending.answered.ring();
        }
        self.watched.happened.ring();
        self.events.happened.ring();
        self.ended.ring();
    }
}
