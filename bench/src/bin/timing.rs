//! Whether comparisons of secrets take the same time whatever they are given (T30): Welch's t-test between two classes of input,
//! as dudect does it.
//!
//! `cargo run --release -p dunlin-bench --bin timing -- [--measurements N]`
//!
//! Class "same" gives the right value but for its last byte, class "random" a random one: a comparison that stops at the first
//! difference takes longer for the first. |t| below 4.5 over a million measurements is a pass. The last line gives the same test to
//! a comparison that does stop early, to show that it would be seen. It ends with 1 when a verdict is not the expected one.

use std::hint::black_box;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant as Stopwatch;

use clap::Parser;
use dunlin_codec::ids::SessionId;
use dunlin_codec::suite::Suite;
use dunlin_shards::rng::Rng;
use dunlin_shards::session::cookie::{CookieJar, MAC_LEN, mac1_key, mac2_key};
use dunlin_shards::session::crypto::StaticPublic;
use dunlin_shards::session::reset::{ResetKey, is_token};
use dunlin_shards::time::Instant;
use zeroize::Zeroizing;

/// What a t-test must stay below.
const T_MAX: f64 = 4.5;
/// Inputs that are made at once, so that making them is not measured.
const BATCH: usize = 1_024;
/// Measurements that settle where outliers begin.
const CALIBRATION: usize = 20_000;
/// Comparisons in one measurement: a clock tick is longer than one of them takes.
const REPEATS: usize = 8;
/// Of the slowest measurements (interrupts, other processes) so many in a hundred are left out, the same for both classes.
const LEFT_OUT_PERCENT: usize = 10;
/// Bytes that MACs are made of.
const INPUT: [u8; 104] = [9; 104];

/// The time that comparisons of secrets take.
#[derive(Parser)]
struct Arguments {
    /// Measurements of each comparison, both classes together.
    #[arg(long, default_value_t = 1_000_000)]
    measurements: usize,
}

/// Mean and variance of what was seen, by Welford's recurrence.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    /// The variance of the mean.
    fn error(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

/// Welch's t of two classes.
fn welch(classes: &[Moments; 2]) -> f64 {
    (classes[0].mean - classes[1].mean) / (classes[0].error() + classes[1].error()).sqrt()
}

/// Values to compare with the right one: class 0 differs in its last byte, class 1 is random.
fn inputs(rng: &mut Rng, right: &[u8; MAC_LEN]) -> Vec<(usize, [u8; MAC_LEN])> {
    let draw = |_| {
        let class = rng.below(2) as usize;
        let mut value = [0; MAC_LEN];
        // Drawn for both, so that making them leaves no trace.
        rng.fill(&mut value);
        let mut near = *right;
        near[MAC_LEN - 1] ^= value[0] | 1;
        (class, [near, value][class])
    };
    (0..BATCH).map(draw).collect()
}

/// Nanoseconds of so many comparisons with one value.
fn time(compare: &mut dyn FnMut(&[u8; MAC_LEN]) -> bool, value: &[u8; MAC_LEN]) -> f64 {
    let begun = Stopwatch::now();
    for _ in 0..REPEATS {
        black_box(compare(black_box(value)));
    }
    begun.elapsed().as_nanos() as f64
}

/// The t of a comparison over so many measurements.
fn measure(
    right: &[u8; MAC_LEN],
    compare: &mut dyn FnMut(&[u8; MAC_LEN]) -> bool,
    count: usize,
) -> (f64, [Moments; 2]) {
    let mut rng = Rng::from_number(1);
    let mut times: Vec<f64> = Vec::new();
    while times.len() < CALIBRATION {
        times.extend(inputs(&mut rng, right).iter().map(|(_, value)| time(compare, value)));
    }
    times.sort_by(f64::total_cmp);
    let slowest = times[times.len() * (100 - LEFT_OUT_PERCENT) / 100];
    let mut classes = [Moments::default(); 2];
    let mut taken = 0;
    while taken < count {
        for (class, value) in inputs(&mut rng, right) {
            let took = time(compare, &value);
            if took <= slowest {
                classes[class].add(took);
            }
            taken += 1;
        }
    }
    (welch(&classes), classes)
}

/// Says what came of it; whether it is what was expected.
fn judge(name: &str, (t, classes): (f64, [Moments; 2]), is_constant: bool) -> bool {
    let means = classes.map(|class| class.mean / REPEATS as f64);
    let verdict = if t.abs() < T_MAX { "constant" } else { "depends on its input" };
    println!("{name:34} t = {t:9.2}   {:7.2} ns and {:7.2} ns   {verdict}", means[0], means[1]);
    (t.abs() < T_MAX) == is_constant
}

/// What is measured: a name, the right value, the comparison.
type Case<'a> = (&'a str, [u8; MAC_LEN], Box<dyn FnMut(&[u8; MAC_LEN]) -> bool + 'a>);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let network = [1; 32];
    let mac1 = mac1_key(&network, Some(StaticPublic([2; 32])));
    let mut jar = CookieJar::new(Zeroizing::new([7; 32]));
    let from: SocketAddr = "192.0.2.1:7117".parse().expect("an address");
    let cookie = jar.bake(Instant::ZERO, from, Suite::AesGcm);
    let mac2 = mac2_key(&cookie);
    let token = ResetKey::new(&[3; 32]).token(SessionId::new(0, 1, 2));
    let right = |value: [u8; MAC_LEN]| value;
    let cases: [Case<'_>; 4] = [
        ("mac1 of a Hello", right(mac1.mac(&[&INPUT])), Box::new(|value| mac1.verify(&INPUT, value))),
        (
            "mac2 under a known cookie",
            right(mac2.mac(&[&INPUT])),
            Box::new(|value| mac2.verify(&INPUT, value)),
        ),
        (
            "mac2 under a cookie made anew",
            right(mac2.mac(&[&INPUT])),
            Box::new(|value| jar.verify_mac2(Instant::ZERO, (from, Suite::AesGcm), &INPUT, value)),
        ),
        ("reset token", token, Box::new(|value| is_token(&token, value))),
    ];
    let mut as_expected = true;
    for (name, right, mut compare) in cases {
        as_expected &= judge(name, measure(&right, &mut compare, arguments.measurements), true);
    }
    let mut stops_early =
        |value: &[u8; MAC_LEN]| token.iter().zip(value).all(|(told, shown)| black_box(told) == shown);
    let seen = measure(&token, &mut stops_early, arguments.measurements);
    as_expected &= judge("(one that stops early)", seen, false);
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
