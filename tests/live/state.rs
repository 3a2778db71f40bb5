//! Nodes of a network as people run them: speaking, listening, finding, and what they remember after a restart.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Ended, Node, Process, run, wait_until};
use crate::scratch::Scratch;

/// A node with a folder of its own.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) node: Node,
}

pub(crate) fn start(scratch: &Scratch, name: &'static str, more: &[&str]) -> Member {
    let common = ["node", "--listen", "127.0.0.1:0", "--cores", "1", "--io", "mmsg", "--network", "live"];
    let node = Node::start(scratch, &[&common[..], &["--state", name], more].concat());
    Member { name, node }
}

impl Member {
    pub(crate) fn id(&self) -> &str {
        self.node.uri.strip_prefix("dunlin://").unwrap().split_once('@').unwrap().0
    }

    pub(crate) fn command(&self, scratch: &Scratch, arguments: &[&str]) -> Ended {
        run(scratch, &[arguments, &["--state", self.name]].concat())
    }

    /// The IDs of the nodes that it knows.
    fn table(&self, scratch: &Scratch) -> Vec<String> {
        let listed = self.command(scratch, &["dht", "table", "--json"]);
        let lines =
            listed.assert_code(0).stdout.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|node| node["id"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub(crate) fn wait_until_known(&self, scratch: &Scratch, others: &[&Member]) {
        let what = format!("{} knows the others", self.name);
        wait_until(&what, || {
            let known = self.table(scratch);
            others.iter().all(|other| known.iter().any(|id| id == other.id()))
        });
    }
}

/// Three that know each other, two by one seed.
pub(crate) fn three(scratch: &Scratch) -> [Member; 3] {
    let first = start(scratch, "first", &[]);
    let seed = ["--seed", &first.node.uri];
    let (second, third) = (start(scratch, "second", &seed), start(scratch, "third", &seed));
    first.wait_until_known(scratch, &[&second, &third]);
    second.wait_until_known(scratch, &[&first, &third]);
    third.wait_until_known(scratch, &[&first, &second]);
    [first, second, third]
}

fn listen(scratch: &Scratch, member: &Member, more: &[&str]) -> Process {
    let arguments = [&["listen", "--json", "--state", member.name], more].concat();
    let mut listening = Process::dunlin(scratch, &arguments);
    assert_eq!(listening.line(), r#"{"event":"listening"}"#);
    listening
}

#[test]
fn words_reach_those_who_listen() {
    let scratch = Scratch::new("words");
    let [first, second, third] = three(&scratch);
    let all = listen(&scratch, &third, &["-c", "4"]);
    let some = listen(&scratch, &third, &["--topic", "weather", "-c", "1"]);
    let file = scratch.write("file", &[0xff, 7]);
    second.command(&scratch, &["speak", third.id(), "good day\u{1b}[31m"]).assert_code(0);
    // A node that is not asked for by its ID alone is called first.
    let said = first.command(&scratch, &["whisper", &third.node.uri, "psst", "--topic", "secrets", "--json"]);
    assert_eq!(said.assert_code(0).events("taken")[0]["peer"], third.id());
    first.command(&scratch, &["speak", third.id(), &format!("@{file}")]).assert_code(0);
    second.command(&scratch, &["speak", third.id(), "@@ rain", "--topic", "weather"]).assert_code(0);
    let heard = |ended: &Ended| {
        let told = ended.events("heard").into_iter();
        let parts = told.map(|one| ["from", "how", "topic", "value"].map(|part| one[part].clone()));
        parts.collect::<Vec<_>>()
    };
    let rain = [json!(second.id()), json!("speak"), json!("weather"), json!("@ rain")];
    let (all, some) = (all.wait(), some.wait());
    assert_eq!(heard(some.assert_code(0)), std::slice::from_ref(&rain));
    assert_eq!(
        heard(all.assert_code(0)),
        [
            [json!(second.id()), json!("speak"), Value::Null, json!("good day\u{1b}[31m")],
            [json!(first.id()), json!("whisper"), json!("secrets"), json!("psst")],
            [json!(first.id()), json!("speak"), Value::Null, json!({ "hex": "ff07" })],
            rain,
        ]
    );
    // For people, what a peer says cannot move the cursor.
    let mut shown = Process::dunlin(&scratch, &["listen", "--state", "third", "-c", "1"]);
    wait_until("it listens", || {
        second.command(&scratch, &["speak", third.id(), "a\u{1b}[31m\nb"]).assert_code(0);
        !shown.is_running()
    });
    let shown = shown.wait();
    assert_eq!(shown.assert_code(0).stdout, [format!(r#"{} speak: "a\u{{1b}}[31m\nb""#, second.id())]);
}

#[test]
fn a_listener_ends_with_its_node_and_with_a_signal() {
    let scratch = Scratch::new("listeners");
    let only = start(&scratch, "only", &[]);
    let first = listen(&scratch, &only, &[]);
    let more: Vec<Process> = (0..4).map(|_| listen(&scratch, &only, &[])).collect();
    let refused = only.command(&scratch, &["listen"]);
    assert!(refused.assert_code(1).error().contains("5 listeners are there already"), "{refused:?}");
    only.command(&scratch, &["status"]).assert_code(0);
    first.signal(Signal::INT);
    first.wait().assert_code(0);
    only.node.stop().assert_code(0);
    for listener in more {
        let ended = listener.wait();
        assert!(ended.assert_code(1).error().contains("the node has ended"), "{ended:?}");
    }
}

#[test]
fn nodes_are_found_and_what_is_wrong_is_said() {
    let scratch = Scratch::new("find");
    let [first, second, third] = three(&scratch);
    let found = second.command(&scratch, &["dht", "find", third.id()]);
    assert_eq!(found.assert_code(0).stdout, std::slice::from_ref(&third.node.uri));
    let found = second.command(&scratch, &["dht", "find", third.id(), "--json"]);
    let told: Value = serde_json::from_str(&found.assert_code(0).stdout[0]).unwrap();
    assert_eq!((&told["found"]["id"], &told["closest"][0]["id"]), (&json!(third.id()), &json!(third.id())));
    let status = second.command(&scratch, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status.assert_code(0).stdout[0]).unwrap();
    assert_eq!((&status["known_nodes"], &status["store"]["trouble"]), (&json!(2), &Value::Null));

    let nobody = run(&scratch, &["key", "new", "--key", "nobody"]).assert_code(0).stdout[0].clone();
    let missed = second.command(&scratch, &["dht", "find", &nobody]);
    assert!(missed.assert_code(1).error().contains("nobody knows this node"), "{missed:?}");
    let missed = second.command(&scratch, &["speak", &nobody, "hello"]);
    assert!(missed.assert_code(1).error().contains(&nobody), "{missed:?}");
    second.command(&scratch, &["dht", "find", "rubbish"]).assert_code(2);
    second.command(&scratch, &["whisper", "no:such:peer", "hello"]).assert_code(2);
    second.command(&scratch, &["speak", first.id(), &"x".repeat(100_000)]).assert_code(2);
    second.command(&scratch, &["speak", first.id(), "@/nonexistent"]).assert_code(1);
    let own = second.command(&scratch, &["speak", &second.node.uri, "hello"]);
    assert!(!own.assert_code(1).error().is_empty(), "{own:?}");
}

/// A node of the network enters itself in its roll; whoever comes and knows one node has its links from there.
#[test]
fn links_come_from_the_roll() {
    let scratch = Scratch::new("roll");
    let [first, second, third] = three(&scratch);
    let status = |member: &Member| {
        let status = member.command(&scratch, &["status", "--json"]);
        serde_json::from_str::<Value>(&status.assert_code(0).stdout[0]).unwrap()
    };
    wait_until("all are in the roll", || status(&first)["values"]["roll"] == json!(3));
    // Nobody else can open its links for whoever says that it is elsewhere.
    let config = scratch.write("late.toml", b"[network]\nadvertise = [\"127.0.0.1:1\"]\n");
    // A machine that is very busy may answer later than whoever comes waits for it: the next one has better luck.
    wait_until("somebody has its links from there", || {
        let seed = ["--ephemeral", "--config", &config, "--seed", &first.node.uri];
        let late = start(&scratch, "late", &seed);
        let mut links = Vec::new();
        wait_until("it has links", || {
            let listed = late.command(&scratch, &["dht", "table", "--json"]);
            let lines = &listed.assert_code(0).stdout;
            let nodes = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
            links = nodes.filter_map(|node| node["link"].as_str().map(str::to_owned)).collect();
            !links.is_empty()
        });
        assert!(links.iter().all(|source| source == "roll" || source == "table"), "{links:?}");
        late.node.stop().assert_code(0);
        links.iter().any(|source| source == "roll")
    });
    let text = second.command(&scratch, &["status"]).assert_code(0).stdout.join("\n");
    assert!(text.contains("rumours    ") && text.contains("nodes in the roll"), "{text}");
    wait_until("others have announced themselves", || status(&first)["rumours"]["taken"].as_u64() > Some(0));
    assert_eq!(status(&third)["values"]["values"], json!(0));
    third.command(&scratch, &["dht", "put", "k", "v"]).assert_code(0);
    wait_until("it keeps the value", || {
        let values = &status(&third)["values"];
        values["values"] == json!(1) && values["bytes"].as_u64() > Some(0)
    });
}

/// Without a seed and without a memory a node says what it waits for; with either it does not.
#[test]
fn a_node_without_seeds_says_what_it_waits_for() {
    let scratch = Scratch::new("no-seeds");
    let hint = "waits until another calls it";
    let first = start(&scratch, "first", &[]);
    let second = start(&scratch, "second", &["--seed", &first.node.uri]);
    second.wait_until_known(&scratch, &[&first]);
    first.wait_until_known(&scratch, &[&second]);
    wait_until("it has written the other down", || {
        let status = first.command(&scratch, &["status", "--json"]);
        let status: Value = serde_json::from_str(&status.assert_code(0).stdout[0]).unwrap();
        status["store"]["rows"].as_u64() >= Some(2)
    });
    assert!(!second.node.stop().assert_code(0).stderr.contains(hint), "it has a seed");
    let ended = first.node.stop();
    assert!(
        ended.assert_code(0).stderr.contains(hint) && ended.stderr.contains("--seed dunlin://"),
        "{ended:?}"
    );
    let again = start(&scratch, "first", &[]);
    assert!(!again.node.stop().assert_code(0).stderr.contains(hint), "it remembers one");
}

/// Stopped or killed, a node comes back to its network without being told of anybody.
#[test]
fn a_node_remembers_its_network() {
    let scratch = Scratch::new("remembers");
    let [first, second, mut third] = three(&scratch);
    let kept = |member: &Member| {
        let status = member.command(&scratch, &["status", "--json"]);
        let status: Value = serde_json::from_str(&status.assert_code(0).stdout[0]).unwrap();
        status["store"]["rows"].as_u64().unwrap()
    };
    wait_until("it has written down the others", || kept(&third) >= 2);
    third.node.process.kill();
    let third = start(&scratch, "third", &[]);
    third.wait_until_known(&scratch, &[&first, &second]);

    second.node.stop().assert_code(0);
    let second = start(&scratch, "second", &[]);
    second.wait_until_known(&scratch, &[&first, &third]);
    let ended = second.node.stop();
    assert!(ended.assert_code(0).stderr.contains("rows of the network are remembered"), "{ended:?}");
}

#[test]
fn a_store_is_one_nodes_alone_and_an_ephemeral_node_has_none() {
    let scratch = Scratch::new("one-store");
    let member = start(&scratch, "mine", &[]);
    assert!(scratch.at("mine/store").is_file());
    let more = ["node", "--listen", "127.0.0.1:0", "--state", "mine"];
    let second = run(&scratch, &more);
    let error = second.assert_code(1).error();
    assert!(error.contains("mine/store") && error.contains("--state"), "{error}");
    let holder = format!("process {} has this store", member.node.process.number());
    assert!(error.contains(&holder) || error.contains("another process has this store"), "{error}");
    member.node.stop().assert_code(0);

    // A node with another key has another store.
    let other = Node::start(&scratch, &["node", "--listen", "127.0.0.1:0", "--key", "other"]);
    run(&scratch, &["status", "--key", "other"]).assert_code(0);
    assert!(scratch.at("other.store").is_file());
    other.stop().assert_code(0);

    let passing = start(&scratch, "passing", &["--ephemeral"]);
    let again = start(&scratch, "again", &["--ephemeral"]);
    assert_ne!(passing.id(), again.id());
    assert_eq!(scratch.list("passing"), ["socket", "socket.lock"], "nothing but where it is asked");
    passing.node.stop().assert_code(0);
    assert!(!Path::new(&scratch.at("passing/socket")).exists());

    std::fs::write(scratch.at("mine/store"), "rubbish that is no store").unwrap();
    let damaged = run(&scratch, &more);
    assert!(damaged.assert_code(1).error().contains("not a store"), "{damaged:?}");
}
