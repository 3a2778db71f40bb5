//! `dunlin key`: the key that is a node's address.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use dunlin::clock::Clock;
use dunlin::control::{Answer, Command as Asked, ControlError, call};
use dunlin::entropy::OsEntropy;
use dunlin::keyfile::{KeyFiles, RotateError, Seed};

use crate::admin::{ENDED, SOON};
use crate::failure::Failure;
use crate::flags::{NodeFlags, Settings};
use crate::{Done, output};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a key, the one after it (KEY.next) and the record that joins them (KEY.inception)
    New(Which),
    /// Makes KEY.next the key. A node that runs goes on under it, else the next start does: it tells the others, and answers for
    /// the old key for a day
    Rotate(Rotate),
    /// Prints the ID of a key
    Show(Which),
}

#[derive(Args)]
pub(crate) struct Which {
    /// The file with the secret key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The folder with the node's key
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The configuration, which names the key when --key does not
    #[arg(long, value_name = "FILE", env = "DUNLIN_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    which: Which,
    /// The file with the next key, when it is not KEY.next
    #[arg(long, value_name = "FILE")]
    next: Option<PathBuf>,
}

impl Which {
    fn settings(&self) -> Result<Settings, Failure> {
        let (state, key, config) = (self.state.clone(), self.key.clone(), self.config.clone());
        NodeFlags { state, key, config, ..NodeFlags::default() }.load()
    }

    fn files(&self) -> Result<KeyFiles, Failure> {
        Ok(KeyFiles::at(self.settings()?.key_path()?))
    }
}

fn draw() -> Seed {
    Seed::new(OsEntropy.array())
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::New(which) => {
            let files = which.files()?;
            let identity = files.create(draw(), draw())?;
            output::line(identity.id());
            eprintln!(
                "made {}; keep {} on another machine if you can: it is what a later change of key needs",
                files.path().display(),
                files.next_path().display()
            );
        }
        Command::Rotate(arguments) => return rotate(arguments),
        Command::Show(which) => output::line(which.files()?.open()?.id()),
    }
    Ok(())
}

/// Changes the key on disk, whole or not at all, and then tells the node that runs with it, if there is one.
fn rotate(Rotate { which, next }: &Rotate) -> Done {
    let settings = which.settings()?;
    let (files, socket) = (KeyFiles::at(settings.key_path()?), settings.socket_path()?);
    let rotated = files.rotate(next.as_deref(), &draw(), Clock::start().now().wall);
    if let Err(RotateError::TooSoon) = &rotated
        && let Ok(Some((old, id))) = tell_node(&socket)
        && files.open()?.id().to_string() == id
        && let Some(old) = old
    {
        // Whoever changed it did not come to tell the node.
        output::line(&id);
        eprintln!(
            "{} had been changed already: the node goes on as {id}, and was {old} until now",
            files.path().display()
        );
        return Ok(());
    }
    let change = rotated?.change;
    output::line(change.new);
    let told = tell_node(&socket).map_err(|failure| {
        Failure::new(format_args!(
            "{} follows {}, but the node that runs was not told ({failure}): start it again within a day",
            files.path().display(),
            change.current
        ))
    })?;
    let what = match told {
        Some((_, id)) if id == change.new.to_string() => {
            "the node goes on under it, tells the others and answers"
        }
        Some(_) => {
            "the node that runs there has another key and was left alone. A node with this one tells the others and answers"
        }
        None => "start the node within a day, and it tells the others and answers",
    };
    eprintln!(
        "{} follows {}: {what} for the old key, kept as {} until the day is over; keep the new {} on another machine if you can",
        files.path().display(),
        change.current,
        files.old_path().display(),
        files.next_path().display()
    );
    Ok(())
}

/// The ID that a running node had, if it has another now, and the one that it has; none: there is no node.
fn tell_node(socket: &Path) -> Result<Option<(Option<String>, String)>, String> {
    let mut answers = match call(socket, &Asked::TakeKey) {
        Err(ControlError::NoNode(_)) => return Ok(None),
        answers => answers.map_err(|error| error.to_string())?,
    };
    match answers.next_within(SOON).map_err(|error| error.to_string())? {
        Some(Answer::KeyTaken { id, old }) => Ok(Some((old, id))),
        Some(_) => Err("it answered something else than it was asked".to_owned()),
        None => Err(ENDED.to_owned()),
    }
}
