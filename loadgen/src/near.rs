//! The measuring side: its node, the far side's process if it is ours, and what they tell each other.
//!
//! Holds: a far process that we started ends with us, as its input ends then.

use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dunlin::{ConnectOptions, DunlinUri, Engine, Host, Peer};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Fault;
use crate::host;
use crate::ledger::{self, Counts, Ledger, Used};
use crate::messages::{BEGIN, BEGIN_ON_CORE, END, END_ON_CORE, message};
use crate::options::{NearOptions, NodeOptions};
use crate::rally::{Course, Rally, Striker};
use crate::recorder::Recorder;

/// How long the far side may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long hubs, and whoever orders them, keep sessions on which nothing happens.
pub(crate) const HUB_IDLE: Duration = Duration::from_secs(3_600);
/// Longer than any shard spins.
const REST: Duration = Duration::from_millis(20);
/// More cores than this are not looked for.
const CORES_MAX: usize = 1_024;

/// Nodes that measure.
pub(crate) struct Near {
    /// Each with an identity, a shard and a source port of its own.
    pub(crate) engines: Vec<Engine>,
    /// The far side's nodes.
    pub(crate) uris: Vec<DunlinUri>,
    pub(crate) rally: Arc<Mutex<Rally>>,
    /// Of each engine.
    pub(crate) courses: Vec<Course>,
    pub(crate) cores: Cores,
    is_lean: bool,
    before: Option<Marks>,
    far: Option<FarProcess>,
}

/// Which cores each side runs on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Cores {
    pub(crate) near: usize,
    pub(crate) far: Vec<usize>,
}

/// How many of each there are.
#[derive(Clone, Debug)]
pub(crate) struct Crew {
    /// Engines of the near side.
    pub(crate) engines: usize,
    /// Nodes of a far side that we start.
    pub(crate) nodes: usize,
    /// Whether the far side's handlers alone answer.
    pub(crate) is_lean: bool,
    /// Whether it keeps sessions and sends to them on command.
    pub(crate) is_hub: bool,
    /// Whether the nodes of both sides are of one network.
    pub(crate) is_networked: bool,
    /// Whether the far side keeps to what a node takes by default.
    pub(crate) is_limited: bool,
    /// Where a far side that we start has a folder for what is to be on disk.
    pub(crate) state: Option<PathBuf>,
}

impl Default for Crew {
    fn default() -> Self {
        Self {
            engines: 1,
            nodes: 1,
            is_lean: false,
            is_hub: false,
            is_networked: false,
            is_limited: false,
            state: None,
        }
    }
}

/// The state of both sides when measuring began.
struct Marks {
    near: Counts,
    far: Counts,
    udp_errors: Vec<(String, u64)>,
}

impl Near {
    /// Starts our nodes, and the far side's process where it is ours.
    pub(crate) fn start(node: &NodeOptions, options: &NearOptions, crew: &Crew) -> Result<Self, Fault> {
        let is_time = Duration::try_from_secs_f64(options.seconds).is_ok_and(|span| !span.is_zero());
        if !is_time {
            return Err(format!("--seconds {} is no time to measure", options.seconds).into());
        }
        let cores = cores(node)?;
        let (far, uris) = if options.uri.is_empty() {
            FarProcess::start(node, crew).map(|(far, uris)| (Some(far), uris))?
        } else {
            let uris = options.uri.iter().map(|uri| target(uri, options.i_own_this_target));
            (None, uris.collect::<Result<_, _>>()?)
        };
        pin_to(&[cores.near])?;
        let rally = Arc::new(Mutex::new(Rally::default()));
        let start = Instant::now();
        let (mut engines, mut courses) = (Vec::new(), Vec::new());
        for _ in 0..crew.engines.max(1) {
            let recorder = Arc::new(Mutex::new(Recorder::default()));
            let striker = Striker { rally: rally.clone(), course: Course { start, recorder } };
            courses.push(striker.course.clone());
            let mut config = node.config(unspecified(&uris), 1);
            config.transport.handshake_deadline = HANDSHAKE;
            config.network.enabled = crew.is_networked;
            if crew.is_hub {
                // Whoever gives orders says nothing while a crowd calls.
                config.transport.idle_timeout = HUB_IDLE;
            }
            engines.push(Engine::builder(config).ephemeral().on_message(move || striker.clone()).start()?);
        }
        Ok(Self { engines, uris, rally, courses, cores, is_lean: crew.is_lean, before: None, far })
    }

    /// A session of the first engine with the first node.
    pub(crate) fn connect(&self) -> Result<Peer, Fault> {
        self.connect_to(&self.engines[0], &self.uris[0])
    }

    /// A session of each engine with the first node.
    pub(crate) fn connect_each_engine(&self) -> Result<Vec<Peer>, Fault> {
        self.engines.iter().map(|engine| self.connect_to(engine, &self.uris[0])).collect()
    }

    /// A session of the first engine with each node.
    pub(crate) fn connect_each_node(&self) -> Result<Vec<Peer>, Fault> {
        self.uris.iter().map(|uri| self.connect_to(&self.engines[0], uri)).collect()
    }

    fn connect_to(&self, engine: &Engine, uri: &DunlinUri) -> Result<Peer, Fault> {
        Ok(engine.connect_with(uri, &ConnectOptions::default())?.peer)
    }

    /// Where the first node is.
    pub(crate) fn remote(&self) -> Result<SocketAddr, Fault> {
        let uri = &self.uris[0];
        match uri.host {
            Host::V4(address) => Ok(SocketAddr::from((address, uri.port))),
            Host::V6(address) => Ok(SocketAddr::from((address, uri.port))),
            Host::Name(_) => Err("the far side's name was not looked up".into()),
        }
    }

    /// The far side's process, if it is ours.
    pub(crate) fn far_process(&self) -> Option<u32> {
        self.far.as_ref().map(|far| far.child.id())
    }

    /// The far side's process was ours and has ended.
    pub(crate) fn has_far_died(&self) -> bool {
        self.far_process().is_some_and(|process| !host::is_alive(process))
    }

    /// What went wrong, and whether the far side has died of it.
    pub(crate) fn explain(&mut self, fault: &Fault) -> String {
        // A process that is killed is seen to have ended a moment later than its socket.
        std::thread::sleep(Duration::from_millis(20));
        match self.far.as_mut().and_then(|far| far.child.try_wait().ok().flatten()) {
            Some(status) => format!("the far side has ended in the middle ({status}): {fault}"),
            None => fault.to_string(),
        }
    }

    /// Gives all shards the pause in which they publish their numbers; while they are busy these are up to 0.1 s old.
    pub(crate) fn rest(&self) {
        std::thread::sleep(REST);
    }

    /// The far side's numbers now.
    pub(crate) fn ledger(&self, peer: &Peer) -> Result<Ledger, Fault> {
        ask(peer, if self.is_lean { END_ON_CORE } else { END })
    }

    /// Counting begins on both sides.
    pub(crate) fn begin(&mut self, peer: &Peer) -> Result<(), Fault> {
        let far = ask(peer, if self.is_lean { BEGIN_ON_CORE } else { BEGIN })?;
        let near = ledger::counts(&self.engines);
        self.before = Some(Marks { near, far: far.counts, udp_errors: host::udp_errors() });
        Ok(())
    }

    /// Everything sent so far has been counted: the far side's ledger, and what was used since `begin`.
    pub(crate) fn end(&mut self, peer: &Peer) -> Result<(Ledger, Used), Fault> {
        let far = self.ledger(peer)?;
        let near = ledger::counts(&self.engines);
        let before = self.before.take().ok_or("nothing was begun")?;
        let used = Used {
            near: near.since(&before.near),
            far: far.counts.since(&before.far),
            udp_errors: ledger::udp_errors_since(&before.udp_errors),
        };
        Ok((far, used))
    }
}

/// Any port of any address of the kind that the far side has.
fn unspecified(uris: &[DunlinUri]) -> SocketAddr {
    match uris.first().map(|uri| &uri.host) {
        Some(Host::V6(_)) => SocketAddr::from(([0_u16; 8], 0)),
        _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    }
}

/// Asks the far application; the answer comes after everything that was sent before.
fn ask(peer: &Peer, kind: u8) -> Result<Ledger, Fault> {
    peer.send(&message(kind, 0))?;
    read_ledger(peer)
}

/// The far side's next answer.
pub(crate) fn read_ledger(peer: &Peer) -> Result<Ledger, Fault> {
    let answer =
        peer.recv_timeout(ANSWER).map_err(|error| format!("the far side does not answer: {error}"))?;
    Ok(serde_json::from_slice(&answer)
        .map_err(|error| format!("the far side is no dunlin-loadgen: {error}"))?)
}

/// The far side as a child, and what it has on disk, which goes with it.
struct FarProcess {
    child: Child,
    _folder: Option<Folder>,
}

/// A folder that goes when this does.
struct Folder(PathBuf);

impl Folder {
    fn make(within: &Path) -> Result<Self, Fault> {
        let path = within.join(format!("dunlin-loadgen-{}", std::process::id()));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl FarProcess {
    fn start(node: &NodeOptions, crew: &Crew) -> Result<(Self, Vec<DunlinUri>), Fault> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.arg("far").args(node.to_arguments()).args(["--nodes", &crew.nodes.to_string()]);
        command.args(crew.is_lean.then_some("--lean")).args(crew.is_hub.then_some("--hub"));
        command.args(crew.is_networked.then_some("--dht")).args(crew.is_limited.then_some("--limited"));
        let folder = crew.state.as_deref().map(Folder::make).transpose()?;
        if let Some(Folder(path)) = &folder {
            command.arg("--state").arg(path);
        }
        // A Ctrl-C on the terminal is for us: the far side still has to tell its numbers.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let child = command.spawn().map_err(|error| format!("cannot start the far side: {error}"))?;
        let mut far = Self { child, _folder: folder };
        let output = far.child.stdout.take().ok_or("the far side has no output")?;
        let mut lines = BufReader::new(output).lines();
        let mut uris = Vec::new();
        for _ in 0..crew.nodes {
            let line = lines.next().transpose()?.unwrap_or_default();
            uris.push(line.trim().parse().map_err(|error| format!("the far side did not start: {error}"))?);
        }
        Ok((far, uris))
    }
}

impl Drop for FarProcess {
    fn drop(&mut self) {
        // Its input ends, and it with it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A target that may be loaded: this machine, a private network, or the caller's word.
fn target(text: &str, is_own: bool) -> Result<DunlinUri, Fault> {
    let mut uri: DunlinUri = text.parse().map_err(|error| format!("{text}: {error}"))?;
    let address = match &uri.host {
        Host::V4(address) => IpAddr::V4(*address),
        Host::V6(address) => IpAddr::V6(*address),
        Host::Name(name) => {
            let mut found =
                (name.as_str(), uri.port).to_socket_addrs().map_err(|error| format!("{name}: {error}"))?;
            found.next().ok_or_else(|| format!("{name} has no address"))?.ip()
        }
    };
    if !is_own && !is_near(address) {
        let fault = format!(
            "{address} is not on this machine or a private network; say --i-own-this-target if it is yours"
        );
        return Err(fault.into());
    }
    // What was looked up is what is dialled.
    uri.host = match address {
        IpAddr::V4(address) => Host::V4(address),
        IpAddr::V6(address) => Host::V6(address),
    };
    Ok(uri)
}

fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// The cores that were asked for, else the first ones that we may run on: one near, the others far, as far as there are any.
pub(crate) fn cores(node: &NodeOptions) -> Result<Cores, Fault> {
    let listed = match node.cores.len() {
        1 => return Err("--cores wants the near side's core and then the far side's".into()),
        0 => {
            let allowed = sched_getaffinity(None)?;
            (0..CORES_MAX).filter(|core| allowed.is_set(*core)).collect()
        }
        _ => node.cores.clone(),
    };
    let near = listed.first().copied().unwrap_or(0);
    let limit = if node.cores.is_empty() { node.shards.max(1) } else { CORES_MAX };
    let mut far: Vec<usize> = listed.into_iter().skip(1).take(limit).collect();
    if far.is_empty() {
        far.push(near);
    }
    Ok(Cores { near, far })
}

/// This thread, and those that it starts from now on, run on these cores only.
pub(crate) fn pin_to(cores: &[usize]) -> Result<(), Fault> {
    let mut set = CpuSet::new();
    for core in cores {
        if *core >= CpuSet::MAX_CPU {
            return Err(format!("there is no core {core}").into());
        }
        set.set(*core);
    }
    Ok(sched_setaffinity(None, &set).map_err(|error| format!("cannot run on cores {cores:?}: {error}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_targets_are_loaded_unasked() {
        for near in ["127.0.0.1:1", "10.1.2.3:1", "192.168.0.9:1", "[::1]:1", "[fd00::1]:1", "localhost:1"] {
            assert!(target(near, false).is_ok(), "{near}");
        }
        for far in ["8.8.8.8:1", "[2001:db8::1]:1", "100.64.0.1:1"] {
            let error = target(far, false).unwrap_err().to_string();
            assert!(error.contains("--i-own-this-target"), "{error}");
            assert!(target(far, true).is_ok(), "{far}");
        }
    }
}
