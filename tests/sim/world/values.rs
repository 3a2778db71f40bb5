//! Values in a world: disks that write, and what stories wish of holders.
//!
//! In:    what shards want written; wishes.
//! Out:   what is on disk by then; the disk's word.
//! Holds: writes of a node are done one after the other, each in its time.

use dunlin_shards::dht::values::{DecideWish, GetWish, PutWish};
use dunlin_shards::event::Ticket;
use dunlin_shards::neighbours::Notice;
use dunlin_shards::note::Note;
use dunlin_shards::session::crypto::Crypto;

use super::{Next, NodeIndex, WorldOf};

/// What a write takes at most, in nanoseconds.
const WRITE_NANOS_MAX: u64 = 3_000_000;

impl<C: Crypto> WorldOf<C> {
    /// Takes what a shard's neighbours told: its writes go to the disk, the rest waits for the story.
    pub(super) fn take_notices(&mut self, node: NodeIndex, shard: u8) {
        let owner = &mut self.nodes[node.0];
        let Some(core) = owner.cores.get_mut(usize::from(shard)) else { return };
        let Some(neighbours) = &mut core.neighbours else { return };
        let mut writes = Vec::new();
        while let Some(notice) = neighbours.poll_notice() {
            match notice {
                Notice::Write { ticket, rows } => writes.push((ticket, rows)),
                Notice::KeyChain { first, row } => {
                    owner.disk.remember_chain(first, row.clone());
                    core.notices.push_back(Notice::KeyChain { first, row });
                }
                notice => core.notices.push_back(notice),
            }
        }
        let start = owner.start;
        for write in writes {
            let takes = 1 + self.chance.below(WRITE_NANOS_MAX);
            let disk = &mut self.nodes[node.0].disk;
            disk.push(shard, write);
            disk.free_at = disk.free_at.max(self.now) + takes;
            let at = disk.free_at;
            self.schedule(at, Next::Disk { node, start });
        }
    }

    /// A write is done.
    pub(super) fn on_disk(&mut self, node: NodeIndex, start: u32) {
        let owner = &mut self.nodes[node.0];
        if owner.start != start || !owner.is_up() {
            return;
        }
        if owner.paused_until > self.now {
            let at = owner.paused_until;
            return self.schedule(at, Next::Disk { node, start });
        }
        let now = owner.clock.read(self.now);
        let Some((write, is_durable)) = owner.disk.write_one() else { return };
        let core = &mut owner.cores[usize::from(write.shard)];
        if let Some(neighbours) = &mut core.neighbours {
            neighbours.handle_note(now, Note::Written { ticket: write.ticket, is_durable });
            self.post_for_neighbours(node, write.shard);
            self.touch(node, write.shard);
        }
    }

    /// Has a node put a value.
    pub fn put(&mut self, node: NodeIndex, ticket: u64, wish: PutWish) {
        self.tell(node, Note::Put { ticket: Ticket(ticket), wish: Box::new(wish) });
    }

    /// Has a node read a value.
    pub fn get(&mut self, node: NodeIndex, ticket: u64, wish: GetWish) {
        self.tell(node, Note::Get { ticket: Ticket(ticket), wish: Box::new(wish) });
    }

    /// Has a node decide.
    pub fn decide(&mut self, node: NodeIndex, ticket: u64, wish: DecideWish) {
        self.tell(node, Note::Decide { ticket: Ticket(ticket), wish: Box::new(wish) });
    }
}
