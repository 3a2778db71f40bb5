//! What the disk store keeps a second: batches that are durable before they are answered, with as many under way as asked for.
//!
//! `cargo run --release -p dunlin-bench --bin store -- --folder DIR`: DIR on the disk that is to be measured; one line per number of
//! batches under way.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::Parser;
use dunlin::store::{Batch, Done, Opened, Refused, Store, Table, Write};

const TABLE: Table = Table("values");

#[derive(Debug, Parser)]
#[command(about = "Durable batches and rows a second, by how many are under way")]
struct Args {
    /// Where the store is made, and taken away again.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Seconds for each line.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Rows of a batch.
    #[arg(long, default_value_t = 1)]
    rows: u64,
    /// Bytes of a row's value.
    #[arg(long, default_value_t = 200)]
    value: usize,
    /// Different keys: from then on rows are written over.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Batches under way at once, one line each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 256, 4_096])]
    under_way: Vec<u64>,
}

fn main() {
    let args = Args::parse();
    println!("{} rows of {} bytes a batch, {} keys", args.rows, args.value, args.keys);
    println!("under way  batches/s     rows/s  batches/sync  syncs/s  answer p50/p99 ms");
    for &under_way in &args.under_way {
        measure(&args, under_way);
    }
}

fn measure(args: &Args, under_way: u64) {
    let path = args.folder.join(format!("dunlin-bench-{}", std::process::id()));
    let (sender, done) = channel();
    let opened = Opened::disk(&path).expect("the folder can be written to");
    let answers =
        move |group: &mut Vec<Done<u64>>| drop(sender.send((Instant::now(), std::mem::take(group))));
    let store = opened.start(answers).expect("there are threads");
    let (mut begun, mut submitted, mut answered) = (Vec::new(), 0, 0);
    let mut times = Vec::new();
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(args.seconds);
    while Instant::now() < until {
        while submitted - answered < under_way {
            begun.push(Instant::now());
            submit(&store, batch(args, submitted));
            submitted += 1;
        }
        answered += take(&done, &begun, &mut times);
    }
    while answered < submitted {
        answered += take(&done, &begun, &mut times);
    }
    let took = start.elapsed().as_secs_f64();
    let report = store.report();
    store.close();
    std::fs::remove_file(&path).expect("it is ours");
    times.sort_unstable();
    let at = |hundredths: usize| times[(times.len() - 1) * hundredths / 100].as_secs_f64() * 1e3;
    let rate = |count: u64| count as f64 / took;
    println!(
        "{under_way:>9} {:>10.0} {:>10.0} {:>13.1} {:>8.0}  {:.2}/{:.2}",
        rate(report.batches),
        rate(report.rows),
        report.batches as f64 / report.commits as f64,
        rate(report.commits),
        at(50),
        at(99)
    );
}

/// Rows under keys that are spread as hashes are.
fn batch(args: &Args, ticket: u64) -> Batch<u64> {
    let row = |row: u64| {
        let number = (ticket * args.rows + row) % args.keys;
        let spread = |salt: u64| (number ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        Write::put(
            TABLE,
            [spread(0), spread(1), spread(2), spread(3)].concat(),
            vec![ticket as u8; args.value],
        )
    };
    Batch { ticket, writes: (0..args.rows).map(row).collect() }
}

fn submit(store: &Store<u64>, mut batch: Batch<u64>) {
    while let Err(Refused::Busy(back)) = store.desk().submit(batch) {
        std::thread::yield_now();
        batch = back;
    }
}

/// Waits for a group of answers; how many there were.
fn take(done: &Receiver<(Instant, Vec<Done<u64>>)>, begun: &[Instant], times: &mut Vec<Duration>) -> u64 {
    let (at, group) = done.recv().expect("the store runs");
    for one in &group {
        assert_eq!(one.result, Ok(()));
        times.push(at - begun[usize::try_from(one.ticket).expect("few enough")]);
    }
    group.len() as u64
}
