//! The tables for people, in Markdown.
//!
//! In:    what was planned, measured, and on what.
//! Out:   text.
//! Holds: a figure stands with its spread, a peer with its version and settings, a failure with its reason.

use std::fmt::Write;

use crate::job::Peer;
use crate::machine::{Machine, Others};
use crate::peers;
use crate::rounds::{Plan, Row, Spread, Table};
use crate::works::{Column, Work};

/// A finished run.
pub(crate) struct Report<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) tables: &'a [Table],
    pub(crate) machine: &'a Machine,
    pub(crate) others: Others,
}

impl Report<'_> {
    /// Everybody in the tables, once.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let mut peers: Vec<Peer> = Vec::new();
        for row in self.tables.iter().flat_map(|table| &table.rows) {
            if !peers.contains(&row.line.peer) {
                peers.push(row.line.peer);
            }
        }
        peers
    }

    /// All of it.
    pub(crate) fn markdown(&self) -> String {
        let mut text = self.conditions();
        for table in self.tables {
            text += &write_table(table);
        }
        text += "\n### Who and how\n\n| | version | encryption | settings |\n|---|---|---|---|\n";
        for peer in self.peers() {
            let about = peers::about(peer);
            let (name, version) = (about.name, &about.version);
            text += &format!("| {name} | {version} | {} | {} |\n", about.encryption, about.settings);
        }
        text
    }

    fn conditions(&self) -> String {
        let (machine, plan) = (self.machine, self.plan);
        format!(
            "{}, {} cores, Linux {}, load {} before the run, others kept {:.2} cores busy during it and the \
             host took {:.2}; revision {}, {}. Median (min..max) of {} alternating rounds \
             of {} s; loopback; server on core {}, client on core {}, each a process; Dunlin × = how many times better \
             Dunlin's first line is in the first column.\n",
            machine.processor,
            machine.cores,
            machine.kernel,
            machine.load,
            self.others.cores,
            self.others.stolen,
            machine.revision,
            machine.compiler,
            plan.rounds,
            plan.span.as_secs_f64(),
            plan.cores.server,
            plan.cores.client,
        )
    }
}

fn write_table(table: &Table) -> String {
    let columns = table.work.columns();
    let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
    let mut text = format!("\n### {}\n\n| | {} | Dunlin × |\n", table.work.title(), titles.join(" | "));
    text += &format!("|---|{}---:|\n", "---:|".repeat(columns.len()));
    for row in &table.rows {
        text += &write_row(table, row);
    }
    for row in &table.rows {
        if let Some((count, why)) = row.failure() {
            let _ =
                writeln!(text, "\n{} failed in {count} of {} rounds: {why}", row.line.name, row.rounds.len());
        }
    }
    if matches!(table.work, Work::Memory { .. }) {
        text += "\nOne round: what a connection holds does not change from one to the next.\n";
    }
    text
}

fn write_row(table: &Table, row: &Row) -> String {
    let cells = table.work.columns().iter().enumerate().map(|(at, column)| match row.column(at) {
        Some(spread) if column.is_optional && spread.max == 0.0 => "–".to_owned(),
        Some(spread) => show(column, spread),
        None => "failed".to_owned(),
    });
    let ratio = table.ratio(row).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    format!("| {} | {} | {ratio} |\n", row.line.name, cells.collect::<Vec<_>>().join(" | "))
}

fn show(column: &Column, spread: Spread) -> String {
    let digits = column.digits;
    let Spread { median, min, max } = spread;
    format!("{median:.digits$} ({min:.digits$}..{max:.digits$})")
}
