//! The command itself, on files.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use super::{
    made_up::{Plan, block, name},
    made_up_nodes,
};

fn run(arguments: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
    command.arg("cluster").args(paths).args(arguments);
    command.env_remove("CALIPROBE_OUTPUT").env_remove("CALIPROBE_PROMETHEUS_URL");
    command.output().expect("it runs")
}

fn document(paths: &[&Path]) -> (Option<i32>, Value) {
    let output = run(&["-o", "json"], paths);
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("a document"))
}

fn saved(plan: Plan) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for sample in made_up_nodes(plan) {
        let file = folder.path().join(format!("{}.json", sample.node.hostname));
        fs::write(file, serde_json::to_vec(&sample).unwrap()).unwrap();
    }
    folder
}

#[test]
fn exit_codes_tell_the_verdicts_apart() {
    let folder = saved(Plan::mesh(4, 2));
    assert_eq!(document(&[folder.path()]).0, Some(0));
    assert_eq!(run(&["-q"], &[folder.path()]).stdout, b"HEALTHY  4 nodes agree with each other\n");
    let one = folder.path().join("node-001.json");
    let (exit, alone) = document(&[&one]);
    assert_eq!((exit, alone["verdict"].as_str()), (Some(3), Some("unknown")));
    let mut broken = made_up_nodes(Plan::mesh(4, 2)).remove(1);
    broken.routes.retain(|route| route.destination != block(3));
    fs::write(&one, serde_json::to_vec(&broken).unwrap()).unwrap();
    let (exit, document) = document(&[folder.path()]);
    assert_eq!(exit, Some(1));
    assert_eq!(document["groups"][0]["cause"], "block-route-missing");
    assert_eq!(document["groups"][0]["findings"][0]["node"], name(1));
    assert_eq!(document["nodes"][0]["check"], "healthy");
    assert_eq!(run(&[], &[Path::new("/nonexistent")]).status.code(), Some(2));
    assert_eq!(run(&[], &[]).status.code(), Some(2));
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_judged() {
    let folder = saved(Plan::mesh(5, 2));
    let path = |file: &str| folder.path().join(file);
    let whole = fs::read(path("node-001.json")).unwrap();
    fs::write(path("node-001.json"), &whole[..whole.len() / 2]).unwrap();
    fs::write(path("node-002.json"), "[".repeat(100_000)).unwrap();
    let deep = format!("{{\"routes\":{}", "[".repeat(100_000));
    fs::write(path("node-003.json"), deep).unwrap();
    let (exit, document) = document(&[folder.path()]);
    assert_eq!(exit, Some(0), "{document}");
    assert_eq!(document["nodes"].as_array().map(Vec::len), Some(2));
    let not_seen = document["not_seen"].to_string();
    for file in ["node-001.json", "node-003.json"] {
        assert!(not_seen.contains(file), "{not_seen}");
    }
    for node in ["node-000.json", "node-004.json"] {
        fs::write(path(node), "{}").unwrap();
    }
    let output = run(&[], &[folder.path()]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end().lines().count(), 1);
}

#[test]
fn a_folder_of_pasted_outputs_is_held_against_a_snapshot() {
    let folder = saved(Plan::mesh(3, 2));
    let pasted = folder.path().join("node-009");
    fs::create_dir(&pasted).unwrap();
    let routes = "default via 172.30.10.254 dev eth0\n\
        172.30.10.0/24 dev eth0 proto kernel scope link src 172.30.10.100\n\
        blackhole 10.200.4.128/25 proto bird\n\
        10.200.0.0/25 via 172.30.10.1 dev tunl0 proto bird onlink\n\
        10.200.0.128/25 via 172.30.10.2 dev tunl0 proto bird onlink\n\
        10.200.1.0/25 via 172.30.10.2 dev tunl0 proto bird onlink\n";
    fs::write(pasted.join("ip-route.txt"), routes).unwrap();
    let (exit, document) = document(&[folder.path()]);
    assert_eq!(exit, Some(1));
    let astray = &document["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["cause"] == "block-owner-conflict")
        .expect("the way to another node is found")["findings"][0];
    assert_eq!(astray["node"], "node-009");
    assert!(astray["summary"].as_str().unwrap().contains("leads to node-002 (172.30.10.2) instead"));
    assert_eq!(astray["certainty"], "inferred");
}
