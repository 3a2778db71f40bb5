//! `dunlin node`: runs until it is told to end.

use std::net::IpAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;
use dunlin::control::{About, Control};
use dunlin::{Channel, Engine, Event, Handler, Host, Reply, Verdict, addresses};

use crate::failure::Failure;
use crate::flags::{NodeFlags, Settings};
use crate::journal::{Journal, Kind};
use crate::{Done, output, signals};

/// How long a node that ends waits for acknowledgements.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    node: NodeFlags,
    /// A node of the network to begin with: dunlin://ID@host:port; may be given several times
    #[arg(long = "seed", value_name = "URI")]
    seeds: Vec<String>,
    /// With a throw-away key, and leaving nothing behind
    #[arg(long, conflicts_with = "key")]
    ephemeral: bool,
}

/// Takes messages and does nothing with them: nobody would read them.
struct Ignore;

impl Handler for Ignore {
    fn on_message(&mut self, _: Channel, _: &[u8], _: &mut Reply<'_>) -> Verdict {
        Verdict::Handled
    }
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let settings = arguments.node.load_with_seeds(&arguments.seeds)?.for_node().in_network();
    let is_ephemeral = arguments.ephemeral;
    let engine = settings.start(|config| {
        let builder = Engine::builder(config);
        let builder = if is_ephemeral { builder.ephemeral() } else { builder };
        builder.on_message(|| Ignore).start()
    })?;
    let control = open_control(&settings, &engine)?;
    let (sender, stopped) = mpsc::channel();
    signals::on_stop(move || {
        let _ = sender.send(());
    })?;
    log_start(&engine);
    for uri in uris(&engine) {
        output::line(uri);
    }
    let events = watch(engine.clone())?;
    // The sender is gone only after it has sent.
    let _ = stopped.recv();
    drop(control);
    let drained = engine.shutdown(DRAIN);
    // Its panic was printed; it has nothing to do with the node's end.
    let _ = events.join();
    tracing::info!("ended{}", if drained { "" } else { ": some peers had not acknowledged everything" });
    Ok(())
}

/// The socket through which commands reach this node, unless it is to have none. What others say is for those who listen there.
fn open_control(settings: &Settings, engine: &Engine) -> Result<Option<Control>, Failure> {
    let control = if settings.config().admin.enabled {
        let about = About { uris: uris(engine), network: settings.config().node.network.clone() };
        Some(Control::start(engine.clone(), about, &settings.socket_path()?)?)
    } else {
        None
    };
    if let Some(network) = engine.network() {
        // Nobody else asks for events here: they would wait in memory. A question is refused by being dropped.
        network.on_event(|_| None).map_err(Failure::new)?;
    }
    Ok(control)
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

/// Logs what happens to sessions, until the engine stops.
fn watch(engine: Engine) -> Result<JoinHandle<()>, Failure> {
    let log = move || {
        let mut journal = Journal::new();
        loop {
            let event = engine.next_event();
            let kind = match event {
                Event::Accepted(_) => Kind::Opened,
                Event::Closed { .. } => Kind::Closed,
                Event::Stopped => break,
                _ => Kind::Other,
            };
            let Some(more) = journal.take(kind) else { continue };
            match event {
                Event::Accepted(peer) => {
                    tracing::debug!("{} opened a session from {}{more}", peer.id(), peer.remote())
                }
                Event::Closed { peer, reason } => tracing::debug!("{} is gone: {reason}{more}", peer.id()),
                other => tracing::debug!("{other:?}{more}"),
            }
        }
        for (kind, count) in journal.rest() {
            tracing::debug!("{kind:?}: {count} more lines were left out");
        }
    };
    let spawned = thread::Builder::new().name("events".to_owned()).spawn(log);
    spawned.map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))
}
