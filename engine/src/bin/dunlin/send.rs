//! `dunlin send`: files to a node that runs `dunlin receive`.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use dunlin::config::Keepalive;
use dunlin::files::{SendFiles, SendFilesError, Sending, Sent};
use dunlin::{Connected, DunlinUri, EarlyData, Engine};
use serde_json::json;

use crate::failure::Failure;
use crate::flags::NodeFlags;
use crate::ping::wrong_uri;
use crate::progress::Progress;
use crate::{Done, output, signals};

/// How long what was said last may take to arrive.
const DRAIN: Duration = Duration::from_secs(2);
/// A receiver that hashes or syncs a large file says nothing for a while.
const KEEPALIVE: Duration = Duration::from_secs(15);

#[derive(Args)]
pub(crate) struct Arguments {
    /// To whom: dunlin://ID@host:port, or host:port for whoever answers there
    uri: String,
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Put the first offers, and their files if they fit, into the first datagram (which has no forward secrecy)
    #[arg(long)]
    zero_rtt: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeFlags,
}

enum Notice {
    Ended(Result<Sent, SendFilesError>),
    Stop,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let uri: DunlinUri = arguments.uri.parse().map_err(|error| wrong_uri(&arguments.uri, &error))?;
    let settings = arguments.node.load()?.for_call();
    let mut config = settings.config().clone();
    if config.transport.keepalive == Keepalive::Auto {
        config.transport.keepalive = Keepalive::Every(KEEPALIVE.min(config.transport.idle_timeout / 2));
    }
    let builder = Engine::builder(config);
    let engine = if settings.has_key() { builder } else { builder.ephemeral() }.start()?;
    let order = SendFiles { uri, files: arguments.files.clone(), zero_rtt: arguments.zero_rtt };
    let sending = Sending::new(&engine, order, Progress::new(arguments.json, "sent"));
    let stopper = sending.stopper();
    let (sender, notices) = mpsc::channel();
    let (stop, json) = (sender.clone(), arguments.json);
    signals::on_stop(move || {
        let _ = stop.send(Notice::Stop);
    })?;
    let work = move || {
        let ended = sending.run(|connected| say_connected(connected, json));
        let _ = sender.send(Notice::Ended(ended));
    };
    let spawned = thread::Builder::new().name("send".to_owned()).spawn(work);
    spawned.map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))?;
    let ended = match notices.recv() {
        Ok(Notice::Ended(ended)) => Some(ended),
        Ok(Notice::Stop) | Err(_) => {
            stopper.stop();
            match notices.recv_timeout(DRAIN) {
                Ok(Notice::Ended(ended)) => Some(ended),
                _ => None,
            }
        }
    };
    engine.shutdown(DRAIN);
    close(ended, arguments.json)
}

fn say_connected(connected: &Connected, json: bool) {
    let peer = &connected.peer;
    let word = match connected.early {
        EarlyData::Accepted => "accepted",
        EarlyData::Refused => "refused",
        EarlyData::None => "none",
    };
    if json {
        output::line(json!({
            "event": "connected", "id": peer.id().to_string(), "remote": peer.remote().to_string(),
            "zero_rtt": word,
        }));
    } else if connected.early != EarlyData::None {
        eprintln!("0-RTT {word}");
    }
}

fn close(ended: Option<Result<Sent, SendFilesError>>, json: bool) -> Done {
    let sent = match ended {
        None => return Err(Failure::new("stopped; give the same command again to go on")),
        Some(Err(SendFilesError::Connect(error))) => return Err(error.into()),
        Some(Err(error)) => return Err(Failure::new(error)),
        Some(Ok(sent)) => sent,
    };
    if json {
        output::line(json!({
            "event": "summary", "stored": sent.stored, "skipped": sent.skipped, "failed": sent.failed,
        }));
    }
    match sent.failed {
        0 => Ok(()),
        1 => Err(Failure::new("1 file was not sent; give the same command again to go on where it stopped")),
        failed => Err(Failure::new(format_args!(
            "{failed} files were not sent; give the same command again to go on where they stopped"
        ))),
    }
}
