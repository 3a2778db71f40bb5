//! The values that have a type of their own.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use dunlin_codec::transmission::Compression;
use toml::de::DeValue;

use super::setting::{Setting, digits, quoted};

macro_rules! words {
    ($(#[doc = $about:literal])+ $Name:ident, $wants:literal: $($(#[doc = $doc:literal])+ $Word:ident = $word:literal,)+) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $Name {
            $($(#[doc = $doc])+ $Word,)+
        }

        impl Setting for $Name {
            const WANTS: &'static str = $wants;

            fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$Word),)+
                    _ => None,
                }
            }

            fn show(&self) -> String {
                match self {
                    $(Self::$Word => concat!("\"", $word, "\"").to_owned(),)+
                }
            }
        }
    };
}

words! {
    /// Which system calls carry datagrams.
    Backend, "one of \"auto\", \"uring\", \"mmsg\"":
    /// io_uring where it works, else recvmmsg and sendmmsg.
    Auto = "auto",
    /// A ring per core.
    Uring = "uring",
    /// recvmmsg and sendmmsg.
    Mmsg = "mmsg",
}

words! {
    /// How a core waits for the next datagram.
    Spin, "one of \"adaptive\", \"off\", \"busy\"":
    /// Spins for up to 50 us while datagrams come closer together than that, else sleeps.
    Adaptive = "adaptive",
    /// Sleeps at once: least power, a round trip takes some 15 us longer.
    Off = "off",
    /// Never sleeps: shortest round trip, takes the whole core.
    Busy = "busy",
}

words! {
    /// The cipher of sessions that this node opens. It answers to both.
    SuiteChoice, "one of \"auto\", \"aes\", \"chacha\"":
    /// AES where the CPU has instructions for it, else ChaCha20.
    Auto = "auto",
    /// AES-256-GCM.
    Aes = "aes",
    /// ChaCha20-Poly1305.
    Chacha = "chacha",
}

words! {
    /// How the sending rate follows what the path carries.
    Congestion, "one of \"cubic\", \"bbr\"":
    /// CUBIC with HyStart++: slows down for every loss.
    Cubic = "cubic",
    /// BBR version 3: follows the measured rate, and slows down for losses of more than 2 %.
    Bbr = "bbr",
}

impl Setting for Compression {
    const WANTS: &'static str = "one of \"none\", \"bz2\", \"gzip\", \"lzma\", \"zlib\", \"snappy\"";

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == text)
    }

    fn show(&self) -> String {
        quoted(self.name())
    }
}

words! {
    /// Where the store is.
    StorePlace, "one of \"disk\", \"memory\"":
    /// In its file.
    Disk = "disk",
    /// Nowhere else than in this process.
    Memory = "memory",
}

words! {
    /// How much is told.
    LogLevel, "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"":
    /// What stops something from working.
    Error = "error",
    /// What somebody should look at.
    Warn = "warn",
    /// What happens seldom.
    Info = "info",
    /// What happens to sessions.
    Debug = "debug",
    /// What happens to packets.
    Trace = "trace",
}

/// A number of bytes: `16MiB`, `64KiB`, `1GB`, or a plain number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The same, as lengths are counted; the largest length where it does not fit.
    #[must_use]
    pub fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl Setting for ByteSize {
    const WANTS: &'static str = "a size such as \"16MiB\", \"64KiB\" or 1452";

    fn parse(text: &str) -> Option<Self> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = unit.trim_start();
        let factor = if unit.is_empty() { 1 } else { SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1 };
        Some(Self(number.parse::<u64>().ok()?.checked_mul(factor)?))
    }

    fn show(&self) -> String {
        let is_whole = |unit: &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(unit.1);
        match SIZE_UNITS[..3].iter().find(is_whole) {
            Some((name, factor)) => format!("\"{}{name}\"", self.0 / factor),
            None => self.0.to_string(),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::parse(digits(value).or_else(|| value.as_str())?)
    }
}

/// A share in hundredths, 0 to 100.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Percent(pub u8);

impl Setting for Percent {
    const WANTS: &'static str = "a share such as \"25%\"";

    fn parse(text: &str) -> Option<Self> {
        text.strip_suffix('%')?.trim_end().parse().ok().filter(|share| *share <= 100).map(Self)
    }

    fn show(&self) -> String {
        format!("\"{}%\"", self.0)
    }
}

/// An amount of memory: a size, or hundredths of what the machine has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the machine's memory, 0 to 100.
    Percent(u8),
}

impl Share {
    /// The amount in bytes on a machine with `total` bytes.
    #[must_use]
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(share) => total / 100 * u64::from(share),
        }
    }
}

impl Setting for Share {
    const WANTS: &'static str = "a size such as \"4GiB\" or a share such as \"25%\"";

    fn parse(text: &str) -> Option<Self> {
        match text.ends_with('%') {
            true => Percent::parse(text).map(|share| Self::Percent(share.0)),
            false => ByteSize::parse(text).map(|size| Self::Bytes(size.0)),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Bytes(bytes) => ByteSize(*bytes).show(),
            Self::Percent(share) => Percent(*share).show(),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::parse(digits(value).or_else(|| value.as_str())?)
    }
}

/// How often a quiet session is kept alive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keepalive {
    /// Behind NAT or when the application asks, as often as the path needs.
    Auto,
    /// Never.
    Off,
    /// Always, after so long a silence.
    Every(Duration),
}

impl Setting for Keepalive {
    const WANTS: &'static str = "\"auto\", \"off\" or a duration such as \"20s\"";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "off" => Some(Self::Off),
            _ => Duration::parse(text).map(Self::Every),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => quoted("auto"),
            Self::Off => quoted("off"),
            Self::Every(duration) => duration.show(),
        }
    }
}

/// A network: the first `len` bits of an address. IPv4 addresses that IPv6 carries count as IPv4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

impl Prefix {
    /// Its address, and how many leading bits of it count.
    #[must_use]
    pub const fn parts(&self) -> (IpAddr, u8) {
        (self.address, self.len)
    }

    /// Whether the address lies in this network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, true),
            IpAddr::V6(address) => (address.to_bits(), false),
        };
        let ((own, own_kind), (other, other_kind)) = (bits(self.address), bits(address));
        let differing = (own ^ other).leading_zeros();
        own_kind == other_kind && differing >= u32::from(self.len)
    }
}

impl Setting for Prefix {
    const WANTS: &'static str = "a list of networks such as [\"10.0.0.0/8\", \"fd00::/8\"]";

    fn parse(text: &str) -> Option<Self> {
        let (address, len) = text.split_once('/')?;
        let (address, len): (IpAddr, u8) = (address.parse().ok()?, len.parse().ok()?);
        let len_max = if address.is_ipv4() { Ipv6Addr::BITS - 96 } else { Ipv6Addr::BITS };
        (u32::from(len) <= len_max).then_some(Self { address, len })
    }

    fn show(&self) -> String {
        quoted(&format!("{}/{}", self.address, self.len))
    }
}

/// A path that may begin with `~/` or `$STATE/`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatePath(PathBuf);

impl From<PathBuf> for StatePath {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl From<&str> for StatePath {
    fn from(path: &str) -> Self {
        Self(PathBuf::from(path))
    }
}

impl StatePath {
    /// The path itself, for this process's user. None when it needs a home folder and there is none.
    #[must_use]
    pub fn resolve(&self) -> Option<PathBuf> {
        self.resolve_for(|name| std::env::var_os(name), rustix::process::geteuid().is_root())
    }

    fn resolve_for(&self, variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
        let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Ok(rest) = self.0.strip_prefix("~") {
            return Some(set("HOME")?.join(rest));
        }
        let Ok(rest) = self.0.strip_prefix("$STATE") else { return Some(self.0.clone()) };
        if let Some(state) = set("XDG_STATE_HOME") {
            return Some(state.join("dunlin").join(rest));
        }
        if is_root {
            return Some(PathBuf::from("/var/lib/dunlin").join(rest));
        }
        Some(set("HOME")?.join(".local/state/dunlin").join(rest))
    }
}

impl Setting for StatePath {
    const WANTS: &'static str = "a path such as \"/var/lib/dunlin/key\" or \"~/dunlin/key\"";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }

    fn show(&self) -> String {
        quoted(&self.0.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(ByteSize::parse("16MiB"), Some(ByteSize(16 << 20)));
        assert_eq!(ByteSize::parse("10 kB"), Some(ByteSize(10_000)));
        assert_eq!(ByteSize::parse("1452"), Some(ByteSize(1452)));
        for wrong in ["", "MiB", "-1", "1.5MiB", "1mib", "99999999999999GiB"] {
            assert_eq!(ByteSize::parse(wrong), None, "{wrong}");
        }
        for size in [0, 1, 1452, 1 << 10, 256 << 20, 3 << 30, u64::MAX] {
            let shown = ByteSize(size).show();
            assert_eq!(ByteSize::parse(shown.trim_matches('"')), Some(ByteSize(size)), "{shown}");
        }
        assert_eq!(Share::parse("25%").map(|share| share.of(8_000)), Some(2_000));
        assert_eq!(Share::parse("4KiB").map(|share| share.of(8_000)), Some(4_096));
        assert_eq!(Share::parse("101%"), None);
    }

    #[test]
    fn a_method_is_wanted_by_its_name() {
        let names = Compression::ALL.map(|method| quoted(method.name()));
        assert_eq!(Compression::WANTS, format!("one of {}", names.join(", ")));
        assert_eq!(
            Compression::ALL.map(|method| Compression::parse(method.name())),
            Compression::ALL.map(Some)
        );
        assert_eq!(Compression::parse("Gzip"), None);
    }

    #[test]
    fn a_prefix_contains_its_addresses() {
        let contains = |prefix: &str, address: &str| {
            Prefix::parse(prefix).is_some_and(|prefix| prefix.contains(address.parse().unwrap()))
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3") && !contains("10.0.0.0/8", "a00::1"));
        assert!(contains("192.0.2.7/32", "192.0.2.7") && !contains("192.0.2.7/32", "192.0.2.6"));
        assert!(contains("fd00::/8", "fdff::1") && !contains("fd00::/8", "fe00::1"));
        assert!(contains("0.0.0.0/0", "8.8.8.8") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert_eq!(Prefix::parse("10.0.0.0/33"), None);
        assert_eq!(Prefix::parse("10.0.0.0"), None);
    }

    #[test]
    fn the_state_folder_depends_on_who_asks() {
        let path = |text: &str, variables: &'static [(&str, &str)], is_root| {
            let variable =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| OsString::from(*v));
            StatePath::from(text)
                .resolve_for(variable, is_root)
                .map(|path| path.to_string_lossy().into_owned())
        };
        let home = &[("HOME", "/home/a"), ("XDG_STATE_HOME", "")];
        let state = &[("HOME", "/home/a"), ("XDG_STATE_HOME", "/state")];
        assert_eq!(path("$STATE/key", home, false).as_deref(), Some("/home/a/.local/state/dunlin/key"));
        assert_eq!(path("$STATE/key", home, true).as_deref(), Some("/var/lib/dunlin/key"));
        assert_eq!(path("$STATE/key", state, true).as_deref(), Some("/state/dunlin/key"));
        assert_eq!(path("~/key", home, true).as_deref(), Some("/home/a/key"));
        assert_eq!(path("/etc/key", &[], false).as_deref(), Some("/etc/key"));
        assert_eq!(path("$STATE/key", &[], false), None);
    }
}
