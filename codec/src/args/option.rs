//! SET_CONNECTION_OPT: what two peers agree on about their session.
//!
//! | option | setting |
//! |---|---|
//! | 0 compression that the sender can read | number of the method |
//! | 1 compression that the sender would rather read | number of the method |
//! | 2 subnet | [k, alpha, tau, beta, l, transport, description]: five integers, two str |
//! | 3 link | bool: this session carries broadcasts |
//! | 4 recent | [[message id 16, origin time in ms], …], 32 at most: broadcasts that the sender can carry over this link |
//!
//! In:    the list [option, setting].
//! Out:   [`SetOption`] as it came, [`Setting`] when it means something to us.
//! Holds: what we do not know is kept, not refused: a NACK repeats it.
//!
//! We send option 0 once for each method. We answer option 4 with those of the list that we lack: they are carried then.

use core::fmt;

use super::{Result, unsigned};
use crate::bytes::Writer;
use crate::error::NoRoom;
use crate::message::SignedMessageId;
use crate::msgpack::{Array, Encoded, write};
use crate::transmission::Compression;

/// An option and its setting, as they came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SetOption<'a> {
    /// The option's number.
    pub option: u64,
    /// What it is set to.
    pub setting: Encoded<'a>,
}

/// An option that this version knows, with a setting that it may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Setting<'a> {
    /// The sender can read this.
    Offered(Compression),
    /// The sender would rather read this.
    Preferred(Compression),
    /// The sender's network.
    Subnet(Subnet<'a>),
    /// Whether the session carries broadcasts.
    Link(bool),
    /// Broadcasts of the last minutes.
    Recent(Recent<'a>),
}

/// Broadcasts that a list names at most.
pub const RECENT_MAX: usize = 32;

/// Broadcasts, by their names and the times that their origins gave them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recent<'a> {
    encoded: Encoded<'a>,
    list: Array<'a>,
}

fn recent_row(row: Encoded<'_>) -> Option<(SignedMessageId, u64)> {
    let [id, time] = row.as_array()?.exactly()?;
    Some((SignedMessageId(*id.as_bytes()?), time.as_unsigned()?))
}

impl<'a> Recent<'a> {
    fn read(encoded: Encoded<'a>) -> Option<Self> {
        let list = encoded.as_array().filter(|list| list.count() <= RECENT_MAX)?;
        list.iter().all(|row| recent_row(row).is_some()).then_some(Self { encoded, list })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (SignedMessageId, u64)> + use<'a> {
        self.list.iter().filter_map(recent_row)
    }

    /// Writes a list, for [`SetOption::setting`].
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    ///
    /// # Panics
    /// When there are more than [`RECENT_MAX`]: nobody would read them.
    pub fn write_new(
        out: &mut Writer<'_>,
        list: &[(SignedMessageId, u64)],
    ) -> core::result::Result<(), NoRoom> {
        assert!(list.len() <= RECENT_MAX, "whoever tells chooses some");
        write::whole(out, |out| {
            write::array(out, list.len() as u32)?;
            list.iter().try_for_each(|(id, time)| {
                write::array(out, 2)?;
                write::bin(out, &id.0)?;
                write::unsigned(out, *time)
            })
        })
    }
}

/// The constants of a network and its description. Two nodes that differ in any have nothing to say to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Subnet<'a> {
    /// Replication: k.
    pub replication: u32,
    /// Parallel lookups: α.
    pub parallel: u32,
    /// Bits of an address: τ.
    pub address_bits: u32,
    /// Bits of a public key: β.
    pub key_bits: u32,
    /// Links that a node opens: ℓ.
    pub links: u32,
    /// The transport's name.
    pub transport: &'a str,
    /// The network's description.
    pub description: &'a str,
}

impl<'a> Subnet<'a> {
    fn read(setting: Encoded<'a>) -> Option<Self> {
        let [k, alpha, tau, beta, links, transport, description] = setting.as_array()?.exactly()?;
        let number = |value: Encoded<'_>| value.as_unsigned().and_then(|value| u32::try_from(value).ok());
        Some(Self {
            replication: number(k)?,
            parallel: number(alpha)?,
            address_bits: number(tau)?,
            key_bits: number(beta)?,
            links: number(links)?,
            transport: transport.as_str()?,
            description: description.as_str()?,
        })
    }

    fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::array(out, 7)?;
        for number in [self.replication, self.parallel, self.address_bits, self.key_bits, self.links] {
            write::unsigned(out, u64::from(number))?;
        }
        write::str(out, self.transport)?;
        write::str(out, self.description)
    }
}

impl Setting<'_> {
    /// The option's number.
    #[must_use]
    pub const fn option(&self) -> u64 {
        match self {
            Self::Offered(_) => 0,
            Self::Preferred(_) => 1,
            Self::Subnet(_) => 2,
            Self::Link(_) => 3,
            Self::Recent(_) => 4,
        }
    }

    /// Writes the setting alone, for [`SetOption::setting`].
    ///
    /// # Errors
    /// [`NoRoom`]: nothing was written.
    pub fn write(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::whole(out, |out| match self {
            Self::Offered(method) | Self::Preferred(method) => write::unsigned(out, *method as u64),
            Self::Subnet(subnet) => subnet.write(out),
            Self::Link(is_link) => write::bool(out, *is_link),
            Self::Recent(recent) => write::encoded(out, recent.encoded),
        })
    }
}

impl<'a> SetOption<'a> {
    pub(super) fn from_list([option, setting]: [Encoded<'a>; 2]) -> Result<Self> {
        Ok(Self { option: unsigned(option)?, setting })
    }

    /// What it means; none when this version does not know the option or the setting: answer NACK.
    #[must_use]
    pub fn meaning(&self) -> Option<Setting<'a>> {
        let method = || self.setting.as_unsigned().and_then(|code| Compression::from_code(code).ok());
        match self.option {
            0 => method().map(Setting::Offered),
            1 => method().map(Setting::Preferred),
            2 => Subnet::read(self.setting).map(Setting::Subnet),
            3 => self.setting.as_bool().map(Setting::Link),
            4 => Recent::read(self.setting).map(Setting::Recent),
            _ => None,
        }
    }

    /// The two elements of the list, without its head.
    pub(super) fn write_elements(&self, out: &mut Writer<'_>) -> core::result::Result<(), NoRoom> {
        write::unsigned(out, self.option)?;
        write::encoded(out, self.setting)
    }
}

impl fmt::Display for SetOption<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning() {
            Some(Setting::Offered(method)) => write!(f, "offered {method}"),
            Some(Setting::Preferred(method)) => write!(f, "preferred {method}"),
            Some(Setting::Subnet(_)) => write!(f, "subnet {}", self.setting),
            Some(Setting::Link(is_link)) => write!(f, "link {is_link}"),
            Some(Setting::Recent(_)) => write!(f, "recent {}", self.setting),
            None => write!(f, "unknown {} {}", self.option, self.setting),
        }
    }
}
