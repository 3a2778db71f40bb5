//! Bulk and small messages one way, and nothing at all: what the far application took, by its own clock.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dunlin::{Peer, RecvError};

use crate::Fault;
use crate::interrupt;
use crate::ledger::{Ledger, Used};
use crate::live::{Live, Scene, Watch};
use crate::messages::{HEAD_LEN, LOAD, TICK, Tally, message, set_number, sum};
use crate::near::{Near, read_ledger};
use crate::report::Report;

/// Load that is sent before counting begins, so that the window has grown.
const WARM_UP: Duration = Duration::from_secs(1);
/// Messages between two looks at the clock.
const BURST: u64 = 16;
/// How often the far side is asked what it has so far.
const TICK_EVERY: Duration = Duration::from_millis(100);

/// What is sent, and how long.
pub(crate) struct Flood {
    pub(crate) section: String,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) span: Duration,
    pub(crate) is_quiet: bool,
}

pub(crate) fn run(near: &mut Near, flood: &Flood, report: &mut Report) -> Result<(), Fault> {
    let size = flood.size;
    if size < HEAD_LEN {
        return Err(format!("--size {size} is too small: a message has at least {HEAD_LEN} bytes").into());
    }
    let peer = near.connect()?;
    let mut stream = Stream::new(&peer, size);
    stream.flood(WARM_UP.min(flood.span), &Live::default())?;
    stream.settle()?;
    near.begin(&peer)?;
    stream.tally = Tally::default();
    stream.known = Ledger::default();
    let scene = Scene {
        section: flood.section.clone(),
        span: flood.span,
        is_quiet: flood.is_quiet,
        far: near.far_process(),
        peers: vec![peer.clone()],
        ..Scene::default()
    };
    let watch = Watch::start(scene);
    let result = stream.flood(flood.span, &watch.live());
    let result = result.and_then(|()| stream.settle()).and_then(|()| near.end(&peer));
    report.timeline.extend(watch.stop());
    peer.close(0);
    report.section(&flood.section);
    match result {
        Ok((far, _)) if far.tally != stream.tally => {
            let fault = format!("what arrived is not what was sent: {:?} of {:?}", far.tally, stream.tally);
            add(report, flood, &far, None);
            Err(fault.into())
        }
        Ok((far, used)) => {
            add(report, flood, &far, Some(&used));
            Ok(())
        }
        Err(fault) => {
            // What the far side told last is known to have arrived.
            if stream.known.tally.messages > 0 {
                add(report, flood, &stream.known, None);
            }
            Err(fault)
        }
    }
}

fn add(report: &mut Report, flood: &Flood, far: &Ledger, used: Option<&Used>) {
    let seconds = far.elapsed_ns as f64 * 1e-9;
    report.add("message_size", flood.size as f64, "bytes");
    report.add("goodput", far.tally.bytes as f64 * 8e-9 / seconds, "Gbit/s");
    report.add("messages", far.tally.messages as f64 * 1e-6 / seconds, "M/s");
    report.add("measured", seconds, "s");
    if let Some(used) = used {
        report.add_used(used, seconds);
    }
}

/// Load on its way to one peer.
struct Stream<'a> {
    peer: &'a Peer,
    load: Vec<u8>,
    /// The sum of each message's body.
    body: u64,
    tally: Tally,
    /// What the far side told last.
    known: Ledger,
    /// Ticks that were not answered yet.
    unanswered: u32,
}

impl<'a> Stream<'a> {
    fn new(peer: &'a Peer, size: usize) -> Self {
        let load = message(LOAD, size);
        let body = sum(&load[HEAD_LEN..]);
        Self { peer, load, body, tally: Tally::default(), known: Ledger::default(), unanswered: 0 }
    }

    /// Sends load for so long.
    fn flood(&mut self, wanted: Duration, live: &Live) -> Result<(), Fault> {
        let start = Instant::now();
        let mut ticked = start;
        while start.elapsed() < wanted && !interrupt::is_asked() {
            for _ in 0..BURST {
                set_number(&mut self.load, self.tally.messages);
                self.tally.add_known(&self.load, self.body);
                self.peer.send(&self.load)?;
            }
            if ticked.elapsed() >= TICK_EVERY {
                ticked = Instant::now();
                self.peer.send(&message(TICK, 0))?;
                self.unanswered += 1;
                self.read_ticks()?;
                live.sent.store(self.tally.messages, Ordering::Relaxed);
                live.arrived.store(self.known.tally.messages, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Answers that are there already.
    fn read_ticks(&mut self) -> Result<(), Fault> {
        loop {
            match self.peer.try_recv() {
                Ok(Some(answer)) => {
                    self.known = serde_json::from_slice(&answer)?;
                    self.unanswered = self.unanswered.saturating_sub(1);
                }
                Ok(None) | Err(RecvError::Timeout) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the ticks' answers, so that the next answer is another question's.
    fn settle(&mut self) -> Result<(), Fault> {
        while self.unanswered > 0 {
            self.known = read_ledger(self.peer)?;
            self.unanswered -= 1;
        }
        Ok(())
    }
}

/// One session on which nothing happens.
pub(crate) fn idle(near: &mut Near, wanted: Duration, report: &mut Report) -> Result<(), Fault> {
    let peer = near.connect()?;
    near.begin(&peer)?;
    std::thread::sleep(wanted);
    let (far, used) = near.end(&peer)?;
    peer.close(0);
    let seconds = far.elapsed_ns as f64 * 1e-9;
    let percent = |cpu_ns: u64| cpu_ns as f64 * 1e-7 / seconds;
    report.section("idle");
    report.add("cpu_near", percent(used.near.cpu_ns), "%");
    report.add("cpu_far", percent(used.far.cpu_ns), "%");
    report.add_used(&used, seconds);
    Ok(())
}
