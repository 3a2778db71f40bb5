//! `dunlin key`: the key that is a node's address.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dunlin::clock::Clock;
use dunlin::entropy::OsEntropy;
use dunlin::keyfile::{KeyFiles, Seed};

use crate::flags::NodeFlags;
use crate::{Done, output};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a key, the one after it (KEY.next) and the record that joins them (KEY.inception)
    New(Which),
    /// Makes KEY.next the key. Start the node again afterwards: it tells the others, and answers for the old key for a day
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
    fn files(&self) -> Result<KeyFiles, crate::Failure> {
        let (state, key, config) = (self.state.clone(), self.key.clone(), self.config.clone());
        let flags = NodeFlags { state, key, config, ..NodeFlags::default() };
        Ok(KeyFiles::at(flags.load()?.key_path()?))
    }
}

pub(crate) fn run(command: &Command) -> Done {
    let draw = || -> Seed { Seed::new(OsEntropy.array()) };
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
        Command::Rotate(Rotate { which, next }) => {
            let files = which.files()?;
            let change = files.rotate(next.as_deref(), &draw(), Clock::start().now().wall)?.change;
            output::line(change.new);
            eprintln!(
                "{} follows {}: (re)start the node within a day, and it tells the others and answers for the old key, kept as \
                 {} until then; keep the new {} on another machine if you can",
                files.path().display(),
                change.current,
                files.old_path().display(),
                files.next_path().display()
            );
        }
        Command::Show(which) => output::line(which.files()?.open()?.id()),
    }
    Ok(())
}
