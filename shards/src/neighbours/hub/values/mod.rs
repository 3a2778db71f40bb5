//! Values: what the application wishes of holders, and what our own holders have still to do, each as a job.
//!
//! In:    wishes, chores of the shards' holders, places that were looked up, answers, time.
//! Out:   searches, questions as errands, outcomes as notices, what a majority has for a holder that had just come.
//! Holds: at most [`VALUE_JOBS_MAX`] jobs; each ends: by its outcome and the end of what it has still to ask, or when its time
//!        is over. We ask ourselves as we ask others, when we can be reached and are among the closest.
//!
//! A job looks the key's place up, and drives a `Put`, `Get`, `Decision` or `Survey` over the closest nodes that answered. What
//! is put is read first: its sequence is one above what is there. Whatever a job has to ask after its outcome (repairs,
//! those who lag) it asks.
//!
//! What is to be believed when it is found (a value that is read, the roll) is looked up over eight disjoint paths, all else over
//! four (T9). A STORE goes to the k closest, one of each network first, and to nobody beside them: T9's store to the whole
//! region within the estimated k-distance is not done. It would put plain values on more nodes than those of whom decisions
//! need a majority, and more than half of these is what an acknowledgement means.
//!
//! What holders answer to FIND_VALUE is what they have accepted, whether or not a majority has yet: a `Get` sees what was
//! decided before it began, or something newer. A read that no later read contradicts is a decision without edits.
//!
//! spec: p2p/wishes

mod aim;
mod job;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use dunlin_codec::args::{Request, Store, StoreOptions, write_nodes};
use dunlin_codec::bytes::Writer;
use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{Key, NOBODY, ValueFields, ValueRecord};

use super::{Goal, Hub, Notice, Purpose};
use crate::dht::contact::{Contact, Heard};
use crate::dht::lookup::Lookup;
use crate::dht::space::Space;
use crate::dht::values::decision::{Decision, Proposer};
use crate::dht::values::get::{Get, Got, Plan};
use crate::dht::values::put::{Put, Stored};
use crate::dht::values::roll::Call;
use crate::dht::values::survey::Survey;
use crate::dht::values::{
    Answer, Finding, GivenLeave, Holders, PutWish, Question as Asking, address, sign_record, value_hash,
};
use crate::event::Ticket;
use crate::limits::{
    CHORES_LEN_MAX, CHORES_MAX, CHORES_WAITING_MAX, LOOKUP_PATHS, MESSAGE_LEN_MAX, PUT_TRIES_MAX,
    REQUEST_TIMEOUT, SECURE_LOOKUP_PATHS, VALUE_JOB_WAIT, VALUE_JOBS_MAX, VALUE_RECORD_LIFE_MAX,
};
use crate::neighbours::Failure;
use crate::neighbours::keeping::{HERE, shard_of};
use crate::note::{Note, Origin, Question};
use crate::outcome::Outcome;
use crate::rng::Rng;
use job::{Arrival, Job, Near, Work};

pub(super) use aim::Aim;
pub(super) use job::Jobs;

/// What we know ourselves nobody told: no path of a lookup has this number.
const OWN_PATH: usize = usize::MAX;

impl Hub {
    /// The application wishes something.
    pub(super) fn begin_wish(&mut self, aim: Aim) {
        let failure = if !aim.is_good(&self.own.id()) {
            Failure::BadWish
        } else if self.values.jobs.len() >= VALUE_JOBS_MAX {
            Failure::Busy
        } else {
            match self.begin_job(aim) {
                Ok(()) => return,
                Err(aim) => return self.notices.extend(aim.failed(Failure::Busy)),
            }
        };
        self.notices.extend(aim.failed(failure));
    }

    /// A holder of ours has something to do: now, or when others are done.
    pub(super) fn begin_chore(&mut self, aim: Aim) {
        let values = &mut self.values;
        let has_room =
            values.chores.len() < CHORES_WAITING_MAX && values.chores_len + aim.len() <= CHORES_LEN_MAX;
        if has_room {
            values.chores_len += aim.len();
            values.chores.push_back(aim);
        }
    }

    /// Begins what waits and has room; whether there was any.
    fn begin_chores(&mut self) -> bool {
        let mut has_begun = false;
        while !self.values.chores.is_empty()
            && self.values.chores_under_way() < CHORES_MAX
            && self.values.jobs.len() < VALUE_JOBS_MAX
            && let Some(aim) = self.values.chores.pop_front()
        {
            let len = aim.len();
            if let Err(aim) = self.begin_job(aim) {
                self.values.chores.push_front(aim);
                break;
            }
            self.values.chores_len -= len;
            has_begun = true;
        }
        has_begun
    }

    /// The aim comes back when too many searches are under way.
    pub(super) fn begin_job(&mut self, aim: Aim) -> Result<(), Aim> {
        let Some(place) = aim.place() else { return Ok(()) };
        let paths = if aim.is_read() { SECURE_LOOKUP_PATHS } else { LOOKUP_PATHS };
        let number = self.number();
        let until = self.now.instant + VALUE_JOB_WAIT;
        if let Aim::Again { to: Some(to), store, .. } = &aim {
            let endpoint = self.table.endpoint_of(to);
            let near = vec![Near { id: *to, endpoint, path: 0 }];
            let work = Work::Storing(Put::new([*to], store.clone()));
            // Whoever has gone meanwhile is given nothing.
            if endpoint.is_some() {
                self.values.jobs.insert(number, Job { near, work, ..Job::new(aim, until) });
                self.work_job(number);
            }
            return Ok(());
        }
        self.values.jobs.insert(number, Job::new(aim, until));
        let begun = self.begin_search_over(paths, place, Goal::Value(number));
        match (begun, self.values.jobs.remove(&number)) {
            (Err(_), Some(job)) => Err(job.aim),
            (_, job) => {
                self.values.jobs.extend(job.map(|job| (number, job)));
                Ok(())
            }
        }
    }

    /// A job's place was looked up.
    pub(super) fn on_place_found(&mut self, number: u64, lookup: &Lookup) {
        let near = self.near(lookup);
        let Some(mut job) = self.values.jobs.remove(&number) else { return };
        if near.is_empty() {
            return match &job.aim {
                Aim::Trace { old, .. } => self.on_traced(*old, None),
                Aim::CallRoll { .. } => self.on_roll_called(Vec::new()),
                aim => self.notices.extend(aim.failed(Failure::NotFound)),
            };
        }
        job.behind =
            lookup.behind().map(|heard| Near { id: heard.id(), endpoint: heard.endpoint(), path: 0 });
        job.known = self.known(lookup, &near);
        job.near = near;
        job.work = self.first_work(&job);
        self.values.jobs.insert(number, job);
        self.work_job(number);
    }

    /// The closest nodes that answered, ourselves among them where we are closer than one of those: what we know we were told
    /// by nobody, so ours is a path of its own.
    fn near(&self, lookup: &Lookup) -> Vec<Near> {
        let endpoints: BTreeMap<NodeId, SocketAddr> =
            lookup.closest().filter_map(|heard| Some((heard.id(), heard.endpoint()?))).collect();
        let others = lookup.closest_by_path().map(|(id, path)| {
            let endpoint = endpoints.get(&id).copied();
            Near { id, endpoint, path }
        });
        let mut near: Vec<Near> = others.collect();
        let (place, space) = (lookup.place(), self.plan.space);
        let distance = |id: &NodeId| space.distance(&place, &Space::place(id));
        let own = Near { id: self.own.id(), endpoint: None, path: OWN_PATH };
        let at = near.partition_point(|near| distance(&near.id) < distance(&own.id));
        if self.own.endpoint().is_some() && at < self.plan.replication {
            near.insert(at, own);
            near.truncate(self.plan.replication);
        }
        near
    }

    /// The closest nodes, whether they answer, did of late, or are only known to others: a decision that knows of no earlier one
    /// counts them all.
    fn known(&self, lookup: &Lookup, near: &[Near]) -> Vec<NodeId> {
        let silent = lookup.silent().filter(|heard| self.is_signed(heard)).map(Heard::id);
        let lately = self.lately.iter().map(Contact::id).filter(|id| self.chains.present(id) == *id);
        let known: BTreeSet<NodeId> = near.iter().map(|near| near.id).chain(silent).chain(lately).collect();
        let mut known: Vec<NodeId> = known.into_iter().collect();
        known.sort_by_cached_key(|id| self.plan.space.distance(&lookup.place(), &Space::place(id)));
        known.truncate(self.plan.replication);
        known
    }

    fn first_work(&mut self, job: &Job) -> Work {
        let ids = || job.near.iter().map(|near| near.id);
        let closest = (self.plan.space, self.plan.replication);
        let holders = || Holders { found: ids().collect(), known: job.known.clone(), closest };
        match &job.aim {
            Aim::Put(_, wish) => {
                let owner = Some(wish.owner()).filter(|owner| *owner != NOBODY);
                let plan = self.read_plan(&wish.key, owner);
                self.read(plan, job)
            }
            Aim::Get(_, wish) => {
                let mut plan = self.read_plan(&wish.key, wish.owner);
                plan.quorum = wish.quorum;
                plan.cache_at = job.behind.map(|near| near.id);
                self.read(plan, job)
            }
            Aim::Trace { key, .. } => {
                let plan = self.read_plan(key, None);
                self.read(plan, job)
            }
            Aim::Decide(_, wish) => {
                let terms = (wish.key.clone(), wish.edits.clone());
                let chance = Rng::from_number(self.rng.next_u64());
                let proposer = self.proposer((wish.owner(), wish.leaves.clone(), wish.token), wish.life);
                Work::Deciding(Box::new(Decision::new(proposer, holders(), terms, (self.now, chance))))
            }
            Aim::Refresh { key } => {
                let chance = Rng::from_number(self.rng.next_u64());
                let proposer = self.proposer((NOBODY, Vec::new(), 0), Duration::ZERO);
                let decision = Decision::refresh(proposer, holders(), key.clone(), (self.now, chance));
                Work::Deciding(Box::new(decision))
            }
            Aim::Again { store, .. } => {
                let own = self.own.id();
                Work::Storing(Put::new(ids().filter(|id| *id != own), store.clone()))
            }
            Aim::Enter { store, .. } => Work::Storing(Put::new(ids(), store.clone())),
            Aim::CallRoll { .. } => Work::Calling(Call::new(self.roll_plan(), ids())),
            Aim::Settle { key, .. } => {
                Work::Surveying(Survey::to_settle((key, self.network), &self.own.id(), holders()))
            }
        }
    }

    fn read_plan(&self, key: &[u8], owner: Option<NodeId>) -> Plan {
        let (network, now) = (self.network, self.now.wall);
        Plan { network, key: key.to_vec(), kin: self.chains.kin(), owner, quorum: None, now, cache_at: None }
    }

    fn read(&self, plan: Plan, job: &Job) -> Work {
        Work::Reading(Box::new(Get::new(plan, job.near.iter().map(|near| (near.id, near.path)))))
    }

    fn proposer(&self, (owner, leaves, token): (NodeId, Vec<GivenLeave>, u64), life: Duration) -> Proposer {
        let life = life.min(VALUE_RECORD_LIFE_MAX);
        Proposer {
            identity: self.identity.clone(),
            network: self.network,
            kin: self.chains.kin(),
            owner,
            leaves,
            token,
            life,
        }
    }

    /// Asks whom the job has to ask, and sees whether it is done.
    fn work_job(&mut self, number: u64) {
        while let Some(job) = self.values.jobs.get_mut(&number) {
            let Some(question) = job.work.poll_question() else { break };
            job.open += 1;
            let known = job.near.iter().chain(&job.behind).find(|near| near.id == question.to);
            let endpoint = known.and_then(|near| near.endpoint);
            if question.to == self.own.id() {
                self.ask_own(number, question);
                continue;
            }
            let Asking { number: asked, to, operation, arguments } = question;
            let question = Question { operation, payload: arguments.into(), wait: REQUEST_TIMEOUT };
            self.begin_errand(to, endpoint, Purpose::Value { job: number, number: asked, question });
        }
        self.conclude_job(number);
    }

    /// The holder of our own shard that keeps the key.
    fn ask_own(&mut self, job: u64, question: Asking) {
        let place = self.values.jobs.get(&job).and_then(|job| job.aim.place());
        let Some(place) = place else { return };
        let ticket = self.ticket();
        let until = self.now.instant + REQUEST_TIMEOUT;
        self.values.own.insert(ticket, (job, question.number, until));
        let note = Note::Keep {
            origin: Origin::Hub(ticket),
            peer: self.own.id(),
            from: HERE,
            operation: question.operation,
            payload: question.arguments.into(),
        };
        let shard = shard_of(&self.placement, self.plan.space, &place);
        self.outbox.push_back((shard, note));
    }

    /// Our own holder has answered.
    pub(super) fn on_own_kept(&mut self, ticket: Ticket, finding: Finding) {
        let Some((job, number, _)) = self.values.own.remove(&ticket) else { return };
        let answer = match finding {
            Finding::Answer(answer) => answer,
            Finding::Nowhere(_) => Answer { is_ack: true, payload: no_nodes() },
        };
        self.values.arrivals.push_back(Arrival { job, number, answer: Some(answer) });
    }

    /// A holder has answered a job's question, or has not.
    pub(super) fn on_holder_answered(&mut self, (job, number): (u64, u64), outcome: Option<Outcome>) {
        let answer = match outcome {
            Some(Outcome::Ack(payload)) => Some(Answer { is_ack: true, payload: payload.into() }),
            Some(Outcome::Nack(payload)) => Some(Answer { is_ack: false, payload: payload.into() }),
            _ => None,
        };
        self.values.arrivals.push_back(Arrival { job, number, answer });
    }

    /// Takes in what came, and begins what has room then.
    pub(super) fn work_values(&mut self) {
        loop {
            while let Some(arrival) = self.values.arrivals.pop_front() {
                self.on_arrival(arrival);
            }
            if !self.begin_chores() {
                return;
            }
        }
    }

    fn on_arrival(&mut self, Arrival { job: number, number: asked, answer }: Arrival) {
        let now = self.now;
        let Some(job) = self.values.jobs.get_mut(&number) else { return };
        job.open = job.open.saturating_sub(1);
        match (&mut job.work, &answer) {
            (Work::Reading(get), Some(answer)) => get.on_answer(asked, answer),
            (Work::Reading(get), None) => get.on_failure(asked),
            (Work::Storing(put), Some(answer)) => put.on_answer(asked, answer),
            (Work::Storing(put), None) => put.on_failure(asked),
            (Work::Deciding(decision), Some(answer)) => decision.on_answer(now, asked, answer),
            (Work::Deciding(decision), None) => decision.on_failure(now, asked),
            (Work::Surveying(survey), Some(answer)) => survey.on_answer(asked, answer),
            (Work::Surveying(survey), None) => survey.on_failure(asked),
            (Work::Calling(call), Some(answer)) => call.on_answer(asked, answer),
            (Work::Calling(call), None) => call.on_failure(asked),
            (Work::Looking, _) => {}
        }
        self.work_job(number);
    }

    /// Time may have come for a job.
    pub(super) fn wake_values(&mut self) {
        let now = self.now;
        let due = self.values.jobs.iter().filter(|(_, job)| job.due_at() <= now.instant);
        let due: Vec<u64> = due.map(|(number, _)| *number).collect();
        for number in due {
            let Some(job) = self.values.jobs.get_mut(&number) else { continue };
            if job.until <= now.instant {
                self.give_up_job(number);
            } else if let Work::Deciding(decision) = &mut job.work {
                decision.handle_timeout(now);
                self.work_job(number);
            }
        }
        self.work_values();
    }

    /// A second has passed: what our own holders were asked, and a note that was lost.
    pub(super) fn expire_own(&mut self) {
        let now = self.now.instant;
        let late = self.values.own.extract_if(.., |_, (_, _, until)| *until <= now);
        let late = late.map(|(_, (job, number, _))| Arrival { job, number, answer: None });
        self.values.arrivals.extend(late);
        self.work_values();
    }

    fn give_up_job(&mut self, number: u64) {
        let Some(mut job) = self.values.jobs.remove(&number) else { return };
        match &mut job.work {
            Work::Looking | Work::Surveying(_) => {}
            Work::Reading(get) => get.give_up(),
            Work::Storing(put) => put.give_up(),
            Work::Deciding(decision) => decision.give_up(),
            Work::Calling(call) => call.give_up(),
        }
        self.tell_outcome(&mut job);
        if !job.is_told {
            self.notices.extend(job.aim.failed(Failure::NotFound));
        }
    }

    fn conclude_job(&mut self, number: u64) {
        let Some(mut job) = self.values.jobs.remove(&number) else { return };
        if !job.is_told
            && let Some((sequence, work)) = self.next_work(&job)
        {
            // Under another number: what was asked before is nobody's any more.
            let (tries, number) = (job.tries + 1, self.number());
            self.values.jobs.insert(number, Job { work, sequence, tries, open: 0, ..job });
            return self.work_job(number);
        }
        self.tell_outcome(&mut job);
        if !job.is_told || job.open > 0 {
            self.values.jobs.insert(number, job);
        }
    }

    /// What is put was read, or is there with a higher sequence: it is stored with the next.
    fn next_work(&self, job: &Job) -> Option<(u64, Work)> {
        let Aim::Put(_, wish) = &job.aim else { return None };
        let there = match &job.work {
            Work::Reading(get) => match get.outcome()? {
                Got::Found { cell, .. } => cell.record().map_or(0, |record| record.fields.sequence),
                Got::Nothing | Got::Disagreement(_) | Got::TooFew => 0,
            },
            Work::Storing(put) => {
                let stored = put.outcome()?;
                let record = stored.there.as_ref().map(|there| ValueRecord::parse(there))?.ok()?;
                let is_ours = self.chains.is_same(&record.fields.owner, &wish.owner())
                    && record.fields.sequence >= job.sequence;
                // However many have kept it: whoever reads would take what is there for the newer one.
                if !is_ours || job.tries >= PUT_TRIES_MAX {
                    return None;
                }
                record.fields.sequence
            }
            _ => return None,
        };
        let sequence = there.saturating_add(1);
        let arguments = self.store_arguments(wish, sequence)?;
        Some((sequence, Work::Storing(Put::new(job.near.iter().map(|near| near.id), arguments))))
    }

    /// STORE of what is wished, signed.
    pub(super) fn store_arguments(&self, wish: &PutWish, sequence: u64) -> Option<Vec<u8>> {
        let key = Key::parse(&wish.key).ok().flatten()?;
        let value = Encoded::parse(&wish.value).ok()?;
        let (wall, owner) = (self.now.wall.0, wish.owner());
        let expiry_ms = wall.saturating_add(wish.life.min(VALUE_RECORD_LIFE_MAX).as_millis() as u64);
        let leave = wish.leave.filter(|_| owner != NOBODY && owner != self.own.id());
        let fields = ValueFields {
            key,
            owner,
            sequence,
            time_ms: wall,
            expiry_ms: leave.map_or(expiry_ms, |leave| expiry_ms.min(leave.until_ms)),
            value_hash: &value_hash(value),
            writer: self.own.id(),
            token: 0,
        };
        let record = sign_record(&self.identity, &self.network, &fields, leave.as_ref());
        let options = StoreOptions { record: ValueRecord::parse(&record).ok(), ..StoreOptions::default() };
        let store = Store { address: address(&key), key, value, options };
        let mut room = vec![0; MESSAGE_LEN_MAX.min(wish.value.len() + 8_192)];
        let mut out = Writer::new(&mut room);
        Request::Store(store).write(&mut out).ok()?;
        let len = out.len();
        room.truncate(len);
        Some(room)
    }

    /// Tells what became of a job, once.
    fn tell_outcome(&mut self, job: &mut Job) {
        if job.is_told {
            return;
        }
        if let (Aim::Settle { shard, scope, .. }, Work::Surveying(survey)) = (&job.aim, &job.work) {
            let surveyed = survey.outcome();
            job.is_told = surveyed.is_some() || survey.is_over();
            let note = surveyed.map(|surveyed| {
                (*shard, Note::Settled { scope: scope.clone(), surveyed: Box::new(surveyed) })
            });
            return self.outbox.extend(note);
        }
        if let (Aim::Trace { old, .. }, Work::Reading(get)) = (&job.aim, &job.work)
            && let Some(got) = get.outcome()
        {
            job.is_told = true;
            let payload = if let Got::Found { cell, .. } = got { Some(&cell.value[..]) } else { None };
            return self.on_traced(*old, payload);
        }
        if let Work::Calling(call) = &mut job.work {
            job.is_told = call.is_over();
            if job.is_told {
                let chosen = call.choose(&mut self.rng);
                self.on_roll_called(chosen);
            }
            return;
        }
        let notice = match (&job.aim, &job.work) {
            (Aim::Put(ticket, _), Work::Storing(put)) => {
                put.outcome().map(|stored| told_stored(*ticket, stored))
            }
            // It was given up before anything was stored.
            (Aim::Put(ticket, _), Work::Reading(_)) if job.until <= self.now.instant => {
                Some(told_stored(*ticket, &Stored::default()))
            }
            (Aim::Get(ticket, _), Work::Reading(get)) => {
                get.outcome().map(|got| Notice::Read { ticket: *ticket, result: Ok(got.clone()) })
            }
            (Aim::Decide(ticket, _), Work::Deciding(decision)) => {
                let told = |decided| Notice::Decided { ticket: *ticket, result: Ok(decided) };
                decision.outcome().cloned().map(told)
            }
            (Aim::Enter { .. }, Work::Storing(put)) => {
                job.is_told = put.outcome().is_some();
                let kept = put.outcome().map(|stored| stored.kept);
                return self.on_entered(job.near.len(), kept);
            }
            (Aim::Refresh { .. }, Work::Deciding(decision)) => {
                job.is_told = decision.outcome().is_some();
                return;
            }
            (Aim::Again { .. }, Work::Storing(put)) => {
                job.is_told = put.outcome().is_some();
                return;
            }
            _ => None,
        };
        job.is_told = notice.is_some();
        self.notices.extend(notice);
    }
}

fn told_stored(ticket: Ticket, stored: &Stored) -> Notice {
    Notice::Stored { ticket, result: Ok(stored.clone()) }
}

/// An answer without nodes: what FIND_VALUE comes to where there is nothing.
fn no_nodes() -> Vec<u8> {
    let mut room = [0; 16];
    let mut out = Writer::new(&mut room);
    write_nodes(&mut out, core::iter::empty::<&[u8]>()).expect("nothing is short");
    out.written().to_vec()
}
