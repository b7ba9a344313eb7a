//! What is refused before anything is changed: exit code 2, a sentence, and the node as it was.

use std::process::{Child, Command, Output, Stdio};

use caliprobe::plan::{Action, Plan};
use nix::sys::signal::Signal;

use super::node::{FIRST_BRIDGE, Node, delete_route, link, plan_of, step};

/// Fails unless it was refused with these words and nothing has changed.
fn is_refused(node: &Node, before: &serde_json::Value, output: &Output, words: &str) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains(words), "{words}: {complaint}{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    node.ensure_is(before);
}

#[test]
fn a_plan_that_takes_what_is_needed_is_refused_whoever_wrote_it() {
    let Some(node) = Node::new("needed") else { return };
    let before = node.dump();
    let sample = node.sample();
    let delete = |destination: &str| delete_route(&sample, destination);
    let device = |name: &str| step(Action::SetLinkDown { link: link(&sample, name) }, name);
    for (slipped_in, words) in [
        (delete("10.200.153.64/26"), "pods of 172.30.10.187 are behind it"),
        (delete("0.0.0.0/0"), "it is a default route"),
        (delete("172.30.10.0/24"), "this node's own address is in it"),
        (device("lo"), "lo is needed"),
        (device("eth0"), "eth0 is needed"),
        (device("tunl0"), "tunl0 is needed"),
    ] {
        let Plan { mut steps, .. } = node.plan();
        steps.insert(3, slipped_in);
        let plan = node.write_plan(&plan_of(&sample, steps));
        is_refused(&node, &before, &node.caliprobe(&["cleanup", "apply", &plan, "--yes"]), words);
    }
}

#[test]
fn a_plan_of_another_time_or_node_is_refused() {
    let Some(node) = Node::new("other") else { return };
    let before = node.dump();
    let plan = node.plan();
    for (plan, words) in [
        (Plan { node: "paas-187".to_owned(), ..plan.clone() }, "the plan is of node paas-187"),
        (Plan { boot_id: "another".to_owned(), ..plan.clone() }, "started anew"),
        (Plan { network_namespace: 1, ..plan.clone() }, "another network namespace"),
        (Plan { time: "2018-06-27T08:12:13Z".to_owned(), ..plan.clone() }, "make it anew"),
        (Plan { steps: Vec::new(), ..plan.clone() }, "nothing to do"),
    ] {
        let plan = node.write_plan(&plan);
        is_refused(&node, &before, &node.caliprobe(&["cleanup", "apply", &plan, "--yes"]), words);
    }
    let plan = node.write_plan(&plan);
    is_refused(&node, &before, &node.caliprobe(&["cleanup", "apply", &plan]), "--yes");
    is_refused(&node, &before, &node.caliprobe(&["cleanup", "confirm"]), "no journal");
    is_refused(&node, &before, &node.caliprobe(&["cleanup", "undo"]), "no journal");
    let mut read_only = node.command(env!("CARGO_BIN_EXE_caliprobe"));
    read_only.env("CALIPROBE_READ_ONLY", "1").args(["cleanup", "apply", &plan, "--yes"]);
    is_refused(&node, &before, &read_only.output().expect("ip starts"), "CALIPROBE_READ_ONLY");
    let shown = node.caliprobe(&["cleanup", "apply", &plan, "--dry-run"]);
    assert_eq!(shown.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("10 steps; nothing was changed"));
    node.ensure_is(&before);
    assert!(!node.folder().exists());
}

#[test]
fn what_has_changed_since_the_plan_is_refused() {
    let Some(node) = Node::new("changed") else { return };
    for (change, back, words) in [
        (
            "route del 10.80.0.0/16",
            "route add blackhole 10.80.0.0/16 proto static",
            "to 10.80.0.0/16 is as the plan",
        ),
        (
            "route replace 10.77.0.0/16 via 172.18.0.9 dev br-1d6d3edc38f7 proto static metric 50 tos 0x10 src 172.18.0.2 mtu 1401 advmss 1300",
            "route replace 10.77.0.0/16 via 172.18.0.9 dev br-1d6d3edc38f7 proto static metric 50 tos 0x10 src 172.18.0.2 mtu 1400 advmss 1300",
            "to 10.77.0.0/16 is as the plan",
        ),
        ("link add port0 master br-1d6d3edc38f7 type veth peer name port1", "link del port0", "it has ports"),
        (
            "link set br-1691e1aaa0bf mtu 1400",
            "link set br-1691e1aaa0bf mtu 1500",
            "br-1691e1aaa0bf is not as planned any more",
        ),
    ] {
        let plan = node.write_plan(&node.plan());
        node.ip(change);
        let before = node.dump();
        is_refused(&node, &before, &node.caliprobe(&["cleanup", "apply", &plan, "--yes"]), words);
        node.ip(back);
    }
}

#[test]
fn a_route_that_came_since_keeps_its_device() {
    let Some(node) = Node::new("came") else { return };
    let plan = node.write_plan(&node.plan());
    node.ip("route add 192.0.2.0/24 via 172.18.0.7 dev br-1d6d3edc38f7");
    let before = node.dump();
    let output = node.caliprobe(&["cleanup", "apply", &plan, "--yes", "--settle", "100ms"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("STOPPED"), "{said}");
    assert!(said.contains(&format!("the route to 192.0.2.0/24 leads by {FIRST_BRIDGE}")), "{said}");
    node.ensure_is(&before);
}

#[test]
fn without_room_for_a_journal_nothing_is_changed() {
    let Some(node) = Node::new("full") else { return };
    let before = node.dump();
    let plan = node.write_plan(&node.plan());
    let folder = node.folder();
    std::fs::create_dir_all(&folder).expect("a folder");
    for size in ["4k", "40k", "120k"] {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(&folder)
            .status()
            .expect("mount starts");
        assert!(mount.success());
        let output = node.caliprobe(&["cleanup", "apply", &plan, "--yes"]);
        let left = std::fs::read_dir(&folder).expect("the folder").count();
        assert!(Command::new("umount").arg(&folder).status().expect("umount starts").success());
        is_refused(&node, &before, &output, "no room for the");
        assert_eq!(left, 1, "the lock alone is left");
    }
}

#[test]
fn who_may_not_change_routes_changes_nothing() {
    let Some(node) = Node::new("unprivileged") else { return };
    let before = node.dump();
    let plan = node.write_plan(&node.plan());
    let mut command = node.command("capsh");
    let caliprobe = format!(
        "{} --root {} --pool 10.200.0.0/16 cleanup apply {plan} --yes",
        env!("CARGO_BIN_EXE_caliprobe"),
        node.root.path().display()
    );
    let output = command.args(["--drop=cap_net_admin", "--", "-c", &caliprobe]).output().expect("capsh");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("not permitted") && said.contains("everything is as before"), "{said}");
    node.ensure_is(&before);
}

#[test]
fn a_signal_ends_it_with_everything_put_back() {
    let Some(node) = Node::new("signal") else { return };
    let before = node.dump();
    let plan = node.write_plan(&node.plan());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut command = node.command(env!("CARGO_BIN_EXE_caliprobe"));
        command.arg("--root").arg(node.root.path());
        command.args(["--pool", "10.200.0.0/16", "cleanup", "apply", &plan, "--yes", "--settle", "1m"]);
        let child = Ended(Some(command.stdout(Stdio::piped()).spawn().expect("ip starts")));
        // `ip netns exec` becomes the command that it runs.
        let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process"));
        let journal = node.folder().join("journal.jsonl");
        let begun = || {
            std::fs::read_to_string(&journal)
                .is_ok_and(|text| text.contains("\"done\"") && !text.contains("undone"))
        };
        while !begun() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let second = node.caliprobe(&["cleanup", "undo"]);
        assert!(String::from_utf8_lossy(&second.stderr).contains("another caliprobe"));
        nix::sys::signal::kill(process, signal).expect("it lives");
        let output = child.output();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(signal.as_str()), "{said}");
        node.ensure_is(&before);
    }
}

/// A process that ends with its test, whatever that comes to.
struct Ended(Option<Child>);

impl Ended {
    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    fn output(mut self) -> Output {
        self.0.take().expect("a process").wait_with_output().expect("it ends")
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
