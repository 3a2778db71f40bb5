//! Sweeping: what is over goes, what nobody has stored again for long is stored again.
//!
//! In:    time.
//! Out:   rows that go, values to be stored again.
//! Holds: at most [`SWEEP_COUNT_MAX`] keys are looked at at once. Only what its writer signed is stored again by holders:
//!        else it would live as long as there are holders.
//!
//! spec: p2p/republish

use core::ops::Bound;

use dunlin_codec::args::{Request, Store, StoreOptions};
use dunlin_codec::record::Key;

use super::super::durable::without_value;
use super::super::{VALUED_LEN_MAX, encode};
use super::{Action, Entry, Holder, Open, Staged, address, is_over};
use crate::limits::{REPUBLISH_INTERVAL, SWEEP_COUNT_MAX, SWEEP_INTERVAL};
use crate::time::Now;

impl Holder {
    /// Time has come for something.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.instant < self.sweep_at {
            return;
        }
        self.sweep_at = now.instant + SWEEP_INTERVAL;
        let from = (Bound::Excluded(core::mem::take(&mut self.swept)), Bound::Unbounded);
        let keys: Vec<Vec<u8>> =
            self.plain.range(from).take(SWEEP_COUNT_MAX).map(|(key, _)| key.clone()).collect();
        if keys.len() == SWEEP_COUNT_MAX {
            // The rest next time; after the last key it begins anew.
            self.swept = keys.last().cloned().unwrap_or_default();
        }
        for key in keys {
            self.sweep_plain(now, &key);
        }
    }

    fn sweep_plain(&mut self, now: Now, key: &[u8]) {
        let scope = Key::parse(key).ok().flatten().map(|key| key.address_input());
        if scope.is_none_or(|scope| self.lines.is_held(scope)) {
            // What is on its way to the disk must not be taken from it by a later ticket.
            return;
        }
        let Some(entry) = self.plain.get_mut(key) else { return };
        if is_over(entry.keep_until, now.wall) {
            if self.forget(key).is_some_and(|entry| !entry.is_cache) {
                self.write(vec![without_value(key)], Open { scope: None, to: None, staged: Staged::Removal });
            }
        } else if !entry.is_cache && now.instant.since(entry.told_at) >= REPUBLISH_INTERVAL {
            entry.told_at = now.instant;
            if let Some(store) = store_again(key, entry) {
                self.actions.push_back(Action::Republish { key: key.to_vec(), store });
            }
        }
    }
}

/// The arguments of STORE by which a value is stored elsewhere, its record as it came.
fn store_again(key: &[u8], entry: &Entry) -> Option<Vec<u8>> {
    let key = Key::parse(key).ok().flatten()?;
    let options = StoreOptions { record: Some(entry.record()?), ..StoreOptions::default() };
    let store = Store { address: address(&key), key, value: entry.value(), options };
    Some(encode(VALUED_LEN_MAX, |out| Request::Store(store).write(out)))
}
