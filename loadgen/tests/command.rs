//! The command as its users meet it: what it prints, what it writes, how it ends.
//!
//! Holds: nothing here depends on how fast the machine is: rates are low, and what is late is allowed.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"));
    command.args(line.split_whitespace()).stdin(Stdio::null());
    command
}

fn run(line: &str) -> Output {
    command(line).output().unwrap()
}

fn errors_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The JSON of a run that went well.
fn json_of(line: &str) -> Value {
    let output = run(line);
    assert_eq!(output.status.code(), Some(0), "{line}: {}", errors_of(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["schema"], &json["state"]), (&json!("dunlin-loadgen/1"), &json!("complete")));
    json
}

fn value(json: &Value, section: &str, figure: &str) -> f64 {
    let value = &json["figures"][section][figure]["value"];
    value.as_f64().unwrap_or_else(|| panic!("{section}/{figure} in {}", json["figures"]))
}

/// A folder of this test's own, gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("loadgen-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A far side that was started by hand, and its URI.
fn far(line: &str) -> (Running, String) {
    let mut far = Running(command(line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut uri = String::new();
    BufReader::new(far.0.stdout.take().unwrap()).read_line(&mut uri).unwrap();
    (far, uri.trim().to_owned())
}

#[test]
fn a_schedule_over_several_sessions_is_answered_and_written_in_every_form() {
    let folder = Folder::new("forms");
    let files = format!(
        "--json={} --hlog {} --hgrm {} --html {}",
        folder.path("a.json"),
        folder.path("a.hlog"),
        folder.path("a.hgrm"),
        folder.path("a.html")
    );
    let output = run(&format!(
        "latency --self --rate 400,800 --poisson --sessions 3 --shards 2 --over core,api --seconds 0.6 --warm-up 0.2 \
         --late-max 100 --quiet {files}"
    ));
    assert_eq!(output.status.code(), Some(0), "{}", errors_of(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("core at 400/s"));
    let json: Value = serde_json::from_str(&folder.read("a.json")).unwrap();
    for section in ["core at 400/s", "core at 800/s", "api at 400/s", "api at 800/s"] {
        let count = |name: &str| value(&json, section, name);
        assert!(count("planned") > 100.0, "{section}");
        assert_eq!((count("sent"), count("answered")), (count("answered"), count("count")), "{section}");
        assert_eq!(count("unanswered"), 0.0, "{section}");
        assert_eq!(count("far_shards"), 2.0, "{section}");
        assert!((1.0..=2.0).contains(&count("far_shards_in_use")), "{section}");
        assert!(
            count("p99") >= count("uncorrected_p99"),
            "{section}: an intended time is never after the sending"
        );
        assert!(count("far_cpu_datagram") > 0.0 && count("udp_RcvbufErrors") >= 0.0, "{section}");
    }
    assert_eq!(json["environment"]["settings"]["near_engines"], 3);
    assert!(json["environment"]["kernel"].is_string() && json["environment"]["mtu"]["lo"].is_u64());
    let samples = json["timeline"].as_array().unwrap();
    assert!(samples.iter().any(|sample| sample["p50_us"].is_f64() && !sample["cores"][0].is_null()));
    assert!(folder.read("a.hlog").contains("Tag=core_at_400/s,"), "{}", folder.read("a.hlog"));
    assert!(folder.read("a.hgrm").contains("#[core at 800/s uncorrected, in microseconds]"));
    let page = folder.read("a.html");
    assert!(!page.contains("http:") && !page.contains("https:") && page.contains("core at 800/s"));
}

/// The page is opened in a real browser, where there is one, and has its charts after its script ran.
#[test]
fn a_real_browser_shows_the_charts() {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let is_there = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    let Some(browser) = browsers.iter().find(is_there) else {
        println!("SKIPPED browser: none of {browsers:?} is installed");
        return;
    };
    let folder = Folder::new("browser");
    let page = folder.path("a.html");
    let output = run(&format!(
        "latency --self --rate 300 --over core,api --seconds 1 --late-max 100 --quiet --html {page}"
    ));
    assert_eq!(output.status.code(), Some(0), "{}", errors_of(&output));
    let profile = format!("--user-data-dir={}", folder.path("profile"));
    // Nobody else's page is opened: without a sandbox it works for every user.
    let flags =
        ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"];
    let shown =
        Command::new(browser).args(flags).args([&profile, &format!("file://{page}")]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let (_, drawn) = shown.split_once("<div id=\"charts\">").unwrap_or_else(|| panic!("no page: {shown}"));
    let (drawn, rest) = drawn.split_once("<h2>Figures</h2>").unwrap();
    for chart in
        ["Latency by percentile", "Throughput over time", "Latency over time", "Load of each core", "Memory"]
    {
        let (_, own) =
            drawn.split_once(&format!("aria-label=\"{chart}\"")).unwrap_or_else(|| panic!("no {chart}"));
        let (own, _) = own.split_once("</svg>").unwrap();
        assert!(own.contains("<path d=\"M") && !own.contains("NaN"), "{chart}: {own}");
    }
    assert!(rest.contains("<td>p99.9</td>"), "the figures are listed");
}

#[test]
fn repeated_runs_tell_each_value() {
    let json = json_of("throughput --self --size 1000,5000 --seconds 0.3 --repeat 2 --json --quiet");
    for section in ["throughput of 1000", "throughput of 5000"] {
        assert_eq!(json["figures"][section]["goodput"]["values"].as_array().unwrap().len(), 2);
        assert!(value(&json, section, "goodput") > 0.0);
    }
}

#[test]
fn every_kind_of_handshake_is_shaken_by_many_callers() {
    for (flags, section) in
        [("", "handshakes"), ("--zero-rtt", "handshakes_0rtt"), ("--cookies", "handshakes_cookies")]
    {
        let json = json_of(&format!("handshakes --self --parallel 8 --rounds 64 {flags} --json"));
        assert_eq!(value(&json, section, "count"), 64.0);
        assert!(value(&json, section, "cpu_far") > 0.0);
        // The responder's thread is part of its process.
        let responder = value(&json, section, "cpu_responder");
        assert!(responder > 0.0 && responder <= value(&json, section, "cpu_far") * 1.01, "{responder}");
        assert!(value(&json, section, "responder_rate") > 0.0);
        if section == "handshakes_0rtt" {
            assert_eq!(value(&json, section, "early_accepted"), 100.0);
        }
        if section == "handshakes_cookies" {
            assert!(value(&json, section, "cookies") >= 64.0);
        }
    }
    let json = json_of("handshakes --self --rounds 20 --json");
    assert_eq!(value(&json, "handshakes", "count"), 20.0);
}

#[test]
fn many_sessions_are_sent_to_beside_bare_datagrams() {
    let json = json_of(
        "sessions --self --sessions 300 --ports 3 --shards 2 --rounds 2 --reliable --seconds 0.3 --json --quiet",
    );
    assert_eq!(value(&json, "sessions", "sessions"), 300.0);
    for way in ["unreliable", "reliable", "sendmmsg"] {
        let rates = json["figures"][way]["rate"]["values"].as_array().unwrap();
        assert_eq!(rates.len(), 2, "{way}");
        assert!(value(&json, way, "arrived") > 0.0 && value(&json, way, "far_cpu_message") > 0.0, "{way}");
        assert!(value(&json, way, "arrived") <= value(&json, way, "sent"), "{way}");
        assert!(value(&json, way, "udp_RcvbufErrors") >= 0.0, "{way}");
    }
    assert_eq!(value(&json, "reliable", "arrived"), value(&json, "reliable", "sent"));
    assert_eq!(value(&json, "reliable", "unacknowledged"), 0.0);
    // As long as what carries a message of 1 KiB.
    assert!((1_024.0..1_200.0).contains(&value(&json, "sendmmsg", "datagram_size")));
    for ratio in ["unreliable_of_sendmmsg", "reliable_of_sendmmsg", "unreliable_by_cpu", "reliable_by_cpu"] {
        assert!(value(&json, "ratios", ratio) > 0.0, "{ratio}");
    }
}

#[test]
fn memory_of_idle_sessions_is_told_of_both_sides() {
    let json = json_of("idle --self --sessions 400 --settle 0.2 --seconds 0.3 --json --quiet");
    // And the session that gives orders.
    assert_eq!(value(&json, "idle", "far_sessions"), 401.0);
    for figure in ["far_session", "near_session", "far_resident", "near_resident_before"] {
        assert!(value(&json, "idle", figure) > 0.0, "{figure}");
    }
    let sides = value(&json, "idle", "far_session") + value(&json, "idle", "near_session");
    assert_eq!(value(&json, "idle", "both_sides"), sides);
}

#[test]
fn a_node_is_asked_for_others_by_several() {
    let json = json_of("dht --self --peers 20 --parallel 3 --rounds 2 --seconds 0.3 --json --quiet");
    assert!(value(&json, "find_node", "count") > 10.0 && value(&json, "find_node", "rate") > 0.0);
    assert_eq!(value(&json, "find_node", "nodes"), 16.0);
    assert!(value(&json, "sendmmsg", "rate") > 0.0);
    assert_eq!(value(&json, "find_node", "failed"), 0.0);
    assert!(value(&json, "find_node", "far_cpu_answer") > 0.0);
    // Whoever is of no network answers nobody.
    let (_far, uri) = far("far");
    let output = run(&format!("dht {uri} --seconds 0.2 --quiet"));
    assert_eq!(output.status.code(), Some(1));
    assert!(errors_of(&output).contains("of no network"), "{}", errors_of(&output));
}

/// What is asked for is there, and what is answered was kept.
#[test]
fn values_are_found_and_stored() {
    let json = json_of(
        "dht --self --op find-value --peers 5 --parallel 3 --keys 100 --size 1000 --seconds 0.3 --json --quiet",
    );
    assert!(value(&json, "find_value", "count") > 10.0);
    assert_eq!((value(&json, "find_value", "failed"), value(&json, "find_value", "nodes")), (0.0, 1.0));
    // A value of 1,000 bytes and what is around it are as long as the datagrams beside which they are looked at.
    assert!(value(&json, "find_value", "datagrams") > 0.0 && value(&json, "sendmmsg", "rate") > 0.0);
    assert!(value(&json, "ratios", "find_value_datagrams_of_sendmmsg") > 0.0);
    let folder = Folder::new("store");
    let state = folder.path("");
    let json = json_of(&format!(
        "dht --self --op store --peers 2 --parallel 20 --keys 50 --state {state} --seconds 0.5 --json --quiet"
    ));
    assert!(value(&json, "store", "count") > 10.0 && value(&json, "store", "far_core_answer") > 0.0);
    assert_eq!(value(&json, "store", "failed"), 0.0);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0, "the far side's folder went with it");
}

/// By default one writer has room for a thousand values.
#[test]
fn a_far_side_keeps_to_its_limits_when_it_is_told_to() {
    let (_far, uri) = far("far --hub --dht --limited");
    let output = run(&format!("dht {uri} --op find-value --keys 1200 --seconds 0.2 --quiet"));
    assert_eq!(output.status.code(), Some(1));
    assert!(errors_of(&output).contains("of 1200 values could be stored"), "{}", errors_of(&output));
    let output = run(&format!("dht {uri} --op store --peers 20 --keys 19 --quiet"));
    assert!(errors_of(&output).contains("--keys 19"), "{}", errors_of(&output));
}

/// Each rumour goes once to each other link, and a copy of it nowhere.
#[test]
fn rumours_are_carried_on_beside_verifying() {
    let json =
        json_of("shout --self --bringers 2 --links 3 --origins 50 --duplicates --seconds 0.3 --json --quiet");
    let rumours = |name: &str| value(&json, "rumours", name);
    assert!(rumours("taken") > 0.0 && rumours("rate") > 0.0 && rumours("far_cpu_rumour") > 0.0);
    // What a link that has just opened lacked, and what is on its way when a round ends, makes a small difference.
    let (carried, wanted) = (rumours("copies") + rumours("crowded_out"), rumours("taken") * 4.0);
    assert!((carried - wanted).abs() <= wanted / 20.0, "{carried} copies where {wanted} were to go out");
    assert!(value(&json, "verify", "rate") > 0.0 && value(&json, "ratios", "rumours_of_verify") > 0.0);
    assert_eq!(value(&json, "duplicates", "refused"), value(&json, "duplicates", "brought"));
    // Those of the round before that were late.
    assert!(value(&json, "duplicates", "copies") <= wanted / 20.0);
    assert!(value(&json, "ratios", "rumours_by_cpu") > 0.0);
}

/// What a link may bring by default is 500 at once and 500 a second.
#[test]
fn the_default_budget_of_rumours_holds() {
    let json = json_of("shout --self --limited --links 1 --seconds 0.3 --json --quiet");
    let rumours = |name: &str| value(&json, "rumours", name);
    assert!(rumours("taken") > 0.0 && rumours("taken") <= rumours("allowed"));
    assert!(rumours("brought") > rumours("taken"), "more came than is taken");
    // A node that takes fewer links than are asked for says so.
    let output = run("shout --self --links 40 --seconds 0.2 --quiet");
    assert_eq!(output.status.code(), Some(1));
    assert!(errors_of(&output).contains("were refused"), "{}", errors_of(&output));
}

/// Large datagrams are sent where they are asked for, and nothing longer.
#[test]
fn datagrams_have_the_length_that_was_asked() {
    for (datagram, least) in [(1_200, 1_100.0), (8_900, 8_000.0)] {
        let json = json_of(&format!("throughput --self --datagram {datagram} --seconds 0.5 --json --quiet"));
        let len = value(&json, "throughput", "near_datagram_out");
        assert!(len > least && len <= f64::from(datagram), "{len} of {datagram}");
        assert_eq!(json["environment"]["settings"]["datagram_max"], datagram);
    }
}

#[test]
fn bare_shards_do_each_work_sealed_or_not() {
    for (work, section, figure) in [
        ("throughput", "throughput", "goodput"),
        ("messages", "messages", "messages"),
        ("latency", "core", "p50"),
    ] {
        for flag in ["", "--unsealed"] {
            let json = json_of(&format!("bare --work {work} {flag} --seconds 0.2 --datagram 8900 --json"));
            assert!(value(&json, section, figure) > 0.0, "{work} {flag}");
            let setup = json["setup"].as_str().unwrap();
            assert_eq!(setup.contains("NOT sealed"), flag == "--unsealed", "{setup}");
        }
    }
}

#[test]
fn each_thing_is_switched_and_both_back_ends_are_judged() {
    let json = json_of("ablate --work messages --rounds 1 --seconds 0.1 --shard-counts 1 --json");
    let figures = json["figures"]["messages"].as_object().unwrap();
    assert_eq!(figures.len(), 10, "{figures:?}");
    for variant in ["plain", "without GSO", "bare shards", "bare shards, not sealed"] {
        assert!(value(&json, "messages", variant) > 0.0, "{variant}");
    }
    let output = run("backends --rounds 1 --seconds 0.1 --sessions 20");
    assert_eq!(output.status.code(), Some(0), "{}", errors_of(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("auto should take uring") || text.contains("auto should take mmsg"), "{text}");
    assert_eq!(text.matches("to mmsg").count(), 6, "{text}");
}

#[test]
fn a_far_side_that_keeps_no_sessions_is_said() {
    let (_far, uri) = far("far --lean");
    let output = run(&format!("sessions {uri} --sessions 3 --seconds 0.1"));
    assert_eq!(output.status.code(), Some(1));
    let errors = errors_of(&output);
    assert!(errors.contains("dunlin-loadgen far --hub"), "{errors}");
}

/// A target that was started by hand, and more than one round against it.
#[test]
fn a_hub_is_used_again() {
    let (_far, uri) = far("far --hub");
    for _ in 0..2 {
        let json = json_of(&format!("sessions {uri} --sessions 20 --rounds 1 --seconds 0.1 --json --quiet"));
        assert!(value(&json, "unreliable", "arrived") > 0.0);
    }
}

#[test]
fn a_message_reaches_every_peer() {
    let json = json_of("fanout --self --peers 4 --rate 50 --seconds 0.6 --late-max 100 --json --quiet");
    let rounds = value(&json, "fanout", "sent");
    assert_eq!(value(&json, "fanout", "answered"), rounds * 4.0);
    assert_eq!(value(&json, "last peer of a round", "count"), rounds);
}

#[test]
fn a_ladder_ends_at_its_top_or_at_a_knee() {
    let output = run(
        "ladder --self --from 100 --to 400 --seconds 0.3 --late-max 100 --p99-max 1e9 --json --quiet --halvings 0",
    );
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    if output.status.code() == Some(0) {
        assert!(value(&json, "ladder", "knee") >= 100.0);
    } else {
        // A machine that has no time for us at all.
        assert!(errors_of(&output).contains("no rate holds"), "{}", errors_of(&output));
    }
    assert_eq!(value(&json, "core at 100/s", "unanswered"), 0.0);
}

#[test]
fn a_late_generator_makes_the_run_void() {
    // Nobody sends at the very nanosecond.
    let output = run("latency --self --rate 200 --seconds 0.4 --late-after 0 --late-max 0 --json --quiet");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &json["state"]), (Some(1), &json!("void")));
    assert!(errors_of(&output).contains("late"), "{}", errors_of(&output));
}

#[test]
fn nobody_there_and_the_wrong_key_are_said() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = run(&format!("idle {}", socket.local_addr().unwrap()));
    assert_eq!(nobody.status.code(), Some(1));
    assert!(errors_of(&nobody).contains("no answer"), "{}", errors_of(&nobody));
    assert_eq!(errors_of(&nobody).lines().count(), 1, "{}", errors_of(&nobody));

    let (_first, own) = far("far");
    let (_second, other) = far("far");
    let (id, _) = other.split_once('@').unwrap();
    let (_, address) = own.split_once('@').unwrap();
    let wrong = run(&format!("idle {id}@{address}"));
    assert_eq!(wrong.status.code(), Some(1));
    assert!(errors_of(&wrong).contains("the ID or network is another"), "{}", errors_of(&wrong));
}

#[test]
fn a_target_that_is_not_ours_is_left_alone() {
    let output = run("throughput 192.0.2.1:7117");
    assert_eq!(output.status.code(), Some(1));
    assert!(errors_of(&output).contains("--i-own-this-target"), "{}", errors_of(&output));
}

#[test]
fn a_full_disk_costs_the_report_and_not_the_figures() {
    let output = run("idle --self --seconds 0.2 --json=/dev/full");
    assert_eq!(output.status.code(), Some(1));
    assert!(errors_of(&output).contains("cannot write /dev/full: No space left"), "{}", errors_of(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cpu_far"));
    // Each file that cannot be written is named, and those that can be are.
    let folder = Folder::new("full");
    let output = run(&format!(
        "latency --self --rate 100 --seconds 0.3 --late-max 100 --quiet --html /dev/full --hlog /dev/full --hgrm {}",
        folder.path("a.hgrm")
    ));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(errors_of(&output).matches("cannot write /dev/full").count(), 2, "{}", errors_of(&output));
    assert_eq!(errors_of(&output).lines().count(), 1, "{}", errors_of(&output));
    assert!(folder.read("a.hgrm").contains("#[core at 100/s corrected"));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command("idle --self --seconds 0.2").stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors_of(&output).contains("standard output: No space left"), "{}", errors_of(&output));
}

/// Processes whose parent this is.
fn children_of(parent: u32) -> Vec<String> {
    let wanted = format!("PPid:\t{parent}");
    let is_child = |folder: &PathBuf| {
        fs::read_to_string(folder.join("status"))
            .is_ok_and(|status| status.lines().any(|line| line == wanted))
    };
    let folders = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let name = |folder: PathBuf| folder.file_name().unwrap().to_string_lossy().into_owned();
    folders.filter(is_child).map(name).collect()
}

#[test]
fn a_far_side_that_dies_leaves_what_was_known() {
    for (line, section) in [
        ("throughput --self --seconds 60 --json", "throughput"),
        ("latency --self --rate 300 --seconds 60 --late-max 100 --json", "core at 300/s"),
        ("ladder --self --from 50 --seconds 60 --late-max 100 --json", "core at 50/s"),
        ("handshakes --self --parallel 4 --rounds 1000000 --json", "handshakes"),
        ("sessions --self --sessions 30 --seconds 60 --json", "unreliable"),
        ("dht --self --seconds 60 --json", "find_node"),
    ] {
        let child = command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut near = Running(child);
        let mut progress = BufReader::new(near.0.stderr.take().unwrap()).lines();
        assert!(progress.any(|line| line.unwrap().contains(" arrived")), "there is progress");
        for far in children_of(near.0.id()) {
            assert!(Command::new("kill").args(["-9", &far]).status().unwrap().success());
        }
        let mut output = String::new();
        near.0.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        assert_eq!(near.0.wait().unwrap().code(), Some(1));
        let json: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(json["state"], "partial");
        assert!(json["notes"][0].as_str().unwrap().contains("the far side has ended"), "{}", json["notes"]);
        let figure = match section {
            "throughput" => "goodput",
            "handshakes" | "find_node" => "count",
            "unreliable" => "arrived",
            _ => "answered",
        };
        assert!(value(&json, section, figure) > 0.0);
        assert!(progress.any(|line| line.unwrap().starts_with("dunlin-loadgen: partial: ")));
    }
}

#[test]
fn a_comparison_says_by_its_exit_code() {
    let folder = Folder::new("compare");
    let write = |name: &str, goodput: &[f64], state: &str| {
        let figure = json!({ "value": 0, "unit": "Gbit/s", "values": goodput, "better": "higher" });
        let figures = json!({ "throughput": { "goodput": figure } });
        let run =
            json!({ "schema": "dunlin-loadgen/1", "mode": "throughput", "state": state, "figures": figures });
        fs::write(folder.0.join(name), run.to_string()).unwrap();
    };
    write("plain", &[10.0, 10.5, 9.5], "complete");
    write("same", &[10.2, 9.9, 10.4], "complete");
    write("worse", &[8.0, 8.2, 8.1], "complete");
    write("void", &[8.0], "void");
    fs::write(folder.0.join("text"), "no JSON").unwrap();
    let code = |after: &str, more: &str| {
        run(&format!("compare {} {} {more}", folder.path("plain"), folder.path(after))).status.code()
    };
    assert_eq!((code("same", ""), code("worse", "")), (Some(0), Some(1)));
    assert_eq!(code("worse", "--threshold 30"), Some(0));
    for unfit in ["void", "text", "absent"] {
        assert_eq!(code(unfit, ""), Some(2), "{unfit}");
    }
    assert_eq!(code("same", "--threshold -1"), Some(2));
    assert_eq!(run("compare").status.code(), Some(2));
}
