//! A bad link as a command: `cargo run --release -p dunlin-tests --bin impair -- --to 127.0.0.1:7117 --loss 0.05`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use dunlin_tests::impair::{Impairment, Link};

/// Passes UDP datagrams on to one address and back, and loses, delays or damages some on the way.
#[derive(Parser)]
struct Arguments {
    /// Where clients send to.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The node behind the link.
    #[arg(long)]
    to: SocketAddr,
    /// The same seed does the same to the same datagrams.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of datagrams that vanish, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Share of datagrams that arrive twice, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    duplicate: f64,
    /// Share of datagrams in which one bit is turned, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    corrupt: f64,
    /// Share of datagrams that later ones overtake, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    reorder: f64,
    /// Milliseconds that each datagram is under way.
    #[arg(long, default_value_t = 0.0)]
    delay_ms: f64,
    /// Up to so many milliseconds longer.
    #[arg(long, default_value_t = 0.0)]
    jitter_ms: f64,
    /// Bits of payload a second; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Milliseconds that a datagram may wait before the link.
    #[arg(long, default_value_t = 100.0)]
    queue_ms: f64,
    /// Longer datagrams vanish, in bytes of payload.
    #[arg(long, default_value_t = usize::MAX)]
    datagram_len_max: usize,
    /// Print what happened once a second.
    #[arg(long)]
    stats: bool,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let ms = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
    let link = Link {
        loss: arguments.loss,
        duplicate: arguments.duplicate,
        corrupt: arguments.corrupt,
        reorder: arguments.reorder,
        delay: ms(arguments.delay_ms),
        jitter: ms(arguments.jitter_ms),
        rate: arguments.rate,
        queue: ms(arguments.queue_ms),
        datagram_len_max: arguments.datagram_len_max,
        ..Link::default()
    };
    let proxy = Impairment::both(link, arguments.seed).listen(arguments.listen).start(arguments.to)?;
    println!("{} -> {}", proxy.address(), arguments.to);
    loop {
        std::thread::sleep(Duration::from_secs(1));
        if arguments.stats {
            println!("{:?}", proxy.stats());
        }
    }
}
