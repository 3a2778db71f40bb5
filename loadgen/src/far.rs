//! The far side: takes load and checks it, echoes, and tells its numbers.
//!
//! In:    sessions, one at a time.
//! Out:   a ledger for each `BEGIN` and `END`; echoes.
//! Holds: it ends when its input does, so that none is left behind.

use std::io::{Read, Write};
use std::time::Instant;

use dunlin::{Channel, Engine, Event, Handler, Host, Peer, Reply, SendError, Verdict};

use crate::Fault;
use crate::ledger::Ledger;
use crate::messages::{BEGIN, ECHO, ECHO_ON_CORE, END, LOAD, NOTHING, Tally};
use crate::near::{cores, pin_to};
use crate::options::{FarOptions, NodeOptions};

pub(crate) fn run(node: &NodeOptions, options: &FarOptions) -> Result<(), Fault> {
    let [_, core] = cores(node)?;
    pin_to(core)?;
    let builder = Engine::builder(node.config(options.listen)).ephemeral();
    let engine = builder.on_message(|| Wall).start()?;
    let host = match options.listen {
        std::net::SocketAddr::V4(address) => Host::V4(*address.ip()),
        std::net::SocketAddr::V6(address) => Host::V6(*address.ip()),
    };
    let mut output = std::io::stdout();
    writeln!(output, "{}", engine.uri(host))?;
    output.flush()?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        if let Event::Accepted(peer) = engine.next_event()
            && let Err(error) = serve(&engine, &peer)
        {
            eprintln!("dunlin-loadgen far: {error}");
        }
    }
}

/// Until the session ends.
fn serve(engine: &Engine, peer: &Peer) -> Result<(), SendError> {
    let mut tally = Tally::default();
    let mut began = Instant::now();
    while let Ok(message) = peer.recv() {
        match message.first().copied().unwrap_or(NOTHING) {
            LOAD => tally.add(&message),
            ECHO => peer.send(&message)?,
            kind @ (BEGIN | END) => {
                if kind == BEGIN {
                    tally = Tally::default();
                    began = Instant::now();
                }
                let ledger = Ledger::now(engine, tally, began.elapsed());
                peer.send(&serde_json::to_vec(&ledger).expect("numbers can always be written"))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Answers on the core.
struct Wall;

impl Handler for Wall {
    fn on_message(&mut self, _channel: Channel, bytes: &[u8], reply: &mut Reply<'_>) -> Verdict {
        match bytes.first().copied() {
            Some(ECHO_ON_CORE) => {
                let _ = reply.send(bytes);
                Verdict::Handled
            }
            Some(NOTHING) => Verdict::Handled,
            _ => Verdict::Pass,
        }
    }
}
