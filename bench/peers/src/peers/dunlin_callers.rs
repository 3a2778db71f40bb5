//! Many identities that call one node, all on one thread: a node keeps one session with each, so that one engine's calls
//! would replace each other.

use std::net::SocketAddr;
use std::time::Duration;

use dunlin::{DunlinUri, Host};
use dunlin_bench::callers::{Called, Callers, Calls};
use dunlin_codec::suite::Suite;

use crate::Fault;
use crate::gauge::Gauge;

/// Calls under way at a time while idle sessions are opened.
const OPENING: usize = 32;

/// Sessions opened and closed at once, so many at a time.
pub(super) fn shake(uri: &DunlinUri, parallel: usize, gauge: &Gauge) -> Result<(), Fault> {
    let mut callers = gather(uri, None, parallel)?;
    gauge.ready("");
    run(&mut callers, gauge, |callers, at| Ok(callers.call(at)?))
}

/// Sessions that stay, for longer than any run.
pub(super) fn stay(uri: &DunlinUri, connections: usize, idle: Duration, gauge: &Gauge) -> Result<(), Fault> {
    let mut callers = gather(uri, Some(idle), connections.min(OPENING))?;
    gauge.ready("");
    run(&mut callers, gauge, |callers, _| {
        if callers.len() < connections {
            let at = callers.add()?;
            callers.call(at)?;
        }
        Ok(())
    })
}

/// So many callers, each with a call under way.
fn gather(uri: &DunlinUri, stay: Option<Duration>, count: usize) -> Result<Callers, Fault> {
    let Host::V4(address) = uri.host else { return Err("the server is not on IPv4".into()) };
    let remote = SocketAddr::from((address, uri.port));
    let mut callers = Callers::new(Calls { id: uri.id, remote, early: None, suite: Suite::AesGcm, stay })?;
    for _ in 0..count {
        let at = callers.add()?;
        callers.call(at)?;
    }
    Ok(callers)
}

/// For ever; `next` is told of each caller whose call has succeeded.
fn run(
    callers: &mut Callers,
    gauge: &Gauge,
    mut next: impl FnMut(&mut Callers, usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut done = Vec::new();
    loop {
        callers.turn(&mut done)?;
        for (at, called) in done.drain(..) {
            if let Called::Failed(reason) = called {
                return Err(format!("a call failed: {reason}").into());
            }
            gauge.connected();
            next(callers, at)?;
        }
    }
}
