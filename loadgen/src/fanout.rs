//! One message to many peers: until each of them has answered, and until the last one has.

use crate::Fault;
use crate::near::Near;
use crate::paced::{self, Load};
use crate::report::Report;

pub(crate) fn run(near: &mut Near, load: &Load<'_>, report: &mut Report) -> Result<(), Fault> {
    let peers = near.connect_each_node()?;
    let (mut outcome, result) = paced::run(near, &peers, load)?;
    outcome.add_to(report);
    report.add("peers", peers.len() as f64, "");
    report.add("deliveries", outcome.achieved, "/s");
    if let Some(rounds) = &outcome.rounds {
        report.section("last peer of a round");
        report.add_times("corrected", rounds);
    }
    if let Some(why) = outcome.void.take() {
        report.mark_void(why);
    }
    peers.iter().for_each(|peer| peer.close(0));
    result.and_then(|()| outcome.unanswered())
}
