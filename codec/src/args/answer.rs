//! ACK and NACK: what is said to a request, by its request id.
//!
//! In:    the payload of an answer; values to write.
//! Out:   [`Ack`], [`Nack`].
//! Holds: the list begins with the number of the operation that is answered.
//!
//! | ACK of | list |
//! |---|---|
//! | PING, CHANGE_KEY, SPEAK (and any other that only says yes) | [operation] |
//! | SET_CONNECTION_OPT | [3, option, setting] |
//! | WHISPER | [8, message id 16] |
//! | FIND_NODE, and FIND_VALUE of a value that is not there | [9, node record, …], at most 16, bin each |
//! | FIND_VALUE | [10, key, value, metadata] |
//! | STORE | [11, key, value, metadata], after `prepare` [11, key, nil, [nil, nil], promise] |
//! | promise | [promised ballot, accepted ballot or nil, whether the holder is settled, rows (`register`), members (`members`) or nil] |
//! | CUSTOM | [15, answer] |
//!
//! | NACK of | list |
//! |---|---|
//! | SET_CONNECTION_OPT | [3, option, setting] |
//! | STORE | [11, reason, metadata or nil, promised ballot or nil] |
//! | CUSTOM | [15, answer] |
//! | any other | [operation, reason] |
//!
//! We never give the value in the ACK of a STORE: the record in the metadata names its hash. After `prepare` the rows tell
//! what the register holds. A holder is settled once its state comes from a majority; until then its word does not count
//! as a promise. Reasons are numbers, so that programs can act on them.
//!
//! spec: p2p/answers

use core::fmt;

use super::{
    ArgumentError, Ballot, Members, Metadata, Result, Rows, SetOption, bin, bytes, key, list, optional,
    or_nil, unsigned,
};
use crate::bytes::Writer;
use crate::error::NoRoom;
use crate::message::{Operation, SignedMessageId};
use crate::msgpack::{Array, Encoded, write};
use crate::record::{Key, NodeRecord};

/// Nodes that an answer names at most (T9).
pub const NODES_MAX: usize = 16;

/// Why something was not done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Reason {
    /// The operation is reserved, or not offered here.
    Unsupported = 1,
    /// The arguments are not what the operation takes.
    Malformed = 2,
    /// The address is not the key's.
    WrongAddress = 3,
    /// Another value is there than the condition expects.
    Mismatch = 4,
    /// The diff's base is another, or it cannot be applied.
    BadDiff = 5,
    /// Another holds the lease.
    Leased = 6,
    /// The fencing token is lower than one that was seen.
    StaleToken = 7,
    /// The sequence is not higher than what is there.
    StaleSequence = 8,
    /// Signature, owner or grant do not allow it.
    NotAllowed = 9,
    /// Too long, too many, too fast.
    OverQuota = 10,
    /// No room, or the disk takes nothing any more.
    Full = 11,
    /// A higher ballot was promised.
    BallotTooLow = 12,
    /// Not now: ask again later.
    Busy = 13,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Unsupported,
        Self::Malformed,
        Self::WrongAddress,
        Self::Mismatch,
        Self::BadDiff,
        Self::Leased,
        Self::StaleToken,
        Self::StaleSequence,
        Self::NotAllowed,
        Self::OverQuota,
        Self::Full,
        Self::BallotTooLow,
        Self::Busy,
    ];

    fn parse(value: Encoded<'_>) -> Result<Self> {
        let code = unsigned(value)?;
        Self::ALL.into_iter().find(|reason| *reason as u64 == code).ok_or(ArgumentError::OutOfRange)
    }
}

/// Node records of an answer, checked. Nobody has verified them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeRecords<'a> {
    /// The operation's number stands in front of them.
    list: Array<'a>,
}

impl<'a> NodeRecords<'a> {
    fn parse(list: Array<'a>) -> Result<Self> {
        if list.count() > 1 + NODES_MAX {
            return Err(ArgumentError::OutOfRange);
        }
        for record in list.iter().skip(1) {
            NodeRecord::parse(bin(record)?)?;
        }
        Ok(Self { list })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.list.count() - 1
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = NodeRecord<'a>> + use<'a> {
        self.list.iter().skip(1).filter_map(|record| NodeRecord::parse(record.as_bin()?).ok())
    }
}

/// Writes the ACK of FIND_NODE, for whoever has the records at hand; at most [`NODES_MAX`] are taken.
///
/// # Errors
/// [`NoRoom`]: nothing was written.
pub fn write_nodes<'r>(
    out: &mut Writer<'_>,
    records: impl ExactSizeIterator<Item = &'r [u8]>,
) -> core::result::Result<(), NoRoom> {
    let count = records.len().min(NODES_MAX);
    write::whole(out, |out| {
        write::array(out, 1 + count as u32)?;
        write::unsigned(out, u64::from(Operation::FindNode.code()))?;
        records.take(count).try_for_each(|record| write::bin(out, record))
    })
}

/// What a storer promises, and what it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Promise<'a> {
    /// No lower ballot will be taken.
    pub promised: Ballot,
    /// The ballot of the state that is told; none: it was not decided by ballots yet.
    pub accepted: Option<Ballot>,
    /// Its state comes from a majority.
    pub is_settled: bool,
    /// Its state.
    pub rows: Rows<'a>,
    /// Under whom that was accepted. Where nothing was: nobody before, and now those whom the holder remembers around the place.
    /// None: it remembers nobody, or it was before members were told.
    pub members: Option<Members<'a>>,
}

impl<'a> Promise<'a> {
    /// The promise that a value is.
    ///
    /// # Errors
    /// [`ArgumentError`]: another shape.
    pub fn parse(value: Encoded<'a>) -> Result<Self> {
        let [promised, accepted, is_settled, rows, members] = list(value)?;
        let members = optional(members, Members::parse)?;
        Self::from_elements([promised, accepted, is_settled, rows], members)
    }

    /// The promise that a value is that was written before members were told.
    ///
    /// # Errors
    /// [`ArgumentError`]: another shape.
    pub fn parse_memberless(value: Encoded<'a>) -> Result<Self> {
        Self::from_elements(list(value)?, None)
    }

    fn from_elements(
        [promised, accepted, is_settled, rows]: [Encoded<'a>; 4],
        members: Option<Members<'a>>,
    ) -> Result<Self> {
        Ok(Self {
            promised: Ballot::parse(promised)?,
            accepted: optional(accepted, Ballot::parse)?,
            is_settled: is_settled.as_bool().ok_or(ArgumentError::Shape)?,
            rows: Rows::parse(rows)?,
            members,
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`NoRoom`]: a part may have been written.
    pub fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 5)?;
        self.promised.write(out)?;
        or_nil(out, self.accepted, |out, ballot| ballot.write(out))?;
        write::bool(out, self.is_settled)?;
        self.rows.write(out)?;
        or_nil(out, self.members, |out, members| members.write(out))
    }
}

/// A value and what is known of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found<'a> {
    /// The key.
    pub key: Key<'a>,
    /// The value; nil: it was deleted, or is not told.
    pub value: Encoded<'a>,
    /// What is known of it.
    pub metadata: Metadata<'a>,
}

impl<'a> Found<'a> {
    fn from_elements([name, value, metadata]: [Encoded<'a>; 3]) -> Result<Self> {
        Ok(Self { key: key(name)?, value, metadata: Metadata::parse(metadata)? })
    }

    fn write_elements(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::encoded(out, self.key.encoded())?;
        write::encoded(out, self.value)?;
        self.metadata.write(out)
    }
}

/// It was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ack<'a> {
    /// Yes, and nothing more to say.
    Plain(Operation),
    /// The option is set.
    SetConnectionOption(SetOption<'a>),
    /// The message has arrived.
    Whisper(SignedMessageId),
    /// The closest nodes.
    Nodes(NodeRecords<'a>),
    /// The value.
    Value(Found<'a>),
    /// It is kept, or promised.
    Stored(Found<'a>, Option<Promise<'a>>),
    /// The application's own.
    Custom(Encoded<'a>),
}

/// The operation in front of a list.
fn operation_of(list: Array<'_>) -> Result<Operation> {
    let ([first], _) = list.split_first().ok_or(ArgumentError::Shape)?;
    let code = u8::try_from(unsigned(first)?).ok().filter(|code| *code < 16);
    code.map(Operation::from_code).ok_or(ArgumentError::OutOfRange)
}

fn write_head(out: &mut Writer<'_>, count: u32, operation: Operation) -> core::result::Result<(), NoRoom> {
    write::array(out, count)?;
    write::unsigned(out, u64::from(operation.code()))
}

impl<'a> Ack<'a> {
    /// Reads the payload of an ACK.
    ///
    /// # Errors
    /// [`ArgumentError`]: whoever answered is not to be believed.
    pub fn parse(payload: &'a [u8]) -> Result<Self> {
        let elements = Encoded::parse(payload)?.as_array().ok_or(ArgumentError::Shape)?;
        let exactly_two = || elements.exactly::<2>().ok_or(ArgumentError::Shape);
        Ok(match operation_of(elements)? {
            Operation::SetConnectionOption => {
                let [_, option, setting] = elements.exactly().ok_or(ArgumentError::Shape)?;
                Self::SetConnectionOption(SetOption::from_list([option, setting])?)
            }
            Operation::Whisper => Self::Whisper(SignedMessageId(*bytes(exactly_two()?[1])?)),
            Operation::FindNode => Self::Nodes(NodeRecords::parse(elements)?),
            Operation::FindValue => {
                let [_, found @ ..] = elements.exactly::<4>().ok_or(ArgumentError::Shape)?;
                Self::Value(Found::from_elements(found)?)
            }
            Operation::Store => {
                let ([_, found @ ..], mut rest) = elements.split_first::<4>().ok_or(ArgumentError::Shape)?;
                let promise = rest.next().map(Promise::parse).transpose()?;
                if rest.next().is_some() {
                    return Err(ArgumentError::Shape);
                }
                Self::Stored(Found::from_elements(found)?, promise)
            }
            Operation::Custom => Self::Custom(exactly_two()?[1]),
            plain if elements.count() == 1 => Self::Plain(plain),
            _ => return Err(ArgumentError::Shape),
        })
    }

    /// The operation that is answered; of [`Self::Nodes`] it may have been FIND_VALUE.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Plain(operation) => *operation,
            Self::SetConnectionOption(_) => Operation::SetConnectionOption,
            Self::Whisper(_) => Operation::Whisper,
            Self::Nodes(_) => Operation::FindNode,
            Self::Value(_) => Operation::FindValue,
            Self::Stored(..) => Operation::Store,
            Self::Custom(_) => Operation::Custom,
        }
    }

    /// Writes the payload.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        let operation = self.operation();
        write::whole(out, |out| match self {
            Self::Plain(_) => write_head(out, 1, operation),
            Self::SetConnectionOption(option) => {
                write_head(out, 3, operation).and_then(|()| option.write_elements(out))
            }
            Self::Whisper(id) => write_head(out, 2, operation).and_then(|()| write::bin(out, &id.0)),
            Self::Nodes(nodes) => {
                write_head(out, nodes.list.count() as u32, operation)?;
                nodes.iter().try_for_each(|record| write::bin(out, record.bytes()))
            }
            Self::Value(found) => write_head(out, 4, operation).and_then(|()| found.write_elements(out)),
            Self::Stored(found, promise) => {
                write_head(out, 4 + u32::from(promise.is_some()), operation)?;
                found.write_elements(out)?;
                promise.map_or(Ok(()), |promise| promise.write(out))
            }
            Self::Custom(answer) => write_head(out, 2, operation).and_then(|()| write::encoded(out, *answer)),
        })
    }
}

/// Why a value is not kept, and what the storer has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoreNack<'a> {
    /// Why.
    pub reason: Reason,
    /// What is known of the value that is there.
    pub metadata: Option<Metadata<'a>>,
    /// The ballot that was promised.
    pub promised: Option<Ballot>,
}

/// It was not done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a view lives on the stack for a moment; a box would be an allocation"
)]
pub enum Nack<'a> {
    /// The option or its setting is not supported; of a subnet: it is another.
    SetConnectionOption(SetOption<'a>),
    /// The value is not kept.
    Store(StoreNack<'a>),
    /// The application's own.
    Custom(Encoded<'a>),
    /// Any other operation.
    Plain(Operation, Reason),
}

impl<'a> Nack<'a> {
    /// Reads the payload of a NACK.
    ///
    /// # Errors
    /// [`ArgumentError`]: whoever answered is not to be believed.
    pub fn parse(payload: &'a [u8]) -> Result<Self> {
        let elements = Encoded::parse(payload)?.as_array().ok_or(ArgumentError::Shape)?;
        let operation = operation_of(elements)?;
        Ok(match operation {
            Operation::SetConnectionOption => {
                let [_, option, setting] = elements.exactly().ok_or(ArgumentError::Shape)?;
                Self::SetConnectionOption(SetOption::from_list([option, setting])?)
            }
            Operation::Store => {
                let [_, reason, metadata, promised] = elements.exactly().ok_or(ArgumentError::Shape)?;
                Self::Store(StoreNack {
                    reason: Reason::parse(reason)?,
                    metadata: optional(metadata, Metadata::parse)?,
                    promised: optional(promised, Ballot::parse)?,
                })
            }
            _ => {
                let [_, second] = elements.exactly().ok_or(ArgumentError::Shape)?;
                match operation {
                    Operation::Custom => Self::Custom(second),
                    _ => Self::Plain(operation, Reason::parse(second)?),
                }
            }
        })
    }

    /// The operation that is answered.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::SetConnectionOption(_) => Operation::SetConnectionOption,
            Self::Store(_) => Operation::Store,
            Self::Custom(_) => Operation::Custom,
            Self::Plain(operation, _) => *operation,
        }
    }

    /// Writes the payload.
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        let operation = self.operation();
        write::whole(out, |out| match self {
            Self::SetConnectionOption(option) => {
                write_head(out, 3, operation).and_then(|()| option.write_elements(out))
            }
            Self::Store(StoreNack { reason, metadata, promised }) => {
                write_head(out, 4, operation)?;
                write::unsigned(out, *reason as u64)?;
                or_nil(out, *metadata, |out, metadata| metadata.write(out))?;
                or_nil(out, *promised, |out, ballot| ballot.write(out))
            }
            Self::Custom(answer) => write_head(out, 2, operation).and_then(|()| write::encoded(out, *answer)),
            Self::Plain(_, reason) => {
                write_head(out, 2, operation).and_then(|()| write::unsigned(out, *reason as u64))
            }
        })
    }
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} value {} {}", self.key, self.value, self.metadata)
    }
}

impl fmt::Display for Ack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ack {}", self.operation())?;
        match self {
            Self::Plain(_) => Ok(()),
            Self::SetConnectionOption(option) => write!(f, " {option}"),
            Self::Whisper(SignedMessageId(id)) => write!(f, " {:032x}", u128::from_be_bytes(*id)),
            Self::Nodes(nodes) => nodes.iter().try_for_each(|record| write!(f, " ({record})")),
            Self::Value(found) => write!(f, " {found}"),
            Self::Stored(found, promise) => {
                write!(f, " {found}")?;
                let Some(Promise { promised, accepted, is_settled, rows, members }) = promise else {
                    return Ok(());
                };
                write!(f, " promised {promised}")?;
                accepted.map_or(Ok(()), |accepted| write!(f, " accepted {accepted}"))?;
                members.map_or(Ok(()), |members| write!(f, " under {members}"))?;
                write!(f, "{} {rows}", if *is_settled { "" } else { " unsettled" })
            }
            Self::Custom(answer) => write!(f, " {answer}"),
        }
    }
}

impl fmt::Display for Nack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nack {}", self.operation())?;
        match self {
            Self::SetConnectionOption(option) => write!(f, " {option}"),
            Self::Store(StoreNack { reason, metadata, promised }) => {
                write!(f, " {reason:?}")?;
                metadata.map_or(Ok(()), |metadata| write!(f, " {metadata}"))?;
                promised.map_or(Ok(()), |ballot| write!(f, " promised {ballot}"))
            }
            Self::Custom(answer) => write!(f, " {answer}"),
            Self::Plain(_, reason) => write!(f, " {reason:?}"),
        }
    }
}
