//! The situation of the article that this program follows: a route table and an `ifconfig` before anything was
//! deleted, as they stand there.

use std::process::Command;

use serde_json::Value;

const ARTICLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/article/");

fn run(input: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
    command.arg("check").args(arguments).arg("--input").arg(format!("{ARTICLE}{input}"));
    let output = command.env_remove("CALIPROBE_OUTPUT").output().expect("caliprobe starts");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn before_the_deletion_every_block_is_lost_and_the_bridges_are_not_to_blame() {
    let (code, text) = run("paas-187.txt", &[]);
    assert_eq!(code, Some(1));
    assert!(!text.contains("docker0"), "{text}");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("article", text);
    });
    let (_, document) = run("paas-187.txt", &["-o", "json"]);
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let findings: Vec<String> = document["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|finding| {
            let word = |key: &str| finding[key].as_str().unwrap_or("?").to_owned();
            let subject = finding["subject"]["value"].as_str().unwrap_or("?").to_owned();
            format!("{} {} {} {subject}", word("cause"), word("severity"), word("certainty"))
        })
        .collect();
    assert_eq!(
        findings,
        [
            "block-route-missing warning inferred paas-187",
            "stale-bridge info inferred br-1691e1aaa0bf",
            "stale-bridge info inferred br-1d6d3edc38f7",
            "stale-interface info inferred cali980e384bbd4",
        ]
    );
    assert_eq!(document["next"][0]["command"], "calicoctl node status");
}

#[test]
fn the_healthy_table_gives_no_finding() {
    let (code, document) = run("paas-188.txt", &["-o", "json"]);
    assert_eq!(code, Some(3), "a table alone is not enough to call a node healthy");
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["findings"].as_array().map(Vec::len), Some(0));
}
