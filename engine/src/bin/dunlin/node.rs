//! `dunlin node`: runs until it is told to end.

use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use dunlin::{Channel, Engine, Event, Handler, Host, Reply, Verdict};

use crate::failure::Failure;
use crate::flags::NodeFlags;
use crate::{Done, addresses, output, signals};

/// How long a node that ends waits for acknowledgements.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: NodeFlags,
}

/// Takes messages and does nothing with them: nobody would read them.
struct Ignore;

impl Handler for Ignore {
    fn on_message(&mut self, _: Channel, _: &[u8], _: &mut Reply<'_>) -> Verdict {
        Verdict::Handled
    }
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let settings = arguments.node.load()?.for_node();
    let engine = Engine::builder(settings.config().clone()).on_message(|| Ignore).start()?;
    let (sender, stopped) = mpsc::channel();
    signals::on_stop(move || {
        let _ = sender.send(());
    })?;
    log_start(&engine);
    for uri in uris(&engine) {
        output::line(uri);
    }
    watch(engine.clone())?;
    // The sender is gone only after it has sent.
    let _ = stopped.recv();
    let drained = engine.shutdown(DRAIN);
    tracing::info!("ended{}", if drained { "" } else { ": some peers had not acknowledged everything" });
    Ok(())
}

/// Logs how the node runs.
pub(crate) fn log_start(engine: &Engine) {
    tracing::info!("listening on {}, steered by {}", engine.local_addr(), steering(engine));
}

/// The node's URI for each address under which it is reached.
pub(crate) fn uris(engine: &Engine) -> Vec<String> {
    let host = |address| match address {
        IpAddr::V4(address) => Host::V4(address),
        IpAddr::V6(address) => Host::V6(address),
    };
    let addresses = addresses::reachable(engine.local_addr());
    addresses.into_iter().map(|address| engine.uri(host(address)).to_string()).collect()
}

fn steering(engine: &Engine) -> String {
    use dunlin::socket::group::Steering;
    match engine.steering() {
        Steering::OneSocket => "nobody: there is one shard".to_owned(),
        Steering::Program => "our own program in the kernel".to_owned(),
        Steering::Kernel(why) => format!("the kernel's own hash: {why}"),
    }
}

/// Logs what happens to sessions.
fn watch(engine: Engine) -> Result<(), Failure> {
    let log = move || {
        loop {
            match engine.next_event() {
                Event::Accepted(peer) => {
                    tracing::debug!("{} opened a session from {}", peer.id(), peer.remote())
                }
                Event::Closed { peer, reason } => tracing::debug!("{} is gone: {reason}", peer.id()),
                Event::Stopped => return,
                other => tracing::debug!("{other:?}"),
            }
        }
    };
    let spawned = thread::Builder::new().name("events".to_owned()).spawn(log);
    spawned.map(drop).map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))
}
