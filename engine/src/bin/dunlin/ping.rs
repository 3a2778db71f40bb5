//! `dunlin ping`: round trips between shards, measured with PING frames.
//!
//! The first datagram carries a byte for the peer's discard channel, so that it can be said whether early data is taken.

use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use clap::Args;
use dunlin::clock::Clock;
use dunlin::{Channel, ConnectOptions, Connected, DunlinUri, Early, EarlyData, Engine, Peer, SendOptions};
use serde_json::json;

use crate::failure::Failure;
use crate::flags::NodeFlags;
use crate::{Done, output, signals};

/// An answer that comes later than this counts as lost.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// How long the session's end may take.
const DRAIN: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Whom: dunlin://ID@host:port, or host:port for whoever answers there
    uri: String,
    /// How often; without it until Ctrl-C
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds from one to the next
    #[arg(short = 'i', long, value_name = "SECONDS", default_value_t = 1.0)]
    interval: f64,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeFlags,
}

/// What happens while it runs.
enum Notice {
    Connected(Box<Connected>, Duration),
    Failed(Failure),
    Answer(u64, Duration),
    Lost(u64),
    /// The session ended, or the last one was answered.
    Ended(Option<String>),
    Stop,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let uri: DunlinUri = arguments.uri.parse().map_err(|error| wrong_uri(&arguments.uri, &error))?;
    let interval = Duration::try_from_secs_f64(arguments.interval)
        .map_err(|_| Failure::usage("--interval: give seconds, such as 0.2"))?;
    let settings = arguments.node.load()?.for_call();
    let builder = Engine::builder(settings.config().clone());
    let engine = if settings.has_key() { builder } else { builder.ephemeral() }.start()?;
    let (sender, notices) = mpsc::channel();
    let stop = sender.clone();
    signals::on_stop(move || {
        let _ = stop.send(Notice::Stop);
    })?;
    let caller = Caller { engine: engine.clone(), uri, count: arguments.count, interval, sender };
    let spawned = thread::Builder::new().name("ping".to_owned()).spawn(move || caller.run());
    spawned.map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))?;
    let mut report = Report::new(arguments.json);
    let done = notices.into_iter().try_for_each(|notice| report.on_notice(notice));
    // `into_iter` ends with the first End, which `run` of the caller always brings.
    let done = match done {
        Err(End::Failed(failure)) if !report.is_connected => Err(failure),
        Err(End::Failed(failure)) => report.close().and(Err(failure)),
        _ => report.close(),
    };
    engine.shutdown(DRAIN);
    done
}

pub(crate) fn wrong_uri(text: &str, error: &impl std::fmt::Display) -> Failure {
    Failure::usage(format_args!("{text:?}: {error}"))
}

/// Connects and measures, on a thread of its own, so that a signal is heard at any time.
struct Caller {
    engine: Engine,
    uri: DunlinUri,
    count: Option<u64>,
    interval: Duration,
    sender: Sender<Notice>,
}

impl Caller {
    fn run(self) {
        let clock = Clock::start();
        let probe = SendOptions { channel: Channel::DISCARD, ..SendOptions::default() };
        let early = vec![Early { bytes: vec![0], options: probe }];
        let begun = clock.instant();
        let connected = match self.engine.connect_with(&self.uri, &ConnectOptions { early }) {
            Ok(connected) => connected,
            Err(error) => return self.tell(Notice::Failed(error.into())),
        };
        let took = clock.instant().since(begun);
        let peer = connected.peer.clone();
        self.tell(Notice::Connected(Box::new(connected), took));
        let ended = self.measure(&peer, clock);
        peer.close(0);
        self.tell(Notice::Ended(ended));
    }

    /// Measures until told to end; Some: why the session ended.
    fn measure(&self, peer: &Peer, clock: Clock) -> Option<String> {
        let begun = clock.instant();
        let mut number = 0;
        while self.count.is_none_or(|count| number < count) {
            if number > 0 {
                let due = begun + self.interval.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
                thread::sleep(due.since(clock.instant()));
            }
            number += 1;
            match peer.ping(ANSWER_WAIT) {
                Some(round_trip) => self.tell(Notice::Answer(number, round_trip)),
                None => self.tell(Notice::Lost(number)),
            }
            if let Some(reason) = peer.close_reason() {
                return Some(reason.to_string());
            }
        }
        None
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens any more: the command is ending.
        let _ = self.sender.send(notice);
    }
}

/// Why no more notices are taken.
enum End {
    Done,
    Failed(Failure),
}

/// Says what happens and counts.
struct Report {
    json: bool,
    is_connected: bool,
    lost: u64,
    round_trips: Vec<Duration>,
}

impl Report {
    const fn new(json: bool) -> Self {
        Self { json, is_connected: false, lost: 0, round_trips: Vec::new() }
    }

    fn on_notice(&mut self, notice: Notice) -> Result<(), End> {
        match notice {
            Notice::Connected(connected, took) => self.on_connected(&connected, took),
            Notice::Answer(number, round_trip) => self.on_answer(number, round_trip),
            Notice::Lost(number) => self.on_lost(number),
            Notice::Failed(failure) => return Err(End::Failed(failure)),
            Notice::Ended(Some(reason)) => return Err(End::Failed(Failure::new(reason))),
            Notice::Ended(None) | Notice::Stop => return Err(End::Done),
        }
        Ok(())
    }

    fn on_connected(&mut self, connected: &Connected, took: Duration) {
        self.is_connected = true;
        let (peer, took) = (&connected.peer, milliseconds(took));
        let (word, said) = match connected.early {
            EarlyData::Accepted => ("accepted", "0-RTT accepted"),
            EarlyData::Refused => ("refused", "0-RTT refused: it travelled again after the handshake"),
            EarlyData::None => ("none", "0-RTT not tried: it takes the ID"),
        };
        if self.json {
            output::line(json!({
                "event": "connected", "id": peer.id().to_string(), "remote": peer.remote().to_string(),
                "connect_ms": took, "zero_rtt": word,
            }));
        } else {
            output::line(format_args!("{} at {}", peer.id(), peer.remote()));
            output::line(format_args!("connected in {took:.3} ms, {said}"));
        }
    }

    fn on_answer(&mut self, number: u64, round_trip: Duration) {
        self.round_trips.push(round_trip);
        let took = milliseconds(round_trip);
        if self.json {
            output::line(json!({ "event": "answer", "number": number, "round_trip_ms": took }));
        } else {
            output::line(format_args!("{number}: {took:.3} ms"));
        }
    }

    fn on_lost(&mut self, number: u64) {
        self.lost += 1;
        if self.json {
            output::line(json!({ "event": "lost", "number": number }));
        } else {
            output::line(format_args!("{number}: no answer within {} s", ANSWER_WAIT.as_secs()));
        }
    }

    /// The summary; a failure when nothing was answered although something was asked.
    fn close(mut self) -> Done {
        if !self.is_connected {
            return Err(Failure::new("stopped before the peer had answered"));
        }
        self.round_trips.sort_unstable();
        let (answered, lost) = (self.round_trips.len() as u64, self.lost);
        let times = Times::of(&self.round_trips);
        if self.json {
            output::line(json!({
                "event": "summary", "sent": answered + lost, "answered": answered, "min_ms": times.min,
                "avg_ms": times.average, "p99_ms": times.p99, "max_ms": times.max,
            }));
        } else {
            output::line(format_args!("{} sent, {answered} answered, {lost} lost", answered + lost));
            let Times { min, average, p99, max } = times;
            output::line(format_args!("min/avg/p99/max = {min:.3}/{average:.3}/{p99:.3}/{max:.3} ms"));
        }
        if answered == 0 && lost > 0 { Err(Failure::said()) } else { Ok(()) }
    }
}

/// A summary of round trips in milliseconds.
#[derive(Debug, PartialEq)]
struct Times {
    min: f64,
    average: f64,
    p99: f64,
    max: f64,
}

impl Times {
    /// Of round trips in rising order; all zero when there are none.
    fn of(sorted: &[Duration]) -> Self {
        let at = |index: usize| sorted.get(index).copied().map_or(0.0, milliseconds);
        let count = sorted.len();
        let sum: Duration = sorted.iter().sum();
        let average = if count == 0 { 0.0 } else { milliseconds(sum) / count as f64 };
        // The nearest rank: the smallest of which 99 of 100 are no larger.
        let rank = (count * 99).div_ceil(100);
        Self { min: at(0), average, p99: at(rank.saturating_sub(1)), max: at(count.saturating_sub(1)) }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_summed_up() {
        let times = Times::of(&(1..=200).map(Duration::from_millis).collect::<Vec<_>>());
        assert_eq!(times, Times { min: 1.0, average: 100.5, p99: 198.0, max: 200.0 });
        let one = Times::of(&[Duration::from_millis(3)]);
        assert_eq!(one, Times { min: 3.0, average: 3.0, p99: 3.0, max: 3.0 });
        assert_eq!(Times::of(&[]), Times { min: 0.0, average: 0.0, p99: 0.0, max: 0.0 });
    }
}
