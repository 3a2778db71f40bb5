//! The figures of every round, as `main.rs` describes them.

use serde_json::{Value, json};

use crate::Fault;
use crate::peers;
use crate::report::Report;
use crate::rounds::{Figures, Row, Table};

/// The whole run.
pub(crate) fn write(report: &Report<'_>) -> Result<String, Fault> {
    let plan = report.plan;
    let value = json!({
        "machine": report.machine,
        "others": report.others,
        "settings": {
            "seconds": plan.span.as_secs_f64(),
            "rounds": plan.rounds,
            "server_core": plan.cores.server,
            "client_core": plan.cores.client,
        },
        "peers": report.peers().into_iter().map(peer).collect::<Vec<_>>(),
        "works": report.tables.iter().map(table).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn peer(peer: crate::job::Peer) -> Value {
    let about = peers::about(peer);
    json!({
        "name": about.name,
        "version": about.version,
        "encryption": about.encryption,
        "settings": about.settings,
    })
}

fn table(table: &Table) -> Value {
    let columns = table.work.columns().iter().map(
        |column| json!({ "key": column.key, "title": column.title, "is_more_better": column.is_more_better }),
    );
    json!({
        "work": table.work.key(),
        "title": table.work.title(),
        "columns": columns.collect::<Vec<_>>(),
        "lines": table.rows.iter().map(|row| line(table, row)).collect::<Vec<_>>(),
    })
}

fn line(table: &Table, row: &Row) -> Value {
    let count = table.work.columns().len();
    let median: Option<Vec<f64>> = (0..count).map(|at| Some(row.column(at)?.median)).collect();
    json!({
        "name": row.line.name,
        "peer": row.line.peer,
        "way": row.line.way,
        "rounds": row.rounds.iter().map(round).collect::<Vec<_>>(),
        "median": median,
        "ratio": table.ratio(row),
    })
}

fn round(figures: &Figures) -> Value {
    match figures {
        Ok(figures) => json!({ "figures": figures }),
        Err(why) => json!({ "failed": why }),
    }
}
