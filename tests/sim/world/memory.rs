//! What nodes that talk remember of their network over a restart.
//!
//! In:    time; what a node's hub knows; a start.
//! Out:   rows on its disk; the same told to its hub.
//! Holds: as the engine does it (`engine/src/recall.rs`): every other second it is looked at, by the same code as there; a node that was
//!        started is told before it hears anything else.

use dunlin_shards::neighbours::rows::note_of;
use dunlin_shards::session::crypto::Crypto;

use super::{Next, NodeIndex, WorldOf};

/// How often it is looked at, in nanoseconds.
const LOOK_EVERY: u64 = 2_000_000_000;

impl<C: Crypto> WorldOf<C> {
    /// A node begins to talk: it is told what it knew.
    pub(super) fn begin_remembering(&mut self, node: NodeIndex) {
        let owner = &self.nodes[node.0];
        let (start, rows) = (owner.start, owner.disk.network());
        if !rows.is_empty() {
            self.tell(node, note_of(rows));
        }
        self.schedule(self.now + LOOK_EVERY, Next::Look { node, start });
    }

    /// The disk is told what is known by now.
    pub(super) fn on_look(&mut self, node: NodeIndex, start: u32) {
        let owner = &mut self.nodes[node.0];
        if owner.start != start || !owner.is_up() {
            return;
        }
        let at = owner.paused_until.max(self.now + LOOK_EVERY);
        if owner.paused_until <= self.now
            && let Some(hub) = &owner.cores[0].neighbours
        {
            owner.disk.remember(hub.known());
        }
        self.schedule(at, Next::Look { node, start });
    }
}
