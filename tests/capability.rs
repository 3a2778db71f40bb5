//! What the machine can do, and the one way for a test to say that it could not run.
//!
//! In:    nothing but the machine.
//! Out:   whether a capability is there; the lines `SKIPPED name: test: why` and, from the test below, `CAPABILITY name yes`.
//! Holds: a probe asks the machine, never the engine, so that an engine that wrongly gives up is found out:
//!        `.ci/run` fails when a capability that is there was skipped.

use std::fmt;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something a test needs that not every machine has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Capability {
    /// The kernel lets us make an io_uring.
    IoUring,
    /// The loopback interface has an IPv6 address.
    Ipv6,
    /// The kernel cuts one UDP send into many datagrams.
    Gso,
    /// We may make network namespaces and configure what is in them.
    Netns,
    /// We may make mount namespaces and mount a small disk in one.
    Mount,
    /// We are root, and may start processes of other users.
    Root,
    /// The published test vectors lie beside the repository.
    Vectors,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::IoUring, Self::Ipv6, Self::Gso, Self::Netns, Self::Mount, Self::Root, Self::Vectors];

    /// Asks the machine. The error says what it answered, for people.
    ///
    /// # Errors
    ///
    /// When the capability is not there.
    pub fn probe(self) -> Result<(), String> {
        match self {
            Self::IoUring => io_uring::IoUring::new(8).map(drop).map_err(|error| error.to_string()),
            Self::Ipv6 => UdpSocket::bind("[::1]:0").map(drop).map_err(|error| error.to_string()),
            Self::Gso => probe_gso(),
            Self::Netns => probe_unshare(&["--net", "ip", "link", "set", "lo", "up"]),
            Self::Mount => probe_unshare(&["--mount", "mount", "-t", "tmpfs", "none", "/tmp"]),
            Self::Root => match rustix::process::geteuid().is_root() {
                true => Ok(()),
                false => Err("this user is not root".to_owned()),
            },
            Self::Vectors => probe_vectors(),
        }
    }

    /// Whether a test has to do without; prints the SKIPPED line then, with the test's name.
    #[must_use]
    pub fn is_missing(self, test: &str) -> bool {
        match self.probe() {
            Ok(()) => false,
            Err(why) => {
                self.skip(test, &why);
                true
            }
        }
    }

    /// Prints the line that `.ci/run` collects: this test did not run, and why.
    pub fn skip(self, test: &str, why: &str) {
        println!("SKIPPED {self}: {test}: {why}");
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Ipv6 => "ipv6",
            Self::Gso => "gso",
            Self::Netns => "netns",
            Self::Mount => "mount",
            Self::Root => "root",
            Self::Vectors => "vectors",
        })
    }
}

/// Where the published test vectors lie: the folder `shared/vectors` beside the repository.
#[must_use]
pub fn vectors_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors")
}

fn probe_gso() -> Result<(), String> {
    let segments = || {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        Ok::<_, std::io::Error>(quinn_udp::UdpSocketState::new((&socket).into())?.max_gso_segments())
    };
    match segments() {
        Ok(1) => Err("the kernel refuses UDP_SEGMENT".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn probe_unshare(arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new("unshare").args(arguments).output().map_err(|error| format!("unshare: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn probe_vectors() -> Result<(), String> {
    let entries =
        std::fs::read_dir(vectors_folder()).map_err(|error| format!("../shared/vectors: {error}"))?;
    match entries.count() {
        0 => Err("../shared/vectors is empty".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `.ci/run` reads these lines.
    #[test]
    fn the_machine_is_asked() {
        for capability in Capability::ALL {
            match capability.probe() {
                Ok(()) => println!("CAPABILITY {capability} yes"),
                Err(why) => println!("CAPABILITY {capability} no: {}", why.replace('\n', " ")),
            }
        }
    }
}
