//! scratch
use dunlin::{Config, Engine, Event};
use std::time::{Duration, Instant};
fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}
fn main() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().collect();
    let mode = args[1].as_str();
    let size: usize = args.get(2).map_or(65536, |s| s.parse().unwrap());
    let io = args.get(3).map_or("auto", |s| s.as_str());
    let dgram: u64 = args.get(4).map_or(1200, |s| s.parse().unwrap());
    let backend = match io {
        "uring" => dunlin::config::Backend::Uring,
        "mmsg" => dunlin::config::Backend::Mmsg,
        _ => dunlin::config::Backend::Auto,
    };
    let config = |port: u16| {
        let mut c =
            Config::default().listen(format!("127.0.0.1:{port}").parse().unwrap()).cores(1).backend(backend);
        c.io.datagram_max = dunlin::config::ByteSize(dgram);
        c
    };
    if mode == "far" {
        pin(1);
        let engine = Engine::builder(config(17117)).ephemeral().start().unwrap();
        println!("dunlin://{}@{}", engine.id(), engine.local_addr());
        loop {
            let peer = loop {
                if let Event::Accepted(peer) = engine.next_event() {
                    break peer;
                }
            };
            let (mut bytes, mut count) = (0u64, 0u64);
            let mut start = Instant::now();
            let mut mark = Instant::now();
            let mut sum = 0u64;
            while let Ok(m) = peer.recv() {
                if count == 0 {
                    start = Instant::now();
                    mark = start;
                }
                bytes += m.len() as u64;
                count += 1;
                for c in m.chunks_exact(8) {
                    sum = sum.wrapping_add(u64::from_le_bytes(c.try_into().unwrap())).rotate_left(1);
                }
                if mark.elapsed() > Duration::from_secs(1) {
                    let s = start.elapsed().as_secs_f64();
                    eprintln!(
                        "far {:.3} Gbit/s {:.3} M msg/s {sum:x}",
                        bytes as f64 * 8e-9 / s,
                        count as f64 / 1e6 / s
                    );
                    let st = engine.stats();
                    let p = st.protocol();
                    let sk = &st.shards[0].socket;
                    eprintln!(
                        "  in {} dg {} trains, out {} trains; seg/train in {:.1}; sleeps {} doorbells {} loops {} qdrops {} lost {} drops {}",
                        p.datagrams_in,
                        p.trains_in,
                        p.trains_out,
                        sk.received.datagrams as f64 / sk.received.train_count() as f64,
                        sk.sleeps,
                        sk.doorbells,
                        st.shards[0].loops,
                        sk.receive_queue_drops,
                        p.packets_lost,
                        p.drops_total()
                    );
                    mark = Instant::now();
                    start = Instant::now();
                    bytes = 0;
                    count = 1;
                }
            }
        }
    } else {
        pin(0);
        let engine = Engine::builder(config(0)).ephemeral().start().unwrap();
        let mut uri = String::new();
        std::io::stdin().read_line(&mut uri).unwrap();
        let peer = engine.connect(uri.trim()).unwrap();
        let data = vec![0xA5u8; size];
        let start = Instant::now();
        let mut mark = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            for _ in 0..64 {
                peer.send(&data).unwrap();
            }
            if mark.elapsed() > Duration::from_secs(1) {
                let st = engine.stats();
                let p = st.protocol();
                let sk = &st.shards[0].socket;
                eprintln!(
                    "near out {} dg {} trains {:.1} seg/train; lost {} spurious {} resent {} pto {} sleeps {} doorbells {} loops {} blocked {} mtu+ {}",
                    p.datagrams_out,
                    p.trains_out,
                    sk.sent.datagrams as f64 / sk.sent.train_count() as f64,
                    p.packets_lost,
                    p.packets_lost_spuriously,
                    p.segments_resent,
                    p.probe_timeouts,
                    sk.sleeps,
                    sk.doorbells,
                    st.shards[0].loops,
                    sk.send_blocked,
                    p.mtu_raised
                );
                mark = Instant::now();
            }
        }
        peer.close(0);
        std::thread::sleep(Duration::from_millis(50));
    }
}
