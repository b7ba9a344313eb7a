//! Outputs that nobody pastes in good faith: they are judged, or refused in one line, and never cost more than they weigh.

use std::{
    fmt::Write as _,
    fs,
    process::{Command, Output},
};

const BEGIN: &str =
    "default via 10.0.0.1 dev eth0\n10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.5\n";
const ROWS: u32 = 100_000;

fn run(command: &str, texts: &[String]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    for (place, text) in texts.iter().enumerate() {
        let node = folder.path().join(format!("node{place}"));
        fs::create_dir(&node).expect("a folder");
        fs::write(node.join("outputs.txt"), text).expect("a file");
    }
    let mut program = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
    program.args([command, "-q", "--input"]).arg(folder.path()).env_remove("CALIPROBE_OUTPUT");
    program.output().expect("caliprobe starts")
}

/// One line, and an exit code that says what became of it.
fn first_line(texts: &[String]) -> String {
    let output = run("check", texts);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{:?}", output.status);
    // Each node by itself there, and no node next to another.
    for command in ["routes", "peers"].iter().filter(|_| texts.len() == 1) {
        assert_eq!(run(command, texts).status.code(), Some(0), "{command}");
    }
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn table(row: impl Fn(u32, std::net::Ipv4Addr) -> String) -> String {
    let mut text = BEGIN.to_owned();
    for number in 0..ROWS {
        let _ = writeln!(text, "{}", row(number, (0xac10_0000 + number * 64).into()));
    }
    text
}

#[test]
fn a_hundred_thousand_blocks_are_judged() {
    let text = table(|number, block| {
        let [_, second, third, fourth] = number.to_be_bytes();
        format!("{block}/26 via 11.{second}.{third}.{fourth} dev tunl0 proto bird onlink")
    });
    let other = text.replace(" via 11.0.", " via 11.7.").replace("10.0.0.5", "10.0.0.6");
    assert!(first_line(std::slice::from_ref(&text)).starts_with("PROBLEMS"), "the next hops are public");
    first_line(&[text, other]);
}

#[test]
fn a_hundred_thousand_pods_and_refusals_are_judged() {
    let pods = table(|number, address| format!("{address} dev cali{number:011x} scope link"));
    first_line(&[pods]);
    let refused = table(|_, block| format!("unreachable {block}/26 proto bird"));
    first_line(&[format!("172.16.0.0/12 via 10.0.0.6 dev tunl0 proto bird\n{refused}")]);
}

#[test]
fn tables_that_contradict_each_other_are_several_looks() {
    let again: Vec<String> =
        (0..3000).map(|number| format!("{BEGIN}10.1.{}.0/24 dev eth1 scope link\n", number % 200)).collect();
    first_line(&[again.join("\n")]);
    let blank: Vec<String> =
        (0..ROWS).map(|number| format!("10.0.0.0/24 dev eth{} scope link\n", number % 7)).collect();
    first_line(&[blank.join("\n")]);
}

#[test]
fn a_line_of_megabytes_is_cut() {
    first_line(&[format!("10.0.0.0/24 dev eth0 {}", "x ".repeat(8 << 20))]);
}

#[test]
fn garbage_is_refused_in_one_line() {
    let garbage: String = (0..1u32 << 16)
        .filter_map(|number| char::from_u32(number.wrapping_mul(2_654_435_761) >> 11))
        .collect();
    for text in [garbage, "\0".repeat(1 << 20), String::new()] {
        let output = run("check", &[text]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains("nothing recognised in outputs.txt; accepted: outputs of ip route"),
            "{stderr}"
        );
    }
}
