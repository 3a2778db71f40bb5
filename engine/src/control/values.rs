//! What is asked of the network's values through the admin socket, and the locks that commands hold.
//!
//! In:    requests; a lock's caller, as long as it stays.
//! Out:   answers.
//! Holds: a lock is given back when its caller says so. One whose caller goes without a word runs out: whatever it guarded may still
//!        run for a moment.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dunlin_codec::ids::NodeId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::line::{self, Lines};
use super::network::{is_gone, network};
use super::protocol::{
    Answer, ChangeLine, ChangeOf, Command, GetLine, GrantLine, LockLine, LockedBy, NotChanged, PutLine,
    ValueLine, WishLine, from_hex, open, parse_condition, parse_leave, show_leave, show_version, to_hex,
};
use super::{LINE_WAIT, LOCKS_MAX, REQUEST_LEN_MAX, Shared};
use crate::network::values::{
    Change, ChangeOptions, Found, GetOptions, GivenLeave, LIFE, Lease, LeaseOptions, PutOptions, Reason,
    ValueError, Wish,
};

/// How often it is looked whether a lock is still held, and whether whoever waits for one is still there.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const WAIT_EVERY: Duration = Duration::from_secs(1);

pub(super) fn put(shared: &Shared, wanted: &PutLine) -> Result<Answer, String> {
    let (key, value) = (bytes(&wanted.key)?, bytes(&wanted.value)?);
    let (life, leave) = (life(wanted.life_ms), leave(wanted.leave.as_ref())?);
    let options = PutOptions { life, is_owned: wanted.is_owned, leave };
    match network(shared)?.put(&key, &value, &options) {
        Ok(kept) => Ok(Answer::Kept { by: kept.by, of: kept.of }),
        Err(error) => refusal(error),
    }
}

pub(super) fn get(shared: &Shared, wanted: &GetLine) -> Result<Answer, String> {
    let owner = wanted
        .owner
        .as_ref()
        .map(|owner| owner.parse::<NodeId>().map_err(|error| format!("{owner:?} is no ID: {error}")));
    let options = GetOptions { owner: owner.transpose()?, quorum: wanted.quorum };
    let found = network(shared)?.look(&bytes(&wanted.key)?, &options).map_err(|error| error.to_string())?;
    Ok(Answer::Value(found.map(|found| Box::new(line_of(&found)))))
}

pub(super) fn change(shared: &Shared, wanted: &ChangeLine) -> Result<Answer, String> {
    let changes = wanted.changes.iter().map(change_of).collect::<Result<Vec<Change>, String>>()?;
    let (life, is_owned, token) = (life(wanted.life_ms), wanted.is_owned, wanted.token);
    let leaves =
        wanted.leaves.iter().map(|text| read_leave(text)).collect::<Result<Vec<GivenLeave>, String>>()?;
    let options = ChangeOptions { life, is_owned, leaves, token };
    match network(shared)?.change(&changes, &options) {
        Ok(changed) => Ok(Answer::Changed(changed.values.iter().map(line_of).collect())),
        Err(error) => refusal(error),
    }
}

pub(super) fn grant(shared: &Shared, wanted: &GrantLine) -> Result<Answer, String> {
    let writer = &wanted.writer;
    let writer: NodeId = writer.parse().map_err(|error| format!("{writer:?} is no ID: {error}"))?;
    let life = Duration::from_millis(wanted.life_ms);
    let given = network(shared)?.grant(&bytes(&wanted.key)?, writer, life);
    let given = given.map_err(|error| error.to_string())?;
    Ok(Answer::Leave { leave: show_leave(&given), until_ms: given.until_ms })
}

fn leave(text: Option<&String>) -> Result<Option<GivenLeave>, String> {
    text.map(|text| read_leave(text)).transpose()
}

fn read_leave(text: &str) -> Result<GivenLeave, String> {
    parse_leave(text).ok_or_else(|| "this is no leave".to_owned())
}

fn change_of(wanted: &ChangeOf) -> Result<Change, String> {
    let condition = wanted.cas.as_ref().map(|text| {
        parse_condition(text).ok_or_else(|| format!("{text:?} is no condition: give none, or SEQUENCE:HASH"))
    });
    let wish = match &wanted.wish {
        WishLine::Set(value) => Wish::Set(bytes(value)?),
        WishLine::Delete => Wish::Delete,
        WishLine::Diff(operations) => Wish::Diff(bytes(operations)?),
    };
    Ok(Change { key: bytes(&wanted.key)?, condition: condition.transpose()?, wish })
}

fn bytes(digits: &str) -> Result<Vec<u8>, String> {
    from_hex(digits).ok_or_else(|| "a key or value is not in hexadecimal digits".to_owned())
}

fn life(life_ms: Option<u64>) -> Duration {
    life_ms.map_or(LIFE, Duration::from_millis)
}

/// What the holders said, or why nothing was said.
fn refusal(error: ValueError) -> Result<Answer, String> {
    match error {
        ValueError::Refused(refused) => Ok(Answer::NotChanged(NotChanged {
            reason: kebab(&refused.reason),
            words: refused.to_string(),
            there: refused.there.iter().map(line_of).collect(),
        })),
        other => Err(other.to_string()),
    }
}

/// A reason's name, as `stale-sequence`.
pub(super) fn kebab(reason: &impl std::fmt::Debug) -> String {
    let mut name = String::new();
    for letter in format!("{reason:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn line_of(found: &Found) -> ValueLine {
    let lease = found.lease.filter(|lease| lease.until_ms != 0);
    ValueLine {
        key: to_hex(&found.key),
        value: to_hex(&found.value),
        cas: show_version(&found.version()),
        sequence: found.sequence,
        owner: found.owner.map(|owner| owner.to_string()),
        writer: found.writer.map(|writer| writer.to_string()),
        written_ms: found.written_ms,
        expires_ms: found.expires_ms,
        token: found.token,
        lock: lease.map(|lease| LockedBy {
            holder: lease.holder.to_string(),
            until_ms: lease.until_ms,
            token: lease.token,
        }),
        holders: found.holders,
    }
}

/// A client that holds or waits for a lock, while it does.
struct Locker<'a>(&'a Shared);

impl<'a> Locker<'a> {
    fn enter(shared: &'a Shared) -> Option<Self> {
        if shared.lockers.fetch_add(1, Ordering::SeqCst) >= LOCKS_MAX {
            shared.lockers.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        // It is counted here and nowhere else.
        shared.clients.fetch_sub(1, Ordering::SeqCst);
        Some(Self(shared))
    }
}

impl Drop for Locker<'_> {
    fn drop(&mut self) {
        self.0.clients.fetch_add(1, Ordering::SeqCst);
        self.0.lockers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes a lock for a client and holds it until that has ended.
pub(super) fn lock(shared: &Shared, lines: &mut Lines, wanted: &LockLine) {
    let Some(_locker) = Locker::enter(shared) else {
        let why =
            format!("{LOCKS_MAX} commands hold or wait for locks of this node already: end one of them");
        return drop(line::write(lines.stream(), &Answer::Refused(why)));
    };
    match take(shared, lines, wanted) {
        Ok(Some(lease)) => hold(lines, lease),
        Ok(None) => {}
        Err(answer) => drop(line::write(lines.stream(), &answer)),
    }
}

/// Waits for a lock; none: the client has gone.
fn take(shared: &Shared, lines: &mut Lines, wanted: &LockLine) -> Result<Option<Lease>, Answer> {
    let network = network(shared).map_err(Answer::Refused)?;
    let key = bytes(&wanted.key).map_err(Answer::Refused)?;
    let leave = leave(wanted.leave.as_ref()).map_err(Answer::Refused)?;
    let clock = crate::clock::Clock::start();
    loop {
        let whole = wanted.wait_ms.map_or(Duration::MAX, Duration::from_millis);
        let left = whole.saturating_sub(clock.elapsed());
        let lasts = Duration::from_millis(wanted.lease_ms);
        let options = LeaseOptions { lasts, wait: left.min(WAIT_EVERY), leave };
        match network.lock(&key, &options) {
            Ok(lease) => return Ok(Some(lease)),
            Err(error) if is_worth_waiting(&error) && left > WAIT_EVERY => {
                if is_gone(lines.stream()) {
                    return Ok(None);
                }
            }
            Err(error) => return Err(refusal(error).unwrap_or_else(Answer::Refused)),
        }
    }
}

fn is_worth_waiting(error: &ValueError) -> bool {
    match error {
        ValueError::Refused(refused) => refused.reason == Reason::Leased,
        ValueError::Unknown | ValueError::Unreached => true,
        _ => false,
    }
}

fn hold(lines: &mut Lines, lease: Lease) {
    let mut told = None;
    loop {
        let until = lease.until().filter(|_| lease.is_held());
        let Some(until) = until else {
            return drop(line::write(lines.stream(), &Answer::LockLost));
        };
        if told != Some(until) {
            let until_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
            let locked = Answer::Locked { token: lease.token(), until_ms };
            if line::write(lines.stream(), &locked).is_err() {
                // Whoever was never told that it is held did nothing with it.
                return if told.is_some() { lease.run_out() } else { drop(lease) };
            }
            told = Some(until);
        }
        if has_input(lines) {
            let line = lines.next_within(REQUEST_LEN_MAX, LINE_WAIT).ok().flatten();
            if !line.is_some_and(|line| open(&line) == Ok(Command::GiveBack)) {
                return lease.run_out();
            }
            let answer = if lease.release().is_ok() { Answer::GivenBack } else { Answer::LockLost };
            return drop(line::write(lines.stream(), &answer));
        }
    }
}

/// Waits a moment for the client to say something, or to go.
fn has_input(lines: &mut Lines) -> bool {
    let mut waited = [PollFd::new(lines.stream(), PollFlags::IN)];
    let wait = Timespec::try_from(LOOK_EVERY).ok();
    poll(&mut waited, wait.as_ref()).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_names_for_programs() {
        assert_eq!(kebab(&Reason::StaleSequence), "stale-sequence");
        assert_eq!(kebab(&Reason::Mismatch), "mismatch");
    }
}
