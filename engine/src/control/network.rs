//! What is asked of the network through the admin socket.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use dunlin_codec::ids::{Address, NodeId};

use super::protocol::{Answer, NodeLine, Words, from_hex, to_hex};
use super::{LISTENERS_MAX, Shared, line};
use crate::network::{LinkSource, Network, NetworkError, Node};

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
    let network = network(shared)?;
    let nodes = network.find(Address(node.0)).map_err(|error| error.to_string())?;
    Ok(Answer::Nodes(lines_of(&network, &nodes)))
}

pub(super) fn table(shared: &Shared) -> Result<Answer, String> {
    let network = network(shared)?;
    Ok(Answer::Nodes(lines_of(&network, &network.table())))
}

fn lines_of(network: &Network, nodes: &[Node]) -> Vec<NodeLine> {
    let links = network.linked();
    let link = |node: &Node| links.iter().find(|(peer, _)| *peer == node.id).map(|(_, source)| name(*source));
    let line = |node: &Node| NodeLine {
        id: node.id.to_string(),
        endpoints: node.endpoints.iter().map(ToString::to_string).collect(),
        link: link(node).map(str::to_owned),
    };
    nodes.iter().map(line).collect()
}

/// How a node came to one to which it opened a link.
const fn name(source: LinkSource) -> &'static str {
    match source {
        LinkSource::Anchor => "anchor",
        LinkSource::Roll => "roll",
        LinkSource::Table => "table",
    }
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
