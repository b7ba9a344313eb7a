//! A clean-up of ten steps, killed at each of its boundaries, and undone.

use std::{os::unix::process::ExitStatusExt as _, path::PathBuf, process::Stdio};

use caliprobe::{changing::run::Boundary, plan::Plan};
use nix::sys::signal::{Signal, raise};

use super::node::{Around, Node, SECOND_BRIDGE, apply, settings};

/// What the child is to do: the host's files, and after how many boundaries it dies.
const ROOT: &str = "CLEANUP_TEST_ROOT";
const DIE_AT: &str = "CLEANUP_TEST_DIE_AT";

/// The child: it is this test, run by the others in a process of its own.
#[test]
fn carries_out_and_dies() {
    let (Some(root), Ok(die_at)) = (std::env::var_os(ROOT), std::env::var(DIE_AT)) else { return };
    let root = PathBuf::from(root);
    let die_at: usize = die_at.parse().expect("a number");
    let plan: Plan =
        serde_json::from_slice(&std::fs::read(root.join("plan.json")).expect("the plan")).expect("a plan");
    let mut boundaries = 0;
    let mut at = |_: Boundary| {
        if boundaries == die_at {
            raise(Signal::SIGKILL).expect("it dies here");
        }
        boundaries += 1;
    };
    let folder = root.join("var/lib/caliprobe/cleanup");
    apply(&plan, settings(folder), Around { root: &root, at: &mut at }).expect("it is carried out");
}

/// Whether the child died at its boundary; it did not where there are fewer.
fn dies_at(node: &Node, boundary: usize) -> bool {
    node.write_plan(&node.plan());
    let mut child = node.command(std::env::current_exe().expect("this test"));
    child.args(["--exact", "boundaries::carries_out_and_dies"]);
    child.env(ROOT, node.root.path()).env(DIE_AT, boundary.to_string());
    let status = child.stdout(Stdio::null()).status().expect("the child starts");
    assert!(status.success() || status.signal() == Some(9) || status.code() == Some(137), "{status}");
    !status.success()
}

#[test]
fn killed_anywhere_it_is_undone_as_a_whole_and_once() {
    let Some(node) = Node::new("killed") else { return };
    let before = node.dump();
    let mut boundary = 0;
    while dies_at(&node, boundary) {
        let refused = node.caliprobe(&["cleanup", "apply", &node.plan_path(), "--yes"]);
        assert_eq!(refused.status.code(), Some(2), "boundary {boundary}");
        let undone = node.caliprobe(&["cleanup", "undo"]);
        let said = String::from_utf8_lossy(&undone.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&undone.stderr).into_owned();
        assert_eq!(undone.status.code(), Some(0), "boundary {boundary}: {said}{complaint}");
        node.ensure_is(&before);
        let again = node.caliprobe(&["cleanup", "undo"]);
        assert_eq!(again.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&again.stderr).contains("undone already"));
        boundary += 1;
    }
    // Ten steps with four boundaries each.
    assert_eq!(boundary, 40);
    let links = node.ip("link show");
    assert!(!links.contains(SECOND_BRIDGE), "{links}");
    assert_eq!(node.caliprobe(&["cleanup", "undo"]).status.code(), Some(0));
    node.ensure_is(&before);
}
