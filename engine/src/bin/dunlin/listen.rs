//! `dunlin listen`: what other nodes say, as a running node hears it.

use std::process;
use std::time::Duration;

use clap::Args;
use dunlin::control::{Answer, Command, Heard, from_hex};
use dunlin_codec::msgpack::Encoded;
use serde_json::json;

use crate::admin::{AdminFlags, unexpected};
use crate::failure::Failure;
use crate::{Done, output, signals, words};

/// Nobody has to say anything.
const ANY_TIME: Duration = Duration::from_secs(365 * 86_400);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only what is about this; may be given several times
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// End after so many words
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: AdminFlags,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let mut answers = arguments.node.call(&Command::Listen)?;
    // Nothing is half-done: lines go out whole.
    signals::on_stop(|| process::exit(0))?;
    let mut count = 0;
    while arguments.count.is_none_or(|wanted| count < wanted) {
        let answer = answers.next_within(ANY_TIME)?;
        match answer
            .ok_or_else(|| Failure::new("the node has ended, or this listener was too slow for it"))?
        {
            Answer::Listening if arguments.json => output::line(json!({ "event": "listening" })),
            Answer::Listening => eprintln!("listening"),
            Answer::Missed(missed) if arguments.json => {
                output::line(json!({ "event": "missed", "count": missed }));
            }
            Answer::Missed(missed) => eprintln!("{missed} words were missed: more was said than was taken"),
            Answer::Heard(heard) => count += u64::from(show(arguments, &heard)?),
            _ => return Err(unexpected()),
        }
    }
    Ok(())
}

/// Shows what was said, unless it is about something else; whether it was shown.
fn show(arguments: &Arguments, heard: &Heard) -> Result<bool, Failure> {
    let bytes = from_hex(&heard.value).ok_or_else(unexpected)?;
    let value = Encoded::parse(&bytes).map_err(|_| unexpected())?;
    let (topic, said) = match words::split_topic(&value) {
        Some((topic, said)) => (Some(topic), said),
        None => (None, value),
    };
    let is_wanted = |topic: &str| arguments.topics.iter().any(|wanted| wanted == topic);
    if !arguments.topics.is_empty() && !topic.is_some_and(is_wanted) {
        return Ok(false);
    }
    let Heard { from, how, .. } = heard;
    match (arguments.json, topic) {
        (true, _) => output::line(json!({
            "event": "heard", "from": from, "how": how, "topic": topic, "value": words::to_json(&said),
        })),
        // As debug output they hold no control characters, whatever the peer wrote.
        (false, Some(topic)) => output::line(format_args!("{from} {how} {topic:?}: {said}")),
        (false, None) => output::line(format_args!("{from} {how}: {said}")),
    }
    Ok(true)
}
