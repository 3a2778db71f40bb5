//! `dunlin shout`: words to everybody, through a running node.

use dunlin::control::{Answer, Command};
use serde_json::json;

use crate::admin::unexpected;
use crate::failure::Failure;
use crate::say::{PATIENCE, Saying};
use crate::{Done, output};

/// Ends with 1 when there is nobody to hear it.
pub(crate) fn run(saying: &Saying) -> Done {
    let shout = Command::Shout { value: saying.value()? };
    let Answer::Said { id, links } = saying.node.ask(&shout, PATIENCE)? else {
        return Err(unexpected());
    };
    if saying.json {
        output::line(json!({ "event": "said", "id": id, "links": links }));
    }
    if links == 0 {
        return Err(Failure::new(
            "nobody has heard it: the node has no link to another yet; try again when `dunlin dht table` lists nodes",
        ));
    }
    Ok(())
}
