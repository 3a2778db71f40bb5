//! One client: its request, and the answers to it.

use std::io;
use std::os::unix::net::UnixStream;

use super::line::Lines;
use super::protocol::{Answer, Command, open};
use super::{LINE_WAIT, REQUEST_LEN_MAX, Shared, line, network, status, values};

/// Serves it until it is done with or gone.
pub(super) fn serve(shared: &Shared, stream: UnixStream) {
    let mut lines = Lines::new(stream);
    let answer = match lines.next_within(REQUEST_LEN_MAX, LINE_WAIT) {
        // It went away, or was cut off: there is nobody to tell.
        Ok(None) => return,
        Ok(Some(line)) => match open(&line) {
            Ok(Command::Listen) => return network::listen(shared, lines.stream()),
            Ok(Command::Lock(wanted)) => return values::lock(shared, &mut lines, &wanted),
            Ok(command) => obey(shared, command).unwrap_or_else(Answer::Refused),
            Err(why) => Answer::Refused(format!(
                "the node does not understand this command ({why}); use the node's own release of dunlin"
            )),
        },
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Answer::Refused(format!("the command is too long: it has {error}"))
        }
        Err(_) => Answer::Refused(format!("the command did not come within {} s", LINE_WAIT.as_secs())),
    };
    // Whoever does not take its answer does without.
    let _ = line::write(lines.stream(), &answer);
}

/// The answer, or why there is none.
fn obey(shared: &Shared, command: Command) -> Result<Answer, String> {
    match command {
        Command::Status => Ok(Answer::Status(Box::new(status::of(shared)))),
        Command::Speak(words) => network::speak(shared, &words),
        Command::Whisper(words) => network::whisper(shared, &words),
        Command::Shout { value } => network::shout(shared, &value),
        Command::Find { node } => network::find(shared, &node),
        Command::Table => network::table(shared),
        Command::Put(wanted) => values::put(shared, &wanted),
        Command::Get(wanted) => values::get(shared, &wanted),
        Command::Change(wanted) => values::change(shared, &wanted),
        Command::TakeKey => status::take_key(shared),
        Command::GiveBack => Err("only who holds a lock gives it back".to_owned()),
        Command::Listen | Command::Lock(_) => Err("this has answers of its own".to_owned()),
    }
}
