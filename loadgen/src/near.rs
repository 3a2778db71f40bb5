//! The measuring side: its node, the far side's process if it is ours, and what they tell each other.
//!
//! Holds: a far process that we started ends with us, as its input ends then.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunlin::{DunlinUri, Engine, Host, Peer};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Fault;
use crate::ledger::{self, Counts, Ledger};
use crate::messages::{BEGIN, END, message};
use crate::options::{NearOptions, NodeOptions};
use crate::rally::{Rally, Striker};

/// How long the far side may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// More cores than this are not looked for.
const CORES_MAX: usize = 1_024;

/// A node that measures.
pub(crate) struct Near {
    pub(crate) engine: Engine,
    pub(crate) uri: DunlinUri,
    pub(crate) rally: Arc<Mutex<Rally>>,
    /// Near core, far core.
    pub(crate) cores: [usize; 2],
    before: Option<Marks>,
    _far: Option<FarProcess>,
}

/// The state of both sides when measuring began.
struct Marks {
    near: Counts,
    far: Counts,
    receive_buffer_errors: u64,
}

/// What both sides used and counted while measuring.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) near: Counts,
    pub(crate) far: Counts,
    pub(crate) receive_buffer_errors: u64,
}

impl Near {
    /// Starts our node, and the far side's process where it is ours.
    pub(crate) fn start(node: &NodeOptions, options: &NearOptions) -> Result<Self, Fault> {
        let cores = cores(node)?;
        let (far, uri) = match &options.uri {
            Some(uri) => (None, target(uri, options.i_own_this_target)?),
            None => FarProcess::start(node).map(|(far, uri)| (Some(far), uri))?,
        };
        pin_to(cores[0])?;
        let unspecified = match uri.host {
            Host::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
            _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        };
        let rally = Arc::new(Mutex::new(Rally::default()));
        let striker = rally.clone();
        let builder = Engine::builder(node.config(unspecified)).ephemeral();
        let engine = builder.on_message(move || Striker(striker.clone())).start()?;
        Ok(Self { engine, uri, rally, cores, before: None, _far: far })
    }

    pub(crate) fn connect(&self) -> Result<Peer, Fault> {
        Ok(self.engine.connect_with(&self.uri, &dunlin::ConnectOptions::default())?.peer)
    }

    /// Counting begins on both sides.
    pub(crate) fn begin(&mut self, peer: &Peer) -> Result<(), Fault> {
        let far = ask(peer, BEGIN)?;
        let near = ledger::counts(&self.engine);
        let receive_buffer_errors = ledger::receive_buffer_errors();
        self.before = Some(Marks { near, far: far.counts, receive_buffer_errors });
        Ok(())
    }

    /// Everything sent so far has been counted: the far side's ledger, and what was used since `begin`.
    pub(crate) fn end(&mut self, peer: &Peer) -> Result<(Ledger, Used), Fault> {
        let far = ask(peer, END)?;
        let near = ledger::counts(&self.engine);
        let before = self.before.take().ok_or("nothing was begun")?;
        let used = Used {
            near: near.since(&before.near),
            far: far.counts.since(&before.far),
            receive_buffer_errors: ledger::receive_buffer_errors() - before.receive_buffer_errors,
        };
        Ok((far, used))
    }
}

/// Asks the far application; the answer comes after everything that was sent before.
fn ask(peer: &Peer, kind: u8) -> Result<Ledger, Fault> {
    peer.send(&message(kind, 0))?;
    let answer =
        peer.recv_timeout(ANSWER).map_err(|error| format!("the far side does not answer: {error}"))?;
    Ok(serde_json::from_slice(&answer)
        .map_err(|error| format!("the far side is no dunlin-loadgen: {error}"))?)
}

/// The far side as a child.
struct FarProcess(Child);

impl FarProcess {
    fn start(node: &NodeOptions) -> Result<(Self, DunlinUri), Fault> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.arg("far").args(node.to_arguments()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut far = Self(command.spawn().map_err(|error| format!("cannot start the far side: {error}"))?);
        let mut line = String::new();
        if let Some(output) = far.0.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let uri = line.trim().parse().map_err(|error| format!("the far side did not start: {error}"))?;
        Ok((far, uri))
    }
}

impl Drop for FarProcess {
    fn drop(&mut self) {
        // Its input ends, and it with it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
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

/// The near core and the far core: those asked for, else the first two that we may run on.
pub(crate) fn cores(node: &NodeOptions) -> Result<[usize; 2], Fault> {
    if let [near, far] = node.cores[..] {
        return Ok([near, far]);
    }
    if !node.cores.is_empty() {
        return Err("--cores wants two: the near side's and the far side's".into());
    }
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CORES_MAX).filter(|core| allowed.is_set(*core));
    let near = cores.next().unwrap_or(0);
    Ok([near, cores.next().unwrap_or(near)])
}

/// This thread, and those that it starts from now on, run on that core only.
pub(crate) fn pin_to(core: usize) -> Result<(), Fault> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set).map_err(|error| format!("cannot run on core {core}: {error}"))?)
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
