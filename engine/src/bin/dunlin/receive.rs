//! `dunlin receive`: a node that takes files into a folder.

use std::path::PathBuf;

use clap::Args;
use dunlin::Engine;
use dunlin::files::{ReceiveOptions, Receiving};
use serde_json::json;

use crate::failure::Failure;
use crate::flags::NodeFlags;
use crate::node::{self, DRAIN};
use crate::progress::Progress;
use crate::{Done, output, signals};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where files go; made when it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// End when the first sender is done
    #[arg(long)]
    once: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeFlags,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let settings = arguments.node.load()?.for_node();
    let engine = settings.start(Engine::start)?;
    let options = ReceiveOptions { folder: arguments.dir.clone(), once: arguments.once };
    let progress = Progress::new(arguments.json, "received");
    let receiving = Receiving::new(&engine, options, progress).map_err(Failure::new)?;
    let stopper = receiving.stopper();
    signals::on_stop(move || stopper.stop())?;
    node::log_start(&engine);
    let uris = node::uris(&engine);
    if arguments.json {
        output::line(json!({ "event": "listening", "uris": uris }));
    } else {
        uris.iter().for_each(output::line);
    }
    let ended = receiving.run();
    // The last words of transfers travel before the end.
    engine.shutdown(DRAIN);
    let received = ended.map_err(Failure::new)?;
    if arguments.json {
        output::line(json!({
            "event": "summary", "stored": received.stored, "skipped": received.skipped, "failed": received.failed,
        }));
    }
    if arguments.once && received.failed > 0 { Err(Failure::said()) } else { Ok(()) }
}
