//! What peers may send to a holder of values, and what it may find on its disk.

use std::collections::BTreeMap;

use dunlin_codec::ids::NodeId;
use dunlin_codec::label::Network;
use dunlin_shards::dht::space::Space;
use dunlin_shards::dht::values::{Action, Asker, DiskRow, Finding, Holder, Quotas, ReadRow, Setup, read_row};
use dunlin_shards::time::{Instant, Now, WallMillis};

fn now(seconds: u64) -> Now {
    let wall = WallMillis(1_700_000_000_000 + 1_000 * seconds);
    Now { instant: Instant::from_nanos(1_000_000_000 * seconds), wall }
}

fn holder() -> Holder {
    let setup = Setup {
        own: NodeId([1; 32]),
        network: Network([7; 32]),
        space: Space::new(256),
        quotas: Quotas::default(),
        roll: [7; 32],
    };
    Holder::new(setup, now(0))
}

fn write(disk: &mut BTreeMap<Vec<u8>, Vec<u8>>, rows: Vec<DiskRow>) {
    for DiskRow { key, value } in rows {
        match value {
            Some(value) => disk.insert(key, value),
            None => disk.remove(&key),
        };
    }
}

/// The proposer of the golden vectors, which asks in its own name.
const PEER: NodeId = NodeId([0xb0; 32]);

/// The arguments of a STORE, twice, then of a FIND_VALUE: each question has one answer, and what is on disk afterwards is read
/// back.
pub fn holder_store(input: &[u8]) {
    let mut holder = holder();
    let mut disk = BTreeMap::new();
    for request in 0..2 {
        let asker = Asker { peer: PEER, from: [192, 0, 2, 1].into(), request };
        holder.on_store(now(1), asker, input);
        let mut answers = 0;
        while let Some(action) = holder.poll_action() {
            match action {
                Action::Write { ticket, rows } => {
                    write(&mut disk, rows);
                    holder.on_written(now(1), ticket, true);
                }
                Action::Answer { to, .. } => answers += usize::from(to == asker),
                _ => {}
            }
        }
        assert_eq!(answers, 1, "one question, one answer");
    }
    if let Finding::Answer(answer) = holder.on_find(now(1), [192, 0, 2, 1].into(), input) {
        assert!(!answer.payload.is_empty());
    }
    let mut again = self::holder();
    let restored = again.restore(now(1), disk.iter().map(|(key, value)| (&key[..], &value[..])));
    let read = restored.kept + restored.expired;
    assert_eq!((restored.bad, read), (0, disk.len()), "what it wrote it reads");
    assert_eq!(again.is_empty(), restored.kept == 0);
    for seconds in [10, 4_000, 40_000_000] {
        holder.handle_timeout(now(seconds));
        while holder.poll_action().is_some() {}
    }
}

/// A row: one byte with the length of its key, the key, the value.
pub fn disk_row(input: &[u8]) {
    let Some((len, rest)) = input.split_first() else { return };
    let Some((key, value)) = rest.split_at_checked(usize::from(*len)) else { return };
    let read = read_row(key, value);
    if let Ok(ReadRow::Value(row)) = read {
        let written = row.to_row();
        assert_eq!(
            (&written.key[..], written.value.as_deref()),
            (key, Some(value)),
            "nothing in a row is lost"
        );
    }
    let mut holder = holder();
    let restored = holder.restore(now(0), [(key, value)]);
    assert_eq!(restored.bad, usize::from(read.is_err()));
    holder.handle_timeout(now(4_000));
}
