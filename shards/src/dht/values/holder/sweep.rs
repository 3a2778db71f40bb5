//! Sweeping: what is over goes, what nobody has stored again for long is stored again.
//!
//! In:    time.
//! Out:   rows that go, values to be stored again, or to be given to who has come (`handing`).
//! Holds: at most [`SWEEP_COUNT_MAX`] keys are looked at at once. Only what its writer signed is stored again by holders:
//!        else it would live as long as there are holders.
//!
//! spec: p2p/republish

use core::ops::Bound;
use core::time::Duration;

use dunlin_codec::args::{Request, Store, StoreOptions};
use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::{Key, ValueRecord};

use super::super::durable::{without_register, without_value};
use super::super::register::is_dead;
use super::super::state::{key_of_scope, scope_of};
use super::super::{VALUED_LEN_MAX, encode};
use super::decide::KeptRegister;
use super::{Action, Entry, Holder, Open, Staged, address, is_over};
use crate::limits::{
    REFRESH_QUIET, REGISTER_LINGER, REPUBLISH_INTERVAL, REPUBLISH_SPREAD, SETTLE_AFTER, SWEEP_COUNT_MAX,
    SWEEP_INTERVAL, WRITES_OPEN_MAX,
};
use crate::time::Now;

impl Holder {
    /// Time has come for something.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.instant < self.sweep_at {
            return;
        }
        self.sweep_at = now.instant + SWEEP_INTERVAL;
        self.pace.expire(now.instant);
        self.leases.expire(now.instant);
        if self.swept.is_empty() {
            self.handing.begin();
        }
        let from = (Bound::Excluded(core::mem::take(&mut self.swept)), Bound::Unbounded);
        let (republish_after, hands_over) = (republish_after(&self.setup.own), self.handing.is_any());
        let is_due = |entry: &Entry| {
            is_over(entry.keep_until, now.wall)
                || !entry.is_cache && now.instant.since(entry.told_at) >= republish_after
        };
        // Few are due, so that the others' keys are not copied.
        let (mut due, mut given, mut count, mut last) = (Vec::new(), Vec::new(), 0, None);
        for (key, entry) in self.plain.range(from).take(SWEEP_COUNT_MAX) {
            (count, last) = (count + 1, Some(key));
            if is_due(entry) {
                due.push(key.clone());
            } else if hands_over && !entry.is_cache {
                given.push(key.clone());
            }
        }
        if count == SWEEP_COUNT_MAX {
            // The rest next time; after the last key it begins anew.
            self.swept = last.cloned().unwrap_or_default();
        }
        due.iter().for_each(|key| self.sweep_plain(now, key));
        given.iter().for_each(|key| self.hand_over(key));
        self.sweep_registers(now);
    }

    /// Gives a value to those who have come and are to keep it.
    fn hand_over(&mut self, key: &[u8]) {
        let Some(entry) = self.plain.get(key) else { return };
        let (Some(record), Some(parsed)) = (entry.record(), Key::parse(key).ok().flatten()) else { return };
        for taker in self.handing.takers(&self.setup.own, &address(&parsed)) {
            if let Some(store) = store_again(key, record, entry.value()) {
                self.actions.push_back(Action::Republish { to: Some(taker), key: key.to_vec(), store });
            }
        }
    }

    fn sweep_registers(&mut self, now: Now) {
        let from = (Bound::Excluded(core::mem::take(&mut self.swept_register)), Bound::Unbounded);
        let republish_after = republish_after(&self.setup.own);
        let is_due = |kept: &KeptRegister| {
            now.instant.since(kept.touched_at) >= REGISTER_LINGER
                || kept.settle_at.is_some_and(|at| at <= now.instant)
                || now.instant.since(kept.told_at) >= republish_after
        };
        let (mut due, mut count, mut last) = (Vec::new(), 0, None);
        for (scope, kept) in self.registers.range(from).take(SWEEP_COUNT_MAX) {
            (count, last) = (count + 1, Some(scope));
            if is_due(kept) && !self.lines.is_held(scope) {
                due.push(scope.clone());
            }
        }
        if count == SWEEP_COUNT_MAX {
            self.swept_register = last.cloned().unwrap_or_default();
        }
        due.iter().for_each(|scope| self.sweep_register(now, scope));
    }

    fn sweep_register(&mut self, now: Now, scope: &[u8]) {
        let Some(kept) = self.registers.get_mut(scope) else { return };
        let is_quiet = now.instant.since(kept.touched_at) >= REGISTER_LINGER;
        if is_quiet
            && self.open.len() < WRITES_OPEN_MAX
            && kept.register.cells.values().all(|held| is_dead(held, now))
        {
            let removal = Open { scope: None, to: None, staged: Staged::Removal };
            if let Some(kept) = self.registers.remove(scope) {
                self.ledger.give_back(kept.charge);
                self.leases.remove(&kept.register);
                self.tell_leases([&kept.register].into_iter());
            }
            return self.write(vec![without_register(scope)], removal);
        }
        if kept.settle_at.is_some_and(|at| at <= now.instant) {
            kept.settle_at = Some(now.instant + SETTLE_AFTER);
            self.actions.push_back(Action::Settle { scope: scope.to_vec(), key: key_of_scope(scope) });
        }
        if now.instant.since(kept.told_at) >= republish_after(&self.setup.own) {
            kept.told_at = now.instant;
            let is_live = kept.register.cells.values().any(|held| !is_dead(held, now));
            let is_quiet = now.instant.since(kept.touched_at) >= REFRESH_QUIET;
            let may_refresh = is_live && is_quiet && kept.register.members.contains(&self.setup.own);
            let refresh = may_refresh.then(|| Action::Refresh { key: key_of_scope(scope) });
            let again = kept.register.cells.iter().filter_map(|(key, held)| {
                let record = held.cell.live_record(now.wall)?;
                let store = store_again(key, record, held.cell.value())?;
                Some(Action::Republish { to: None, key: key.clone(), store })
            });
            self.actions.extend(again);
            self.actions.extend(refresh);
        }
    }

    fn sweep_plain(&mut self, now: Now, key: &[u8]) {
        let scope = Key::parse(key).ok().flatten().map(|key| scope_of(&key));
        if scope.is_none_or(|scope| self.lines.is_held(&scope)) {
            // What is on its way to the disk must not be taken from it by a later ticket.
            return;
        }
        let Some(entry) = self.plain.get_mut(key) else { return };
        if is_over(entry.keep_until, now.wall) {
            if !entry.is_cache && self.open.len() >= WRITES_OPEN_MAX {
                // It is in nobody's sight; its row goes when the disk has caught up.
                return;
            }
            if self.forget(key).is_some_and(|entry| !entry.is_cache) {
                self.write(vec![without_value(key)], Open { scope: None, to: None, staged: Staged::Removal });
            }
        } else if !entry.is_cache && now.instant.since(entry.told_at) >= republish_after(&self.setup.own) {
            entry.told_at = now.instant;
            let store = entry.record().and_then(|record| store_again(key, record, entry.value()));
            if let Some(store) = store {
                self.actions.push_back(Action::Republish { to: None, key: key.to_vec(), store });
            }
        }
    }
}

/// Holders differ: most find that another has been faster.
fn republish_after(own: &NodeId) -> Duration {
    let draw = u32::from(u16::from_be_bytes([own.0[0], own.0[1]]));
    REPUBLISH_INTERVAL + REPUBLISH_SPREAD * draw / (1 << 16)
}

/// The arguments of STORE by which a value is stored elsewhere, its record as it came.
fn store_again(key: &[u8], record: ValueRecord<'_>, value: Encoded<'_>) -> Option<Vec<u8>> {
    let key = Key::parse(key).ok().flatten()?;
    let options = StoreOptions { record: Some(record), ..StoreOptions::default() };
    let store = Store { address: address(&key), key, value, options };
    Some(encode(VALUED_LEN_MAX, |out| Request::Store(store).write(out)))
}
