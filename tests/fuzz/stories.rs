//! Inputs made by hand: short stories for the state machines, texts, files.

use dunlin_codec::ids::{ChannelId, SessionId};
use dunlin_shards::arq::sender::Outcome;
use dunlin_shards::identity::{Identity, inception, key_file};

use crate::fuzz::Operation::{self, *};
use crate::fuzz::{Record, Records, encode, message_bytes};

type Story = (&'static str, u8, &'static [(Operation, u8, u8, u8)]);

/// What honest nodes live through. Sizes stand in the high four bits of `Send`'s last number.
const STORIES: &[Story] = &[
    (
        "a-message-each-way",
        0,
        &[(Connect, 0, 1, 1), (Rounds, 5, 0, 0), (Send, 0, 0, 0x11), (Send, 1, 0, 0x51), (Rounds, 20, 0, 0)],
    ),
    ("by-address-only", 0, &[(Connect, 0, 1, 0), (Rounds, 8, 0, 0), (Send, 0, 0, 0x21), (Rounds, 9, 0, 0)]),
    (
        "early-data-twice",
        0,
        &[
            (Connect, 0, 1, 3),
            (Duplicate, 0, 0, 0),
            (Rounds, 3, 0, 0),
            (Close, 0, 0, 7),
            (Rounds, 9, 0, 0),
            (Connect, 0, 1, 3),
            (Duplicate, 0, 0, 0),
            (Misroute, 0, 0, 0),
            (Rounds, 9, 0, 0),
        ],
    ),
    (
        "simultaneous-open",
        0,
        &[
            (Connect, 0, 1, 1),
            (Connect, 1, 0, 1),
            (Rounds, 3, 0, 0),
            (Send, 0, 0, 0x31),
            (Send, 1, 0, 0x31),
            (Rounds, 30, 0, 0),
        ],
    ),
    (
        "every-manner-of-channel",
        0,
        &[
            (Connect, 0, 1, 1),
            (Rounds, 5, 0, 0),
            (Send, 0, 0, 0x40),
            (Send, 0, 0, 0x41),
            (Send, 0, 0, 0x42),
            (Send, 0, 0, 0x43),
            (Drop, 2, 0, 0),
            (Drop, 3, 0, 0),
            (Rounds, 30, 0, 0),
            (Pass, 20, 0, 0),
            (Rounds, 30, 0, 0),
        ],
    ),
    (
        "a-slow-reader",
        0,
        &[
            (Connect, 0, 1, 1),
            (Rounds, 5, 0, 0),
            (Burst, 0, 0, 0xf0),
            (Send, 0, 0, 0x70),
            (Rounds, 31, 0, 0),
            (Read, 1, 3, 0),
            (Rounds, 31, 0, 0),
            (Pass, 24, 0, 0),
        ],
    ),
    (
        "lost-and-corrupted-handshakes",
        0,
        &[
            (Connect, 0, 1, 1),
            (Drop, 0, 0, 0),
            (Pass, 18, 0, 0),
            (Corrupt, 0, 99, 4),
            (Pass, 19, 0, 0),
            (Truncate, 0, 99, 0),
            (Pass, 20, 0, 0),
            (Rounds, 9, 0, 0),
        ],
    ),
    (
        "a-node-roams",
        0,
        &[
            (Connect, 0, 1, 1),
            (Rounds, 5, 0, 0),
            (Send, 0, 0, 0x60),
            (Rounds, 2, 0, 0),
            (Roam, 0, 0, 0),
            (Rounds, 9, 0, 0),
            (Send, 1, 0, 0x20),
            (Rounds, 30, 0, 0),
            (Roam, 0, 0, 0),
            (Roam, 1, 0, 0),
            (Send, 0, 0, 0x20),
            (Pass, 27, 0, 0),
        ],
    ),
    (
        "spoofed-source",
        0,
        &[
            (Connect, 0, 1, 1),
            (Rounds, 5, 0, 0),
            (Send, 0, 0, 0x50),
            (Spoof, 0, 9, 0),
            (Spoof, 0, 2, 0),
            (Rounds, 20, 0, 0),
        ],
    ),
    (
        "a-restart",
        0,
        &[
            (Connect, 0, 1, 1),
            (Rounds, 5, 0, 0),
            (Send, 0, 0, 0x50),
            (Rounds, 1, 0, 0),
            (Restart, 1, 0, 0),
            (Rounds, 31, 0, 0),
            (Pass, 24, 0, 0),
            (Rounds, 31, 0, 0),
            (Connect, 1, 0, 1),
            (Rounds, 31, 0, 0),
        ],
    ),
    (
        "keys-wear-out",
        0b1_1000,
        &[
            (Connect, 0, 1, 1),
            (Rounds, 5, 0, 0),
            (Send, 0, 0, 0x60),
            (Rounds, 31, 0, 0),
            (Pass, 23, 0, 0),
            (Rounds, 31, 0, 0),
            (Send, 1, 0, 0x60),
            (Rounds, 31, 0, 0),
            (Pass, 24, 0, 1),
            (Rounds, 31, 0, 0),
        ],
    ),
    (
        "two-devices-of-one-identity",
        0b10_0000,
        &[
            (Connect, 0, 1, 1),
            (Connect, 2, 1, 1),
            (Rounds, 9, 0, 0),
            (Send, 1, 0, 0x20),
            (Send, 1, 1, 0x20),
            (Rounds, 31, 0, 0),
        ],
    ),
    (
        "shutdown-with-a-queue",
        0,
        &[(Connect, 0, 1, 1), (Rounds, 5, 0, 0), (Send, 0, 0, 0x60), (Shutdown, 0, 0, 0), (Rounds, 31, 0, 0)],
    ),
    (
        "full-rings-and-refused-trains",
        0,
        &[
            (FullRings, 9, 0, 0),
            (Connect, 1, 2, 3),
            (Connect, 2, 1, 3),
            (Rounds, 9, 0, 0),
            (Refuse, 1, 0, 0),
            (Send, 1, 0, 0x50),
            (Refuse, 1, 1, 0),
            (Send, 1, 0, 0x50),
            (Rounds, 31, 0, 0),
        ],
    ),
    (
        "a-long-sleep",
        0b110,
        &[(Connect, 0, 1, 1), (Rounds, 5, 0, 0), (Send, 0, 0, 0x50), (Pass, 27, 0, 1), (Rounds, 9, 0, 0)],
    ),
    (
        "taken-back-and-measured",
        0,
        &[
            (Connect, 0, 1, 1),
            (Rounds, 5, 0, 0),
            (Send, 0, 0, 0x60),
            (Send, 0, 0, 0x10),
            (Cancel, 0, 0, 0),
            (Cancel, 0, 0, 1),
            (Ping, 0, 0, 1),
            (Rounds, 31, 0, 0),
            (Mark, 0, 0, 0),
        ],
    ),
    (
        "blackhole",
        0,
        &[
            (Connect, 0, 1, 1),
            (Rounds, 5, 0, 0),
            (Send, 0, 0, 0x60),
            (Cut, 0, 0, 0),
            (Pass, 21, 0, 0),
            (Cut, 0, 0, 0),
            (Pass, 22, 0, 0),
            (Cut, 0, 0, 0),
            (Rounds, 31, 0, 0),
        ],
    ),
];

/// Plaintexts that a lying peer may seal.
const LIES: &[(&str, &[u8])] = &[
    ("acknowledges-the-future", &[0x02, 0x7f, 0xff, 0, 0, 0]),
    ("acknowledges-a-range-of-all", &[0x02, 9, 0, 0, 9]),
    (
        "credit-without-end",
        &[
            0x04, 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x05, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff,
        ],
    ),
    ("blocked", &[0x06, 0, 1, 0x06, 17, 1]),
    ("resets-a-channel", &[0x07, 16, 3]),
    ("challenges", &[0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0x09, 1, 2, 3, 4, 5, 6, 7, 8]),
    ("closes", &[0x0a, 0, 3, b'b', b'y', b'e']),
    ("handshakes-inside", &[0x0b, 1, 4, 1, 2, 3, 4]),
    ("skips", &[0x0c, 16, 0x7f, 0xff]),
    ("asks-for-acknowledgements", &[0x0d, 0x0e, 1, 0]),
    ("reset-token", &[0x0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    (
        "overlapping-pieces",
        &[
            0x13, 16, 0, 0, 8, 4, 1, 2, 3, 4, 0x13, 16, 0, 2, 8, 4, 9, 9, 9, 9, 0x13, 16, 0, 4, 9, 4, 5, 6,
            7, 8,
        ],
    ),
    ("a-message-of-four-gigabytes", &[0x13, 16, 0, 0, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 7]),
    ("a-far-message", &[0x11, 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 7]),
    ("a-far-channel", &[0x11, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 1, 7]),
    ("unreliable-behind-the-future", &[0x15, 18, 0, 0x7f, 0xff, 1, 7, 0x15, 18, 1, 0, 1, 7]),
];

/// Addresses and what is nearly one.
const ADDRESSES: [&str; 12] = [
    "dunlin://47pjoycnsrfmxikm95jh13y88e8qnhzu5kungjpxyepgt7a8krpy@[2001:db8::1]:7117",
    "47pjoycnsrfmxikm95jh13y88e8qnhzu5kungjpxyepgt7a8krpy@example.org",
    "47PJOYCNSRFMXIKM95JH13Y88E8QNHZU5KUNGJPXYEPGT7A8KRPY",
    "192.0.2.1:65535",
    "host.example.:1",
    "[::1]",
    "-a.b",
    "http://x",
    "a:b:c",
    "[::1%eth0]:1",
    "é@ü:0",
    "dunlin://@:",
];

/// Values of settings.
const SETTINGS: [&str; 16] = [
    "true",
    "0",
    "1452",
    "64KiB",
    "1 MiB",
    "30s",
    "250ms",
    "1h",
    "auto",
    "25%",
    "off",
    "[::]:0",
    "10.0.0.0/8,fd00::/8",
    "$STATE/key",
    "~/a \"b\"\n",
    "99999999999999999999GiB",
];

/// Every generated input: its target, its name, its bytes.
pub(crate) fn generated() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut inputs = Vec::new();
    for (name, choice, operations) in STORIES {
        inputs.push(("session", (*name).to_owned(), encode(*choice, operations)));
        inputs.push(("hostile", (*name).to_owned(), encode(*choice, operations)));
    }
    for (name, lie) in LIES {
        let begin = [(Connect, 0, 1, 1), (Rounds, 5, 0, 0), (Send, 0, 0, 0x50), (Rounds, 2, 0, 0)];
        let mut input = encode(0, &begin);
        for (node, number) in [(0, 0x10), (1, 0x10), (1, 0x20)] {
            input.extend(encode(0, &[(Inject, node, number, lie.len() as u8)])[1..].iter().chain(*lie));
        }
        input.extend(&encode(0, &[(Rounds, 31, 0, 0)])[1..]);
        inputs.push(("hostile", format!("a-liar-{name}"), input));
    }
    for (name, bytes) in pipes() {
        inputs.push(("pipe", name.to_owned(), bytes));
    }
    for (number, text) in ADDRESSES.into_iter().enumerate() {
        inputs.push(("address", format!("text-{number:02}"), text.into()));
    }
    for (number, text) in SETTINGS.into_iter().enumerate() {
        inputs.push(("setting", format!("value-{number:02}"), text.into()));
    }
    inputs.extend(files().map(|(target, name, bytes)| (target, name.to_owned(), bytes)));
    inputs
}

fn pipes() -> [(&'static str, Vec<u8>); 5] {
    [
        ("perfect", vec![0, 0b0000_1001]),
        ("loses-every-third", [&[0, 0b0000_1010][..], &[0, 0, 1].repeat(80)].concat()),
        ("repeats-and-reorders", [&[0, 0b0100_0101][..], &[3, 0x2c, 0, 0x84, 0x13].repeat(60)].concat()),
        ("loses-the-handshake", [&[0b1001, 0b1000_0110][..], &[1, 1, 0, 2, 2, 0, 1, 1].repeat(30)].concat()),
        ("keys-wear-out", [&[0b1_1001, 0b0000_1111][..], &[0, 1, 0x3c, 3, 0, 0].repeat(50)].concat()),
    ]
}

fn files() -> [(&'static str, &'static str, Vec<u8>); 7] {
    let (key, next) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
    let defaults = dunlin::config::print_defaults();
    // Without comments it is short enough to be changed by chance.
    let bare: String =
        defaults.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    [
        ("key_file", "a-key", key_file::write(&[5; 32]).to_vec()),
        ("key_file", "a-damaged-key", [&key_file::write(&[5; 32])[..60], b"0"].concat()),
        ("key_file", "an-inception", inception::write(&key, &next.id()).to_vec()),
        ("config", "defaults", bare.into_bytes()),
        (
            "config",
            "a-few-values",
            b"[io]\nbackend = \"mmsg\"\ngso = false\n[node]\ncores = 2\nnetwork = 'a \"b'\n".to_vec(),
        ),
        ("config", "an-unknown-key", b"[io]\nbackned = 1\n".to_vec()),
        ("config", "no-toml", b"[io\n\"\"\"x".to_vec()),
    ]
}

/// What the records must notice, each in a run of its own.
pub(crate) fn assert_records_notice() {
    let end = (1, 1, SessionId(1 << 31), ChannelId(16));
    let sent = |count: usize| {
        let mut records = Records::default();
        let record = Record {
            from: 0,
            channel: ChannelId(16),
            len: 9,
            reliable: true,
            ordered: true,
            ..Record::default()
        };
        records.all = vec![record; count];
        records
    };
    let panics = |run: fn(Records, (usize, u32, SessionId, ChannelId)), records| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(records, end))).is_err()
    };
    assert!(panics(|mut it, end| it.on_delivered(end, &message_bytes(1, 9)), sent(1)), "never sent");
    assert!(panics(|mut it, end| it.on_delivered(end, &[0; 9]), sent(1)), "changed");
    assert!(
        panics(|mut it, end| (0..2).for_each(|_| it.on_delivered(end, &message_bytes(0, 9))), sent(1)),
        "twice"
    );
    assert!(
        panics(
            |mut it, end| [1, 0].into_iter().for_each(|at| it.on_delivered(end, &message_bytes(at, 9))),
            sent(2)
        ),
        "order"
    );
    assert!(
        panics(|mut it, _| (0..2).for_each(|_| it.on_released(0, Outcome::Acked)), sent(1)),
        "released twice"
    );
    assert!(panics(|it, _| it.assert_settled(), sent(1)), "nobody knows");
    let again = |mut it: Records, end| {
        it.all[0].idempotent = true;
        (0..2).for_each(|_| it.on_delivered(end, &message_bytes(0, 9)));
    };
    assert!(panics(again, sent(1)), "early data twice in one session");
    let lost = |mut it: Records, _| {
        it.on_released(0, Outcome::Acked);
        it.assert_settled();
    };
    assert!(panics(lost, sent(1)), "acknowledged and lost");
    let mut good = sent(2);
    (0..2).for_each(|at| {
        good.on_delivered(end, &message_bytes(at, 9));
        good.on_released(at, Outcome::Acked);
    });
    good.assert_settled();
}
