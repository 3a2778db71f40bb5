//! How transfers are shown: bars on a terminal, lines elsewhere, JSON for machines.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dunlin::clock::Clock;
use dunlin::files::{News, Transfer, Watch};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::journal::{Journal, Kind};
use crate::output;

/// How often a machine is told how far a file is.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// The longest text in a receiver's answer, in bytes.
const TEXT_LEN_MAX: usize = dunlin_codec::file::TEXT_LEN_MAX;

const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";

/// Shows transfers.
pub(crate) struct Progress {
    form: Form,
    /// What a file that arrived is called: "sent" or "received".
    verb: &'static str,
    clock: Clock,
    files: Mutex<HashMap<u64, Shown>>,
    journal: Mutex<Journal>,
}

enum Form {
    Bars(MultiProgress),
    Lines,
    Json,
}

/// What is remembered of a transfer.
#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    hashing: bool,
    told_ns: u64,
    first_missing: u64,
}

impl Progress {
    pub(crate) fn new(json: bool, verb: &'static str) -> Self {
        let form = if json {
            Form::Json
        } else if std::io::stderr().is_terminal() {
            Form::Bars(MultiProgress::new())
        } else {
            Form::Lines
        };
        Self {
            form,
            verb,
            clock: Clock::start(),
            files: Mutex::default(),
            journal: Mutex::new(Journal::new()),
        }
    }

    /// Writes a line for people, above the bars.
    fn line(&self, text: &str) {
        match &self.form {
            Form::Bars(bars) => bars.suspend(|| output::line(text)),
            Form::Lines => output::line(text),
            Form::Json => {}
        }
    }

    /// Says what failed; a receiver's senders may let transfers fail as fast as they like.
    fn complain(&self, text: &str) {
        let more = self.journal.lock().unwrap_or_else(PoisonError::into_inner).take(Kind::Failed);
        let Some(more) = more else { return };
        match &self.form {
            Form::Bars(bars) => bars.suspend(|| eprintln!("dunlin: {text}{more}")),
            Form::Lines | Form::Json => eprintln!("dunlin: {text}{more}"),
        }
    }

    fn tell(&self, event: &str, transfer: &Transfer, more: Value) {
        if !matches!(self.form, Form::Json) {
            return;
        }
        let mut line = json!({
            "event": event, "file": transfer.number, "name": transfer.name, "bytes": transfer.length,
            "peer": transfer.peer.map(|peer| peer.to_string()),
        });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        output::line(line);
    }

    fn files(&self) -> MutexGuard<'_, HashMap<u64, Shown>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_position(&self, transfer: &Transfer, position: u64, is_hashing: bool) {
        if matches!(self.form, Form::Lines) {
            return;
        }
        let mut files = self.files();
        let shown = files.entry(transfer.number).or_default();
        if let Form::Bars(bars) = &self.form {
            let bar = shown.bar.get_or_insert_with(|| bars.add(bar(transfer)));
            if shown.hashing != is_hashing {
                shown.hashing = is_hashing;
                bar.set_message(if is_hashing {
                    format!("{} (hash)", name_of(transfer))
                } else {
                    name_of(transfer)
                });
                bar.reset_eta();
            }
            bar.set_position(position);
            return;
        }
        let now = self.clock.instant().as_nanos();
        if u128::from(now - shown.told_ns) >= TELL_EVERY.as_nanos() {
            shown.told_ns = now;
            drop(files);
            let event = if is_hashing { "hashing" } else { "progress" };
            self.tell(event, transfer, json!({ "position": position }));
        }
    }

    fn on_started(&self, transfer: &Transfer, first_missing: u64, had: u64) {
        self.files().entry(transfer.number).or_default().first_missing = first_missing;
        let again = had - first_missing;
        self.tell("started", transfer, json!({ "first_missing": first_missing, "bytes_resent": again }));
        if had > 0 {
            let (from, again) = (size(first_missing), size(again));
            self.line(&format!("{}: goes on at {from} ({again} again)", name_of(transfer)));
        }
        self.on_position(transfer, first_missing, false);
    }

    /// Forgets a transfer and takes its bar away; where it had gone on.
    fn close(&self, transfer: &Transfer) -> u64 {
        let shown = self.files().remove(&transfer.number).unwrap_or_default();
        if let Some(bar) = shown.bar {
            bar.finish_and_clear();
        }
        shown.first_missing
    }
}

impl Watch for Progress {
    fn on_news(&self, transfer: &Transfer, news: News) {
        match news {
            News::Hashing { position } => self.on_position(transfer, position, true),
            News::Started { first_missing, had } => self.on_started(transfer, first_missing, had),
            News::Moved { position } => self.on_position(transfer, position, false),
            News::Stored { name, moved, resent, took } => {
                let first_missing = self.close(transfer);
                self.tell(
                    "stored",
                    transfer,
                    json!({
                        "stored_as": name, "bytes_moved": moved, "bytes_resent": resent,
                        "first_missing": first_missing, "seconds": took.as_secs_f64(),
                    }),
                );
                let renamed = is_renamed(&transfer.name, &name);
                let renamed = if renamed { format!(" as {}", name.escape_debug()) } else { String::new() };
                let (verb, file, rate) = (self.verb, name_of(transfer), rate(moved, took));
                self.line(&format!("{verb} {file}{renamed}: {}{rate}", size(transfer.length)));
            }
            News::Skipped => {
                self.close(transfer);
                self.tell("skipped", transfer, json!({}));
                self.line(&format!("{}: was there already, skipped", name_of(transfer)));
            }
            News::Failed { why } => {
                self.close(transfer);
                self.tell("failed", transfer, json!({ "why": why }));
                self.complain(&format!("{}: {why}", name_of(transfer)));
            }
            _ => {}
        }
    }
}

fn bar(transfer: &Transfer) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a good one");
    ProgressBar::new(transfer.length).with_style(style).with_message(name_of(transfer))
}

/// A name that cannot do anything to a terminal.
fn name_of(transfer: &Transfer) -> String {
    transfer.name.escape_debug().to_string()
}

/// Whether the file has another name at the receiver than in its path here. A long name comes back cut.
fn is_renamed(path: &str, stored: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_cut = stored.len() > TEXT_LEN_MAX - 4;
    !(stored == name || is_cut && name.starts_with(stored))
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

fn rate(bytes: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if bytes == 0 || seconds < 0.001 {
        return String::new();
    }
    format!(" in {seconds:.2} s ({:.2} Gbit/s)", bytes as f64 * 8e-9 / seconds)
}
