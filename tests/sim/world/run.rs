//! The loop: what is due is taken in, then every shard that was touched is drained, as the engine does it.

use core::time::Duration;

use dunlin_shards::mail::{self, Destination, Mail};
use dunlin_shards::neighbours::Neighbours;
use dunlin_shards::rng::Rng;
use dunlin_shards::route::Transmit;
use dunlin_shards::session::crypto::Crypto;
use dunlin_shards::time::nanos_of;

use crate::application::Note;
use crate::glass;
use crate::ledger::Ledger;
use crate::trace::What;

use super::checks::{event_number, letter_number};
use super::{Next, NodeIndex, Scheduled, WorldOf};

/// Time for a letter between two shards of a node, in nanoseconds.
const LETTER_DELAY: u64 = 2_000;
/// Trains that a shard may give out at one instant.
const TRAINS_MAX: u32 = 10_000;
/// How often a shard's time may come in one instant.
const TICKS_MAX: u32 = 1_000;
/// A world at rest has not seen anything for so long.
const REST: Duration = Duration::from_secs(3);
/// A world comes to rest in so long, or never.
const REST_MAX: Duration = Duration::from_secs(600);

impl<C: Crypto> WorldOf<C> {
    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + nanos_of(time);
        self.settle();
        while self.queue.peek().is_some_and(|first| first.at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// Lets time pass until `is_so`, at most for `time`. Whether it came to be so.
    pub fn run_until(&mut self, time: Duration, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now + nanos_of(time);
        self.settle();
        while !is_so(self) {
            if self.queue.peek().is_none_or(|first| first.at > until) {
                self.now = until;
                return is_so(self);
            }
            self.step();
        }
        true
    }

    /// Lets time pass until nothing was on its way and nothing happened for three seconds.
    ///
    /// # Panics
    /// When that does not come to be within ten minutes.
    pub fn run_until_idle(&mut self) {
        self.last_activity = self.now;
        let rest = nanos_of(REST);
        let is_idle =
            self.run_until(REST_MAX, |world| world.lively == 0 && world.now >= world.last_activity + rest);
        assert!(is_idle, "the world does not come to rest");
    }

    /// One instant: everything that is due then, and what follows from it at once.
    fn step(&mut self) {
        let Some(first) = self.queue.peek() else { return };
        self.now = first.at;
        while self.queue.peek().is_some_and(|first| first.at == self.now) {
            let Scheduled { next, .. } = self.queue.pop().expect("it was peeked at");
            self.lively -= usize::from(next.is_lively());
            self.take_in(next);
        }
        self.settle();
    }

    fn take_in(&mut self, next: Next<C>) {
        match next {
            Next::Arrive(flight) => self.arrive(*flight),
            Next::Letter { node, start, from, to, mail } => self.on_letter((node, start), from, to, mail),
            Next::Timer { node, start, shard } => self.on_timer(node, start, shard),
            Next::Application { node } => {
                self.last_activity = self.now;
                self.work_application(node);
            }
            Next::Disk { node, start } => self.on_disk(node, start),
            Next::Look { node, start } => self.on_look(node, start),
            Next::Script(script) => script(self),
        }
    }

    /// A shard was touched: it is drained before time goes on.
    pub(super) fn touch(&mut self, node: NodeIndex, shard: u8) {
        let core = &mut self.nodes[node.0].cores[usize::from(shard)];
        if !core.is_dirty {
            core.is_dirty = true;
            self.dirty.push((node, shard));
        }
    }

    pub(super) fn settle(&mut self) {
        let mut rounds = 0;
        while let Some((node, shard)) = self.dirty.pop() {
            if let Some(core) = self.nodes[node.0].cores.get_mut(usize::from(shard)) {
                core.is_dirty = false;
                self.drain(node, shard);
            }
            rounds += 1;
            assert!(rounds < 100_000, "shards and applications answer each other without end");
        }
    }

    fn on_letter(&mut self, (node, start): (NodeIndex, u32), from: u8, to: u8, mail: Box<Mail>) {
        let owner = &mut self.nodes[node.0];
        if owner.start != start || !owner.is_up() {
            return;
        }
        if owner.paused_until > self.now {
            let at = owner.paused_until;
            return self.schedule(at, Next::Letter { node, start, from, to, mail });
        }
        *owner.cores[usize::from(from)].letters_out.entry(to).or_default() -= 1;
        let now = owner.clock.read(self.now);
        self.last_activity = self.now;
        let remote = match &*mail {
            Mail::Reset { arrival, .. } | Mail::Misrouted { arrival, .. } => Some(arrival.remote),
            _ => None,
        };
        let shard = &mut owner.cores[usize::from(to)].shard;
        let resets = shard.stats().resets_taken;
        shard.handle_mail(now, mail::From::Shard(from), *mail);
        if shard.stats().resets_taken > resets {
            self.check_reset(node, remote.expect("only a datagram or a letter about one tells of a Reset"));
        }
        self.touch(node, to);
    }

    fn on_timer(&mut self, node: NodeIndex, start: u32, shard: u8) {
        let owner = &mut self.nodes[node.0];
        if owner.start != start || !owner.is_up() {
            return;
        }
        let core = &mut owner.cores[usize::from(shard)];
        if core.timer_at != Some(self.now) {
            return;
        }
        if owner.paused_until > self.now {
            core.timer_at = Some(owner.paused_until);
            let at = owner.paused_until;
            return self.schedule(at, Next::Timer { node, start, shard });
        }
        core.timer_at = None;
        self.touch(node, shard);
    }

    /// Everything that a shard gives out, and its application's answers, until there is nothing more.
    fn drain(&mut self, node: NodeIndex, shard: u8) {
        self.expire(node, shard);
        self.tick_neighbours(node, shard);
        let mut trains = 0;
        while let Some(transmit) = self.poll_train(node, shard) {
            self.launch(node, shard, &transmit);
            trains += 1;
            assert!(trains < TRAINS_MAX, "a shard sends without end");
        }
        self.post_letters(node, shard);
        self.deliver_events(node, shard);
        if self.reads_notices {
            self.take_notices(node, shard);
        }
        self.set_timer(node, shard);
        self.check_shard(node, shard);
        self.check_silence(node, shard);
    }

    /// Its time may have come.
    fn expire(&mut self, node: NodeIndex, shard: u8) {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let core = &mut owner.cores[usize::from(shard)];
        let Some((_, timer)) = core.shard.poll_timeout().filter(|(at, _)| *at <= now.instant) else { return };
        self.coverage.count_timer(timer);
        core.ticks = if core.ticks.0 == self.now { (self.now, core.ticks.1 + 1) } else { (self.now, 0) };
        assert!(
            core.ticks.1 < TICKS_MAX,
            "a shard's time comes without end: {:?}",
            core.shard.poll_timeout()
        );
        let before = (core.shard.stats().probe_timeouts, core.shard.sessions());
        core.shard.handle_timeout(now);
        self.check_probes(node, shard, before);
        self.note(node, shard, What::Timer, [0; 3]);
    }

    fn poll_train(&mut self, node: NodeIndex, shard: u8) -> Option<Transmit> {
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        let lie = owner.byzantine.as_ref().and_then(|byzantine| byzantine.lie());
        let lie = lie.filter(|(_, permille)| self.chance.below(1_000) < u64::from(*permille));
        glass::lie_with(lie.map(|(lie, _)| lie).or(owner.lie));
        let transmit = owner.cores[usize::from(shard)].shard.poll_transmit(now, &mut self.frame);
        glass::lie_with(None);
        self.check_sealed(node, transmit.as_ref());
        transmit
    }

    fn set_timer(&mut self, node: NodeIndex, shard: u8) {
        let owner = &mut self.nodes[node.0];
        let start = owner.start;
        let core = &mut owner.cores[usize::from(shard)];
        let of_shard = core.shard.poll_timeout().map(|(at, _)| at);
        let of_neighbours = core.neighbours.as_ref().and_then(Neighbours::poll_timeout);
        let Some(at) = of_shard.into_iter().chain(of_neighbours).min() else { return };
        let at = owner.clock.world_time(at).max(self.now);
        if core.timer_at.is_some_and(|known| known <= at) {
            return;
        }
        core.timer_at = Some(at);
        self.schedule(at, Next::Timer { node, start, shard });
    }

    fn post_letters(&mut self, node: NodeIndex, shard: u8) {
        loop {
            let owner = &mut self.nodes[node.0];
            let Some((Destination::Shard(to), mail)) = owner.cores[usize::from(shard)].shard.poll_mail()
            else {
                return;
            };
            let kind = letter_number(&mail);
            let full =
                self.full_ring_permille > 0 && self.chance.below(1_000) < u64::from(self.full_ring_permille);
            let ring_len = owner.settings.ring_len;
            let core = &mut owner.cores[usize::from(shard)];
            let waiting = core.letters_out.entry(to).or_default();
            if full || *waiting >= ring_len {
                let now = owner.clock.read(self.now);
                core.shard.handle_undelivered(now, mail);
                self.touch(node, shard);
                self.note(node, shard, What::Full, [u64::from(to), kind, 0]);
                continue;
            }
            *waiting += 1;
            let start = owner.start;
            self.note(node, shard, What::Letter, [u64::from(to), kind, 0]);
            let at = self.now + LETTER_DELAY;
            self.schedule(at, Next::Letter { node, start, from: shard, to, mail: Box::new(mail) });
        }
    }

    fn deliver_events(&mut self, node: NodeIndex, shard: u8) {
        let mut is_any = false;
        for event in self.read_notes(node, shard) {
            self.nodes[node.0].application.on_event(self.now, event);
            is_any = true;
        }
        while let Some(event) = self.nodes[node.0].cores[usize::from(shard)].shard.poll_event() {
            let (kind, session) = event_number(&event);
            self.coverage.count_event(&event);
            self.check_event(node, &event);
            self.note(node, shard, What::Event, [kind, u64::from(session.0), 0]);
            for event in self.offer_to_neighbours(node, shard, event) {
                self.nodes[node.0].application.on_event(self.now, event);
                is_any = true;
            }
        }
        self.post_for_neighbours(node, shard);
        if is_any {
            self.work_application(node);
        }
    }

    /// The application reads, sends and calls; its letters go to their shards at once.
    pub(super) fn work_application(&mut self, node: NodeIndex) {
        let owner = &mut self.nodes[node.0];
        if !owner.is_up() {
            return;
        }
        owner.application.work(self.now, &owner.placement);
        self.take_notes(node);
        let owner = &mut self.nodes[node.0];
        let now = owner.clock.read(self.now);
        for (shard, mail) in owner.application.take_letters() {
            self.nodes[node.0].cores[usize::from(shard)].shard.handle_mail(
                now,
                mail::From::Application,
                mail,
            );
            self.touch(node, shard);
        }
        if let Some(at) = self.nodes[node.0].application.wakes_at() {
            let at = at.max(self.now + 1);
            self.wake_application(node, at);
        }
    }

    fn take_notes(&mut self, node: NodeIndex) {
        for note in core::mem::take(&mut self.nodes[node.0].application.notes) {
            let ledger: &mut Ledger = &mut self.ledger;
            match note {
                Note::Delivered { from, session, channel, bytes } => {
                    let from = self.by_id[&from];
                    let end = (node, self.nodes[node.0].start, session, channel);
                    ledger.on_delivered(from, end, &bytes, self.now);
                    if self.keeps_received {
                        self.received.entry(node).or_default().push(bytes);
                    }
                }
                Note::Handed(entry) => ledger.on_handed(entry),
                Note::Released(entry, outcome) => ledger.on_released(entry, outcome),
                Note::SentAgain(entry) => ledger.on_sent_again(entry),
                Note::MayRepeat(entry) => ledger.allow_repeat(entry),
                Note::Overtakes(entry) => ledger.allow_overtaking(entry),
                Note::Dials(address) => self.tap.on_dialled(node, address),
            }
        }
    }

    fn wake_application(&mut self, node: NodeIndex, at: u64) {
        let application = &mut self.nodes[node.0].application;
        if application.wake_at.is_some_and(|known| known > self.now && known <= at) {
            return;
        }
        application.wake_at = Some(at);
        self.schedule(at, Next::Application { node });
    }

    /// A generator for a part of the world, so that parts do not disturb each other's chance.
    pub fn split_chance(&mut self) -> Rng {
        Rng::from_number(self.chance.next_u64())
    }
}
