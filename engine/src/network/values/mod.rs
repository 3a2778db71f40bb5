//! Values of the network: put, get and delete; compare-and-set, diffs and atomic changes that a majority decides; leases.
//!
//! In:    keys and values, each the bytes of one msgpack value, and what is wished of them.
//! Out:   what holders keep, say, or have decided; why not.
//! Holds: what is said to be kept or decided is on the disks of more than half of the key's holders. Nothing is retried that may have
//!        happened: [`ValueError::Unknown`] says so.
//!
//! A key is a str, a bin, or the array of a group and a name, each of these two a str or a bin; all names of a group live on the same
//! nodes, and up to 16 of them change together ([`Network::change`]). A plain put is for values with one writer, or of which any will do:
//! every holder keeps the newest that it has heard of. Where writers compete, give a condition or take a lease: from then on a majority
//! decides about the key, and puts take part in that by themselves.
//!
//! ```no_run
//! # use dunlin::{Config, Engine};
//! # use dunlin::network::values::{Change, ChangeOptions, Condition, GetOptions, PutOptions, Wish};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::start(Config::default().network("town"))?;
//! let network = engine.network().expect("it is in a network");
//! let (key, value) = (b"\xa4door", b"\xa4open");                     // the texts "door" and "open" in msgpack
//! network.put(key, value, &PutOptions::default())?;
//! let found = network.get(key, &GetOptions::default())?.expect("it was put");
//! let change = Change {
//!     key: key.to_vec(),
//!     condition: Some(Condition::Is(found.version())),
//!     wish: Wish::Set(b"\xa4shut".to_vec()),
//! };
//! network.change(&[change], &ChangeOptions::default())?;           // refused when somebody was faster
//! # Ok(()) }
//! ```

mod change;
mod error;
mod found;
mod lease;

use std::time::Duration;

use dunlin_codec::ids::NodeId;
use dunlin_codec::msgpack::Encoded;
use dunlin_codec::record::Key;
use dunlin_shards::dht::values::get::Got;
use dunlin_shards::dht::values::put::Stored;
use dunlin_shards::dht::values::{GetWish, PutWish};
use dunlin_shards::limits::{VALUE_LEN_MAX, VALUE_RECORD_LIFE_MAX};
use dunlin_shards::note::Note;

pub use change::{Change, ChangeOptions, Changed, Condition, Wish};
pub use dunlin_codec::args::{LeaseRow, Reason};
pub use dunlin_shards::dht::values::decision::Expectation as Version;
pub use dunlin_shards::dht::values::{Event, GivenLeave, value_hash};
pub use error::{Refused, ValueError};
pub use found::Found;
pub use lease::{Lease, LeaseOptions};

use super::shared::Answered;
use super::{Network, NetworkError};
use crate::bell::block_on;

/// How long a value lasts unless somebody says otherwise. Holders see to it that enough of them have it until then.
pub const LIFE: Duration = Duration::from_secs(24 * 3_600);

/// How a value is put.
#[derive(Clone, Copy, Debug)]
pub struct PutOptions {
    /// How long it lasts: 30 days at most.
    pub life: Duration,
    /// The key becomes this node's, which alone may write it from then on; else it is nobody's, and anybody may.
    pub is_owned: bool,
    /// Another owner's leave to write its key.
    pub leave: Option<GivenLeave>,
}

impl Default for PutOptions {
    fn default() -> Self {
        Self { life: LIFE, is_owned: false, leave: None }
    }
}

/// How a value is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct GetOptions {
    /// Whose it must be; none: whoever's it is by agreement of the holders.
    pub owner: Option<NodeId>,
    /// How many holders must answer; none: more than half.
    pub quorum: Option<usize>,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kept {
    /// Holders that keep it, on disk; none: it was decided, as its key has been before, and more than half do.
    pub by: Option<usize>,
    /// Holders that were asked.
    pub of: Option<usize>,
}

impl Network {
    /// Has a value kept under a key by the nodes closest to the key, and waits until it is on the disks of more than half of them.
    /// Where a majority has decided about the key before, it does so again.
    ///
    /// # Errors
    /// It is no value or key, too few keep it, or its key is another's, is leased, or has something newer.
    pub fn put(&self, key: &[u8], value: &[u8], options: &PutOptions) -> Result<Kept, ValueError> {
        block_on(self.put_async(key, value, options))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn put_async(
        &self,
        key: &[u8],
        value: &[u8],
        options: &PutOptions,
    ) -> Result<Kept, ValueError> {
        check_key(key)?;
        check_value(value)?;
        check_life(options.life)?;
        let PutOptions { life, is_owned, leave } = *options;
        let owner = is_owned.then_some(self.id());
        let wish = PutWish { key: key.to_vec(), value: value.to_vec(), owner, leave, life };
        let wish = Box::new(wish);
        let stored = match self.request(|ticket| Note::Put { ticket, wish }).await? {
            Answered::Stored(result) => result?,
            _ => return Err(NetworkError::Stopped.into()),
        };
        match outcome(key, stored) {
            Outcome::Kept(kept) => Ok(kept),
            Outcome::Not(error) => Err(error),
            Outcome::IsDecided => {
                let set = Change { key: key.to_vec(), condition: None, wish: Wish::Set(value.to_vec()) };
                let options = ChangeOptions { life, is_owned, leaves: leave.into_iter().collect(), token: 0 };
                self.change_async(&[set], &options).await?;
                Ok(Kept { by: None, of: None })
            }
        }
    }

    /// Gives another node leave to write a key of this one's, for so long: 30 days at most. Whoever has the leave gives it with what
    /// he writes ([`PutOptions::leave`] and others), which then ends with it; it cannot be taken back.
    ///
    /// # Errors
    /// `BadKey`, `BadLife`, `Busy`, `Stopped`.
    pub fn grant(&self, key: &[u8], writer: NodeId, life: Duration) -> Result<GivenLeave, ValueError> {
        block_on(self.grant_async(key, writer, life))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::grant`].
    pub async fn grant_async(
        &self,
        key: &[u8],
        writer: NodeId,
        life: Duration,
    ) -> Result<GivenLeave, ValueError> {
        check_key(key)?;
        check_life(life)?;
        let until_ms = self.shared.clock.now().wall.0.saturating_add(life.as_millis() as u64);
        let key = key.to_vec();
        match self.request(|ticket| Note::Grant { ticket, key, writer, until_ms }).await? {
            Answered::Granted(leave) => leave.ok_or(ValueError::BadKey),
            _ => Err(NetworkError::Stopped.into()),
        }
    }

    /// Has a value forgotten: whoever reads the key finds nothing. As a put of nil.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn delete(&self, key: &[u8], options: &PutOptions) -> Result<Kept, ValueError> {
        block_on(self.delete_async(key, options))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn delete_async(&self, key: &[u8], options: &PutOptions) -> Result<Kept, ValueError> {
        self.put_async(key, Encoded::NIL.bytes(), options).await
    }

    /// Reads a value: what more than half of its holders have, or of an owned key what its owner wrote last. None: there is none.
    ///
    /// # Errors
    /// Too few answered, they do not agree, or the key is none.
    pub fn get(&self, key: &[u8], options: &GetOptions) -> Result<Option<Found>, ValueError> {
        Ok(self.look(key, options)?.filter(|found| !found.is_deleted()))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_async(&self, key: &[u8], options: &GetOptions) -> Result<Option<Found>, ValueError> {
        Ok(self.look_async(key, options).await?.filter(|found| !found.is_deleted()))
    }

    /// Reads what is known of a key, even where its value was deleted: its sequence, and who has its lease.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn look(&self, key: &[u8], options: &GetOptions) -> Result<Option<Found>, ValueError> {
        block_on(self.look_async(key, options))
    }

    /// The same for any async runtime.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn look_async(&self, key: &[u8], options: &GetOptions) -> Result<Option<Found>, ValueError> {
        check_key(key)?;
        let GetOptions { owner, quorum } = *options;
        let wish = Box::new(GetWish { key: key.to_vec(), owner, quorum });
        let got = match self.request(|ticket| Note::Get { ticket, wish }).await? {
            Answered::Read(result) => result?,
            _ => return Err(NetworkError::Stopped.into()),
        };
        match got {
            Got::Found { cell, support } => Ok(Some(Found::of(key, &cell, Some(support)))),
            Got::Nothing => Ok(None),
            Got::Disagreement(count) => Err(ValueError::Disagreement(count)),
            Got::TooFew => Err(ValueError::TooFewAnswered),
        }
    }
}

/// What answers to a put mean.
enum Outcome {
    Kept(Kept),
    /// A majority has decided about the key: so must this be.
    IsDecided,
    Not(ValueError),
}

fn outcome(key: &[u8], stored: Stored) -> Outcome {
    let of = stored.kept + stored.refusals.len() + stored.failed;
    if 2 * stored.kept > of {
        return Outcome::Kept(Kept { by: Some(stored.kept), of: Some(of) });
    }
    if stored.refusals.contains(&Reason::BallotTooLow) {
        return Outcome::IsDecided;
    }
    let there = stored.there.as_deref().and_then(|record| Found::of_record(key, record));
    Outcome::Not(match stored.refusals.first() {
        Some(reason) if 2 * stored.refusals.len() > of => {
            ValueError::Refused(Refused { reason: *reason, there: there.into_iter().collect() })
        }
        _ if of == 0 => ValueError::Nobody,
        _ => ValueError::TooFewKeep { kept: stored.kept, of, reasons: stored.refusals },
    })
}

/// The key that these bytes are.
fn check_key(bytes: &[u8]) -> Result<Key<'_>, ValueError> {
    Key::parse(bytes).ok().flatten().ok_or(ValueError::BadKey)
}

fn check_value(bytes: &[u8]) -> Result<Encoded<'_>, ValueError> {
    if bytes.len() > VALUE_LEN_MAX {
        return Err(ValueError::TooLong { len: bytes.len(), len_max: VALUE_LEN_MAX });
    }
    Encoded::parse(bytes).map_err(ValueError::BadValue)
}

fn check_life(life: Duration) -> Result<(), ValueError> {
    if life.is_zero() || life > VALUE_RECORD_LIFE_MAX {
        return Err(ValueError::BadLife);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(kept: usize, refusals: &[Reason], failed: usize) -> Stored {
        Stored { kept, refusals: refusals.to_vec(), failed, there: None }
    }

    #[test]
    fn a_put_is_kept_when_more_than_half_keep_it() {
        let is_kept = |stored| matches!(outcome(b"\xa1k", stored), Outcome::Kept(_));
        assert!(is_kept(stored(1, &[], 0)) && is_kept(stored(2, &[Reason::Full], 0)));
        assert!(!is_kept(stored(0, &[], 0)), "there is nobody to keep it");
        assert!(!is_kept(stored(1, &[], 1)) && !is_kept(stored(1, &[Reason::BallotTooLow], 0)));
        let not = |stored| match outcome(b"\xa1k", stored) {
            Outcome::Not(error) => error.to_string(),
            Outcome::Kept(_) => "kept".to_owned(),
            Outcome::IsDecided => "decided".to_owned(),
        };
        assert_eq!(not(stored(0, &[Reason::BallotTooLow], 1)), "decided");
        assert!(not(stored(1, &[Reason::Full], 1)).contains("1 of 3"));
        assert!(not(stored(0, &[Reason::NotAllowed, Reason::NotAllowed], 1)).contains("another"));
    }

    #[test]
    fn what_is_no_key_or_value_is_not_asked_for() {
        assert!(matches!(check_key(b"\xc0"), Err(ValueError::BadKey)));
        assert!(check_key(b"\x92\xa1g\xa1n").is_ok());
        assert!(matches!(check_value(b"\xc1"), Err(ValueError::BadValue(_))));
        let long = [&[0xc5, 0xff, 0xff][..], &[0; 0xffff]].concat();
        assert!(matches!(check_value(&long), Err(ValueError::TooLong { .. })));
        assert!(check_life(Duration::ZERO).is_err() && check_life(VALUE_RECORD_LIFE_MAX).is_ok());
    }
}
