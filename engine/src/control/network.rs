//! What is asked of the network through the admin socket.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use dunlin_codec::ids::{Address, NodeId};

use super::protocol::{Answer, NodeLine, Words, from_hex, to_hex};
use super::{LISTENERS_MAX, Shared, line};
use crate::network::{Network, NetworkError, Node};

/// What a node outside of any network answers.
pub(super) fn network(shared: &Shared) -> Result<Network, String> {
    shared.engine.network().ok_or_else(|| {
        "this node is in no network; start it with `dunlin node`, or with network.enabled = true".to_owned()
    })
}

pub(super) fn speak(shared: &Shared, words: &Words) -> Result<Answer, String> {
    say(shared, words, |network, peer, value| network.speak(peer, value))
}

pub(super) fn whisper(shared: &Shared, words: &Words) -> Result<Answer, String> {
    say(shared, words, |network, peer, value| network.whisper(peer, value).map(drop))
}

fn say(
    shared: &Shared,
    words: &Words,
    how: impl FnOnce(&Network, NodeId, &[u8]) -> Result<(), NetworkError>,
) -> Result<Answer, String> {
    let network = network(shared)?;
    let value = from_hex(&words.value).ok_or("what is to be said is not in hexadecimal digits")?;
    let told = |error: NetworkError| format!("{}: {error}", words.peer);
    let peer = match words.peer.parse::<NodeId>() {
        Ok(peer) => peer,
        Err(_) => network.join(&words.peer).map_err(told)?,
    };
    how(&network, peer, &value).map_err(told)?;
    Ok(Answer::Taken { peer: peer.to_string() })
}

pub(super) fn shout(shared: &Shared, value: &str) -> Result<Answer, String> {
    let network = network(shared)?;
    let value = from_hex(value).ok_or("what is to be said is not in hexadecimal digits")?;
    let said = network.shout(&value).map_err(|error| error.to_string())?;
    Ok(Answer::Said { id: to_hex(&said.id.0), links: said.links })
}

pub(super) fn find(shared: &Shared, node: &str) -> Result<Answer, String> {
    let node: NodeId = node.parse().map_err(|error| format!("{node:?} is no ID: {error}"))?;
    let nodes = network(shared)?.find(Address(node.0)).map_err(|error| error.to_string())?;
    Ok(Answer::Nodes(nodes.iter().map(line_of).collect()))
}

pub(super) fn table(shared: &Shared) -> Result<Answer, String> {
    Ok(Answer::Nodes(network(shared)?.table().iter().map(line_of).collect()))
}

fn line_of(node: &Node) -> NodeLine {
    NodeLine { id: node.id.to_string(), endpoints: node.endpoints.iter().map(ToString::to_string).collect() }
}

/// Tells the caller what others say until it goes, or the node ends.
pub(super) fn listen(shared: &Shared, stream: &mut UnixStream) {
    if let Err(why) = network(shared) {
        return drop(line::write(stream, &Answer::Refused(why)));
    }
    let Some(seat) = shared.audience.enter(LISTENERS_MAX) else {
        let why = format!("{LISTENERS_MAX} listeners are there already: end one of them");
        return drop(line::write(stream, &Answer::Refused(why)));
    };
    let mut is_there = line::write(stream, &Answer::Listening).is_ok();
    while is_there && let Some(answers) = seat.wait() {
        is_there = answers.iter().all(|answer| line::write(stream, answer).is_ok()) && !is_gone(stream);
    }
    // One that is too slow is told so by the end.
    let _ = stream.shutdown(Shutdown::Both);
}

/// Whether the caller has closed its end: it says nothing else.
pub(super) fn is_gone(stream: &UnixStream) -> bool {
    let mut byte = [0];
    let peeked =
        rustix::net::recv(stream, &mut byte, rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT);
    match peeked {
        Ok((_, count)) => count == 0,
        Err(error) => std::io::Error::from(error).kind() != ErrorKind::WouldBlock,
    }
}
