//! What gets worse is put right at once, and what nobody confirms is put back.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use caliprobe::{
    changing::run::{Fate, Outcome, Settings, Why},
    report::{cleaned::CleanedDocument, document},
};

use super::node::{Around, Node, SECOND_BRIDGE, apply, delete_route, ip, plan_of, settings};

/// Echo requests of ten seconds, one every 10 ms.
const PINGS: u32 = 1000;

/// Another node behind the tunnel, with a pod that answers.
struct Peer(String);

impl Peer {
    fn of(node: &Node) -> Self {
        let peer = Self(format!("cleanup-{}-peer", std::process::id()));
        ip(&format!("netns add {}", peer.0));
        node.ip(&format!("link set tunnel netns {}", peer.0));
        node.ip("address add 10.200.55.192/32 dev tunl0");
        // What leaves for the router is lost at once, and does not wait for its answer.
        node.ip("neighbour add 172.30.10.254 lladdr 02:00:00:00:00:fe dev eth0");
        for line in [
            "link set lo up",
            "link set tunnel up",
            "address add 172.30.10.187/32 dev tunnel",
            "address add 10.200.153.70/32 dev lo",
            "route add 10.200.55.192/32 dev tunnel",
        ] {
            ip(&format!("-n {} {line}", peer.0));
        }
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn a_live_block_that_is_forced_past_the_check_is_back_within_two_seconds() {
    let Some(node) = Node::new("forced") else { return };
    let _peer = Peer::of(&node);
    let before = node.dump();
    let sample = node.sample();
    let plan = plan_of(
        &sample,
        vec![delete_route(&sample, "10.80.0.0/16"), delete_route(&sample, "10.200.153.64/26")],
    );
    let mut pings = node.command("ping");
    let pings = pings
        .args(["-q", "-n", "-i", "0.01", "-W", "1", "-c", &PINGS.to_string(), "10.200.153.70"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ping starts");
    let forced =
        Settings { despite_refusals: true, settle: Duration::from_secs(3), ..settings(node.folder()) };
    let around = Around { root: node.root.path(), at: &mut |_| {} };
    let applied = node.inside(|| apply(&plan, forced, around)).expect("it is forced");

    let Outcome::PutBack(Why::Worse { changes, lost: counted }) = &applied.outcome else {
        panic!("{applied:?}")
    };
    let counted = counted.bare.expect("it is counted") + counted.without_route;
    assert_eq!(changes[0].subject.value, "10.200.153.64/26");
    let away = applied.steps[1].away.expect("how long it was away");
    assert!(away < Duration::from_secs(2), "{away:?}");
    assert_eq!(applied.steps[1].fate, Fate::PutBack);
    node.ensure_is(&before);

    let output = pings.wait_with_output().expect("ping ends");
    let said = String::from_utf8_lossy(&output.stdout);
    let received = said.split(", ").find_map(|part| part.strip_suffix(" received")).expect("a count");
    let lost = PINGS - received.parse::<u32>().expect("a number");
    // What was lost was lost while the route was away, and traffic went on after it.
    let at_most = u32::try_from(away.as_millis() / 10).expect("a number") + 20;
    assert!(lost > 0 && lost <= at_most, "{lost} of {PINGS} lost in {away:?}: {said}");
    // One more or less may have been on its way when it was counted.
    assert!(counted.abs_diff(u64::from(lost)) <= 5, "{counted} counted, {lost} lost: {said}");
    let document = CleanedDocument::of_applied(("", document::Node::default()), applied);
    assert!(
        document.text().contains(&format!("{counted} packets were lost meanwhile")),
        "{}",
        document.text()
    );
}

#[test]
fn what_is_done_is_confirmed_or_put_back_by_itself() {
    let Some(node) = Node::new("confirm") else { return };
    let before = node.dump();
    let apply = || {
        let plan = node.write_plan(&node.plan());
        let within = ["--yes", "--settle", "100ms", "--confirm-within", "3s"];
        let arguments: Vec<&str> = ["cleanup", "apply", &plan].into_iter().chain(within).collect();
        let output = node.caliprobe(&arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("put back in 3 s unless"), "{said}");
        assert!(!node.ip("link show").contains(SECOND_BRIDGE));
    };
    apply();
    let end = Instant::now() + Duration::from_secs(20);
    let late = || node.caliprobe(&["cleanup", "confirm"]);
    let journal = || std::fs::read_to_string(node.folder().join("journal.jsonl")).expect("a journal");
    while !journal().contains("\"undone\"") {
        assert!(Instant::now() < end, "nobody put it back: {}", journal());
        std::thread::sleep(Duration::from_millis(100));
    }
    node.ensure_is(&before);
    assert!(String::from_utf8_lossy(&late().stderr).contains("put back already"));

    apply();
    let confirmed = node.caliprobe(&["cleanup", "confirm"]);
    assert_eq!(confirmed.status.code(), Some(0), "{}", String::from_utf8_lossy(&confirmed.stderr));
    std::thread::sleep(Duration::from_secs(5));
    assert!(!node.ip("link show").contains(SECOND_BRIDGE), "what is confirmed stays");
    assert_eq!(node.caliprobe(&["cleanup", "undo"]).status.code(), Some(0));
    node.ensure_is(&before);
}
