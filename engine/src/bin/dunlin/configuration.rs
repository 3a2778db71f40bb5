//! `dunlin config`: the defaults with their meaning, and where a file's values come from.

use std::path::PathBuf;

use clap::Subcommand;
use dunlin::Config;
use dunlin::config::{print_defaults, print_sources};

use crate::{Done, output};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Prints every key with its default and what it means, as a file to start from
    Print,
    /// Prints every value and where it came from, or what is wrong
    Check {
        /// The file
        file: PathBuf,
    },
}

pub(crate) fn run(command: &Command) -> Done {
    match command {
        Command::Print => output::text(&print_defaults()),
        Command::Check { file } => {
            let loaded = Config::load(Some(file), std::env::vars(), &[])?;
            output::text(&print_sources(&loaded));
        }
    }
    Ok(())
}
