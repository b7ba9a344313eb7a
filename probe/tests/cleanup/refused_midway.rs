//! What goes wrong in the midst of a clean-up: the node is as before, or a journal says what is left.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use caliprobe::{
    changing::run::{Applied, Boundary, Fate, Outcome, Settings, Why},
    plan::Action,
};
use caps::{CapSet, Capability};
use nix::sys::signal::{Signal, kill};

use super::node::{
    Around, FIRST_BRIDGE, Node, SECOND_BRIDGE, apply, delete_route, link, plan_of, settings, step,
};

fn carried_out(node: &Node, at: &mut (dyn FnMut(Boundary) + Send)) -> Applied {
    let plan = node.plan();
    let around = Around { root: node.root.path(), at };
    node.inside(|| apply(&plan, settings(node.folder()), around)).expect("it is begun")
}

/// Of the calling thread: the kernel refuses what needs it.
fn may_change_networks(may: bool) {
    let change = if may { caps::raise } else { caps::drop };
    change(None, CapSet::Effective, Capability::CAP_NET_ADMIN).expect("a capability");
}

#[test]
fn what_the_kernel_refuses_midway_is_put_back() {
    let Some(node) = Node::new("midway") else { return };
    let before = node.dump();
    let applied = carried_out(&node, &mut |boundary| match boundary {
        Boundary::BeforeChange(7) => may_change_networks(false),
        Boundary::BeforePuttingBack(_) => may_change_networks(true),
        _ => {}
    });
    let Outcome::PutBack(Why::Stopped(why)) = &applied.outcome else { panic!("{applied:?}") };
    assert!(why.contains("cannot set br-1691e1aaa0bf down") && why.contains("not permitted"), "{why}");
    assert_eq!(applied.steps[6].fate, Fate::PutBack);
    assert_eq!(applied.steps[8].fate, Fate::NotReached);
    node.ensure_is(&before);
    assert!(String::from_utf8_lossy(&node.caliprobe(&["cleanup", "undo"]).stderr).contains("undone already"));
}

#[test]
fn what_cannot_be_put_back_just_then_is_left_to_undo() {
    let Some(node) = Node::new("left") else { return };
    let before = node.dump();
    let applied = carried_out(&node, &mut |boundary| {
        if boundary == Boundary::BeforeChange(9) {
            may_change_networks(false);
        }
    });
    let Outcome::Left { left, .. } = &applied.outcome else { panic!("{applied:?}") };
    assert!(left.contains("not permitted"), "{left}");
    let sample = node.sample();
    let other = plan_of(&sample, vec![delete_route(&sample, "172.30.10.0/24")]);
    let refused = node.caliprobe(&["cleanup", "apply", &node.write_plan(&other), "--yes"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let undone = node.caliprobe(&["cleanup", "undo"]);
    assert_eq!(undone.status.code(), Some(0), "{undone:?}");
    node.ensure_is(&before);
}

#[test]
fn a_device_that_comes_into_use_midway_stays() {
    let Some(node) = Node::new("use") else { return };
    let before = node.dump();
    let applied = carried_out(&node, &mut |boundary| {
        if boundary == Boundary::Done(8) {
            node.ip(&format!("link add port0 master {SECOND_BRIDGE} type veth peer name port1"));
        }
    });
    let Outcome::PutBack(Why::Stopped(why)) = &applied.outcome else { panic!("{applied:?}") };
    assert!(why.contains(&format!("{SECOND_BRIDGE} has a port now: port0")), "{why}");
    node.ip("link del port0");
    node.ensure_is(&before);
}

#[test]
fn what_somebody_else_takes_away_is_not_put_back_for_them() {
    let Some(node) = Node::new("else") else { return };
    let applied = carried_out(&node, &mut |boundary| {
        if boundary == Boundary::BeforeChange(3) {
            node.ip("route del 10.80.0.0/16");
        }
    });
    let Outcome::PutBack(Why::Stopped(why)) = &applied.outcome else { panic!("{applied:?}") };
    assert!(why.contains("cannot delete 10.80.0.0/16"), "{why}");
    assert_eq!(applied.steps[3].fate, Fate::NotReached);
    assert!(node.ip("route show").contains("10.78.0.0/16"));
    assert!(!node.ip("route show").contains("10.80.0.0/16"));
}

#[test]
fn a_journal_that_is_left_has_an_exit_code_of_its_own() {
    let Some(node) = Node::new("code") else { return };
    let sample = node.sample();
    let plan = node.write_plan(&plan_of(&sample, vec![delete_route(&sample, "10.77.0.0/16")]));
    let mut command = node.command(env!("CARGO_BIN_EXE_caliprobe"));
    command.arg("--root").arg(node.root.path());
    command.args(["--pool", "10.200.0.0/16", "cleanup", "apply", &plan, "--yes", "--settle", "1m"]);
    let child = command.stdout(Stdio::piped()).spawn().expect("ip starts");
    let end = Instant::now() + Duration::from_secs(20);
    let journal = || std::fs::read_to_string(node.folder().join("journal.jsonl")).unwrap_or_default();
    while !journal().contains("\"done\"") {
        assert!(Instant::now() < end, "it does not begin: {}", journal());
        std::thread::sleep(Duration::from_millis(20));
    }
    // A route by a device that is down is refused.
    node.ip(&format!("link set {FIRST_BRIDGE} down"));
    let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process"));
    kill(process, Signal::SIGTERM).expect("it lives");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.starts_with("NOT PUT BACK") && said.contains("`caliprobe cleanup undo` tries again"),
        "{said}"
    );
    assert_eq!(node.caliprobe(&["cleanup", "undo"]).status.code(), Some(4));
    node.ip(&format!("link set {FIRST_BRIDGE} up"));
    assert_eq!(node.caliprobe(&["cleanup", "undo"]).status.code(), Some(0));
    assert!(node.ip("route show").contains("10.77.0.0/16"));
}

#[test]
fn an_interface_that_cannot_be_made_again_goes_last_and_is_said_to_be_gone() {
    const LEFTOVER: &str = "cali980e384bbd4";
    let Some(node) = Node::new("veth") else { return };
    node.ip(&format!("link add {LEFTOVER} type veth peer name inside"));
    let sample = node.sample();
    let deleted = Action::DeleteLink { link: link(&sample, LEFTOVER), addresses: Vec::new() };
    let plan = plan_of(&sample, vec![step(deleted, LEFTOVER), delete_route(&sample, "10.80.0.0/16")]);
    let with = Settings { include_irreversible: true, despite_refusals: true, ..settings(node.folder()) };
    let around = Around { root: node.root.path(), at: &mut |_| {} };
    let applied = node.inside(|| apply(&plan, with, around)).expect("it is carried out");
    assert!(matches!(applied.outcome, Outcome::Done), "{applied:?}");
    assert_eq!(applied.steps[1].step.subject.value, LEFTOVER, "it is the last");
    assert!(!node.ip("link show").contains(LEFTOVER));
    let undone = node.caliprobe(&["cleanup", "undo"]);
    let said = String::from_utf8_lossy(&undone.stdout);
    assert_eq!(undone.status.code(), Some(1), "{said}");
    assert!(said.starts_with("UNDONE IN PART") && said.contains("cannot be made again"), "{said}");
    assert!(node.ip("route show").contains("10.80.0.0/16"));
}

#[test]
fn a_bridge_comes_back_with_its_own_settings() {
    let Some(node) = Node::new("settings") else { return };
    let setting = format!("net.ipv4.conf.{FIRST_BRIDGE}.rp_filter");
    let sysctl = |arguments: &[&str]| {
        let output = node.command("sysctl").args(arguments).output().expect("sysctl starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    sysctl(&["-qw", &format!("{setting}=2"), &format!("net.ipv6.conf.{FIRST_BRIDGE}.disable_ipv6=1")]);
    let applied = carried_out(&node, &mut |_| {});
    assert!(matches!(applied.outcome, Outcome::Done), "{applied:?}");
    assert_eq!(node.caliprobe(&["cleanup", "undo"]).status.code(), Some(0));
    assert_eq!(sysctl(&["-n", &setting]), "2");
    assert_eq!(sysctl(&["-n", &format!("net.ipv6.conf.{FIRST_BRIDGE}.disable_ipv6")]), "1");
}
