//! Every key, once: its name, its type, its default and what it means.
//!
//! The macro makes of this list the structs that code uses and the table that files, variables, flags and
//! `dunlin config print` are read from.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use dunlin_codec::transmission::Compression;
use dunlin_codec::uri::DunlinUri;
use toml::de::DeValue;

use super::setting::Setting;
use super::values::{
    Backend, ByteSize, Congestion, Keepalive, LogLevel, Percent, Prefix, Share, Spin, StatePath, StorePlace,
    SuiteChoice,
};

/// A section of the file.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) doc: &'static [&'static str],
    pub(super) fields: &'static [Field],
}

/// A key of a section.
pub(super) struct Field {
    /// `section.key`.
    pub(super) key: &'static str,
    pub(super) doc: &'static [&'static str],
    /// What its value looks like, as in "give …".
    pub(super) wants: &'static str,
    /// The value as TOML.
    pub(super) show: fn(&Config) -> String,
    /// Takes a value in; false when it is not of that form, and nothing was changed then.
    pub(super) set_text: fn(&mut Config, &str) -> bool,
    pub(super) set_toml: fn(&mut Config, &DeValue<'_>) -> bool,
}

impl Field {
    /// The key without its section.
    pub(super) fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("DUNLIN_{}", self.key.replace('.', "_").to_uppercase())
    }
}

/// Every key of every section.
pub(super) fn fields() -> impl Iterator<Item = &'static Field> {
    SECTIONS.iter().flat_map(|section| section.fields)
}

fn put<T>(place: &mut T, value: Option<T>) -> bool {
    value.is_some_and(|value| {
        *place = value;
        true
    })
}

macro_rules! sections {
    ($($(#[doc = $about:literal])+ $section:ident: $Section:ident {
        $($(#[doc = $doc:literal])+ $key:ident: $Type:ty = $default:expr;)+
    })+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, Eq, PartialEq)]
            pub struct $Section {
                $($(#[doc = $doc])+ pub $key: $Type,)+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $($key: $default,)+ }
                }
            }
        )+

        /// Everything that can be told to a node. [`Config::check`] says whether the values are in range.
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        pub struct Config {
            $($(#[doc = $about])+ pub $section: $Section,)+
        }

        pub(super) const SECTIONS: &[Section] = &[$(Section {
            name: stringify!($section),
            doc: &[$($about),+],
            fields: &[$(Field {
                key: concat!(stringify!($section), ".", stringify!($key)),
                doc: &[$($doc),+],
                wants: <$Type as Setting>::WANTS,
                show: |config| config.$section.$key.show(),
                set_text: |config, text| put(&mut config.$section.$key, Setting::parse(text)),
                set_toml: |config, value| put(&mut config.$section.$key, Setting::from_toml(value)),
            }),+],
        }),+];
    };
}

sections! {
    /// Who this node is and where it listens.
    node: Node {
        /// Where datagrams come in. `[::]` takes IPv4 as well; port 0 is any.
        listen: SocketAddr = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7117));
        /// The file with the node's secret key; made on first start. `~/` is the home folder, `$STATE/` is
        /// `$XDG_STATE_HOME/dunlin` when that is set, else /var/lib/dunlin for root and ~/.local/state/dunlin for others.
        key: StatePath = StatePath::from("$STATE/key");
        /// The network's name. Nodes of different networks do not understand each other.
        network: String = "dunlin".to_owned();
        /// Cores to use, one shard on each; 0 is all that the process may run on.
        cores: usize = 0;
        /// Whether there may be more shards than cores. They are slower then.
        allow_more_shards: bool = false;
    }

    /// The nodes that find each other, speak, and keep values together. All of a network have the same k, alpha, tau, links and
    /// description.
    network: Network {
        /// Whether this node is one of them; `dunlin node` is, unless this says otherwise.
        enabled: bool = false;
        /// Nodes to call while none is known, such as "dunlin://ID@host:7117".
        seeds: Vec<DunlinUri> = Vec::new();
        /// Where others are told to call this node, four addresses at most; none: found out from this machine's addresses.
        advertise: Vec<SocketAddr> = Vec::new();
        /// What the network says of itself.
        description: String = String::new();
        /// How other nodes should compress what they tell this one, where that pays. Unless it is none, this one reads all methods.
        /// For those that read any it compresses in any case.
        compression: Compression = Compression::None;
        /// Nodes of a bucket, and holders of a value: 1 to 16.
        k: usize = 16;
        /// Questions of a lookup at once on each path: 1 to k.
        alpha: usize = 3;
        /// Bits of an address that count: a multiple of 8, at most 256.
        tau: usize = 256;
        /// Links over which what is for everybody goes, that a node opens.
        links: usize = 8;
        /// Questions of one node that are answered in a second.
        requests_max: usize = 20_000;
        /// Words to everybody that are carried on in a second for whoever said them; ten times as many at once.
        rumours_origin_max: usize = 1;
        /// Words to everybody that are verified in a second for each link; as many at once.
        rumours_link_max: usize = 500;
    }

    /// How datagrams reach the kernel.
    io: Io {
        /// The back end: io_uring, recvmmsg/sendmmsg, or whichever of them works here.
        backend: Backend = Backend::Auto;
        /// How a core waits: spin for up to 50 us while datagrams come close together, sleep at once, or never sleep.
        spin: Spin = Spin::Adaptive;
        /// Whether the kernel may cut one send into many datagrams.
        gso: bool = true;
        /// Whether the kernel may join datagrams that came in one behind the other.
        gro: bool = true;
        /// Whether the kernel is given a program that brings each datagram to its shard. Without it shards pass them on.
        steering: bool = true;
        /// The longest datagram ever sent, in bytes of UDP payload. A path's own limit is found out.
        datagram_max: ByteSize = ByteSize(1452);
        /// Whether each shard stays on its core.
        pin: bool = true;
    }

    /// Sessions between nodes.
    transport: Transport {
        /// The cipher of sessions that we open: AES-256-GCM, ChaCha20-Poly1305, or AES where the CPU has it.
        suite: SuiteChoice = SuiteChoice::Auto;
        /// How the sending rate follows the path: CUBIC, which slows down for every loss, or BBR, which bears losses of up to 2 %.
        congestion: Congestion = Congestion::Cubic;
        /// The longest message taken from the application and from peers.
        message_max: ByteSize = ByteSize(1 << 20);
        /// A session in which nothing is heard for so long is over.
        idle_timeout: Duration = Duration::from_secs(120);
        /// How often a quiet session is kept alive: `auto` is 20 s, only behind NAT or when the application asks.
        keepalive: Keepalive = Keepalive::Auto;
        /// How long a peer may take to answer before `connect` gives up.
        handshake_deadline: Duration = Duration::from_secs(30);
        /// What a session's received messages may take up until the application fetches them.
        receive_buffer_max: ByteSize = ByteSize(16 << 20);
        /// What a session's messages may take up until they are acknowledged.
        send_buffer_max: ByteSize = ByteSize(16 << 20);
        /// Whether messages that ride in a caller's first datagram are taken. Refused, they cost a round trip more.
        zero_rtt_accept: bool = true;
    }

    /// Bounds that protect the node.
    limits: Limits {
        /// The share of a core that handshakes may take while the node is under load.
        handshake_cpu_max: Percent = Percent(25);
        /// The share of each core for verifying words to everybody, 0% to 100%.
        rumour_cpu_max: Percent = Percent(25);
        /// Bytes of values that are kept for one writer; each of several shards has its share of that.
        values_writer_max: ByteSize = ByteSize(1 << 20);
        /// Values that are kept for one writer.
        values_writer_count_max: usize = 1_000;
        /// Bytes of values that are kept for all of one public /24 or /48; each of several shards has its share of that.
        values_prefix_max: ByteSize = ByteSize(4 << 20);
        /// Bytes of values that one shard keeps.
        values_shard_max: ByteSize = ByteSize(64 << 20);
        /// Networks whose handshakes are never rationed, such as "10.0.0.0/8". Loopback always is one of them.
        trusted: Vec<Prefix> = Vec::new();
        /// Sessions of one shard at most.
        sessions_max: usize = 65_536;
        /// Memory of one shard for messages at most.
        shard_memory_max: ByteSize = ByteSize(256 << 20);
        /// Memory of all shards for messages at most, as a size or as a share of the machine's.
        memory_max: Share = Share::Percent(25);
    }

    /// The node's key and who else has it.
    identity: Identity {
        /// Whether several devices run with this key. Early data of first contacts costs a round trip more then.
        shared: bool = false;
    }

    /// What survives the end of a node that is in a network.
    store: Store {
        /// Whether it is on disk, or in memory and gone with the node.
        place: StorePlace = StorePlace::Disk;
        /// The store's file. One node at a time can have it.
        path: StatePath = StatePath::from("$STATE/store");
    }

    /// The socket through which commands reach a running node.
    admin: Admin {
        /// Whether `dunlin node` opens it.
        enabled: bool = true;
        /// Where it is. Only this user and root can use it.
        socket: StatePath = StatePath::from("$STATE/socket");
    }

    /// What the node tells about itself.
    log: Log {
        /// How much is told.
        level: LogLevel = LogLevel::Info;
    }
}
