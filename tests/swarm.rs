//! The swarm's seeds that every change is put through: none may break, and together they produce everything there is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use dunlin_tests::swarm::{self, Cut, EXEMPT, Kind, Size, Table};

/// Seeds from 1 on.
const SEEDS: u64 = 512;

#[test]
fn no_seed_breaks_and_together_they_produce_everything() {
    let next = AtomicU64::new(1);
    let table = Mutex::new(Table::default());
    let broken = Mutex::new(Vec::new());
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut own = Table::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS {
                        break;
                    }
                    let verdict = swarm::run(Kind::Chaos, seed, Size::Small);
                    match verdict.failure {
                        None => own.add(&verdict.coverage),
                        Some(failure) => broken.lock().unwrap().push((seed, failure)),
                    }
                }
                table.lock().unwrap().merge(&own);
            });
        }
    });
    let (table, broken) = (table.into_inner().unwrap(), broken.into_inner().unwrap());
    println!("{table}");
    for (seed, failure) in &broken {
        println!("seed {seed} broke at {}: {}", failure.place, failure.message);
        println!(
            "{}\n  {}",
            failure.lines,
            swarm::replay_command(Kind::Chaos, *seed, Size::Small, &Cut::default())
        );
    }
    assert!(broken.is_empty(), "{} of {SEEDS} seeds broke", broken.len());
    assert_eq!(table.missing(), [], "no seed produced it");
    assert_eq!(table.needless(), [], "it happens: no exemption is needed");
    assert!(EXEMPT.iter().all(|(_, why)| why.len() > 20));
}

/// Rumours in networks of their own: everybody hears what is said, once, and it is carried no more often than it may be.
/// spec: p2p/rumours
#[test]
fn no_seed_of_rumours_breaks() {
    assert_unbroken(Kind::Rumours, 24);
}

/// Networks that keep values, cut in two, paused, stopped and replaced: what clients were told of a register and of a lease could have
/// come from one place, what an owner put does not go back, and in peace everybody decides again.
/// spec: p2p/members, p2p/decisions
#[test]
fn no_seed_of_values_breaks() {
    assert_unbroken(Kind::Values, 16);
}

fn assert_unbroken(kind: Kind, seeds: u64) {
    let run = |seed| Some((seed, swarm::run(kind, seed, Size::Small).failure?));
    let broken: Vec<_> = (1..=seeds).filter_map(run).collect();
    for (seed, failure) in &broken {
        println!("seed {seed} broke at {}: {}\n{}", failure.place, failure.message, failure.lines);
        println!("  {}", swarm::replay_command(kind, *seed, Size::Small, &Cut::default()));
    }
    assert!(broken.is_empty(), "{} of {seeds} seeds broke", broken.len());
}

#[test]
fn a_plan_is_played_the_same_way_twice() {
    for seed in [3, 8, 21] {
        let plan = swarm::draw(seed, Size::Small);
        let (one, other) = (swarm::run_with(&plan), swarm::run_with(&plan));
        assert_eq!((one.hash, one.lines), (other.hash, other.lines), "seed {seed}");
        assert!(one.lines > 1_000);
    }
}
