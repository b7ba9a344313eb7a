//! The command line as scripts and people meet it: pipes that end early, mistyped commands, help, completions,
//! manual pages.

use std::{
    fs,
    io::Write as _,
    os::fd::OwnedFd,
    process::{Command, Output, Stdio},
};

use clap::CommandFactory as _;
use serde_json::Value;

fn caliprobe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
    command.env_remove("CALIPROBE_OUTPUT").env_remove("RUST_BACKTRACE").env("COLUMNS", "100");
    command
}

fn run(arguments: &[&str]) -> Output {
    caliprobe().args(arguments).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// A pipe whose reader has gone, as that of `head` has.
fn pipe_without_reader() -> OwnedFd {
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    drop(reader);
    writer
}

/// A node's routes as people paste them, with a block that is unreachable: `check` proves a fault.
const ROUTES: &str = "\
default via 172.30.10.254 dev eth0
10.200.55.192/26 via 172.30.10.187 dev tunl0 proto bird onlink
blackhole 10.200.153.64/26 proto bird
10.200.153.70 dev cali0d7763386da scope link
172.30.10.0/24 dev eth0 proto kernel scope link src 172.30.10.188
unreachable 10.200.7.64/26
";

#[test]
fn a_reader_that_leaves_is_no_error_and_changes_no_verdict() {
    let folder = tempfile::tempdir().expect("a folder");
    let routes = folder.path().join("ip-route.txt");
    fs::write(&routes, ROUTES).expect("a file");
    let routes = routes.to_str().expect("UTF-8");
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["version"],
        &["completions", "bash"],
        &["run", "--print-config"],
        &["routes", "--input", routes],
        &["routes", "--input", routes, "-o", "json"],
        &["check", "--input", routes],
        &["check", "--input", routes, "-o", "json"],
        &["diagnose", "--help"],
    ] {
        let whole = run(arguments);
        assert!(!whole.stdout.is_empty(), "{arguments:?}: {}", text(&whole.stderr));
        let cut = caliprobe().args(arguments).stdout(pipe_without_reader()).output().expect("it starts");
        assert_eq!(text(&cut.stderr), text(&whole.stderr), "{arguments:?}");
        assert_eq!(cut.status.code(), whole.status.code(), "{arguments:?}");
    }
}

#[test]
fn head_takes_a_line_and_nobody_complains() {
    let mut head = Command::new("head")
        .args(["-n", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("head starts");
    let stdin = OwnedFd::from(head.stdin.take().expect("a pipe"));
    let said = caliprobe().args(["completions", "zsh"]).stdout(stdin).output().expect("it starts");
    let line = text(&head.wait_with_output().expect("head ends").stdout);
    assert_eq!(line.lines().collect::<Vec<_>>(), ["#compdef caliprobe"]);
    assert_eq!((text(&said.stderr).as_str(), said.status.code()), ("", Some(0)));
}

#[test]
fn errors_are_said_where_nobody_reads_the_result() {
    let mut failing = caliprobe();
    failing.args(["check", "--input", "/no/such/file", "-o", "json"]).stdout(pipe_without_reader());
    let output = failing.output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("caliprobe: "), "{}", text(&output.stderr));
}

#[test]
fn a_mistyped_command_or_flag_is_answered_with_the_one_that_was_meant() {
    for (typed, meant) in [
        (&["diagnos", "10.0.0.1"][..], "'diagnose'"),
        (&["chekc"], "'check'"),
        (&["snapshot", "sav"], "'save'"),
        (&["peers", "--prob"], "'--probe'"),
        (&["completions", "bsh"], "'bash'"),
    ] {
        let output = run(typed);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{typed:?}");
        assert!(said.contains("tip: ") && said.contains(meant), "{typed:?}: {said}");
        assert!(output.stdout.is_empty(), "{typed:?}");
    }
}

/// All commands that people type, with the words that lead to them.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    fn add(command: &clap::Command, words: &[String], to: &mut Vec<(Vec<String>, clap::Command)>) {
        to.push((words.to_vec(), command.clone()));
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let mut words = words.to_vec();
            words.push(below.get_name().to_owned());
            add(below, &words, to);
        }
    }
    let mut all = Vec::new();
    add(&caliprobe::cli::Cli::command(), &[], &mut all);
    all
}

#[test]
fn the_help_of_every_command_groups_flags_and_ends_with_examples() {
    for (words, command) in commands() {
        let output = caliprobe().args(&words).arg("--help").output().expect("it starts");
        let help = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(help.contains("\nOptions of every command:\n"), "{words:?}: {help}");
        // A command below one that has examples may be too plain for its own.
        let is_plain = words.len() > 1 && command.get_after_help().is_none();
        assert!(
            is_plain || help.contains("caliprobe diagnose") || help.contains("Examples:\n"),
            "{words:?}: {help}"
        );
    }
}

#[test]
fn every_example_is_a_command_line_that_is_understood() {
    let mut tried = 0;
    for (words, command) in commands() {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in after.lines().filter(|line| line.starts_with("  ")) {
            for part in line.split(['|', ';', '&']).filter(|part| part.trim_start().starts_with("caliprobe "))
            {
                let part = part.split(['#', '>']).next().unwrap_or_default();
                let typed = shlex::split(part).expect("words");
                let parsed = caliprobe::cli::Cli::command().try_get_matches_from(&typed);
                assert!(parsed.is_ok(), "{words:?}: `{line}`: {}", parsed.unwrap_err());
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "only {tried} examples were found");
}

#[test]
fn help_of_a_command_with_groups() {
    insta::assert_snapshot!(text(&run(&["diagnose", "--help"]).stdout));
}

#[test]
fn version_is_a_document() {
    let output = run(&["version", "-o", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["command"], "version");
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        document["kernel"],
        nix::sys::utsname::uname().expect("names").release().to_str().expect("UTF-8")
    );
    assert_eq!(document["schemas"]["documents"], document["schema_version"]);
    assert!(document.get("commit").is_some(), "null where it is not known: {document}");
    assert_eq!(text(&run(&["version", "-q"]).stdout), concat!("caliprobe ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let completed = |typed: &[&str]| {
        let mut bash = Command::new("bash")
            .arg("-s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash");
        let script = text(&run(&["completions", "bash"]).stdout);
        let words = typed.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let (last, before) = (typed[typed.len() - 1], typed[typed.len() - 2]);
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={}\n_caliprobe caliprobe '{last}' '{before}'\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            typed.len() - 1
        );
        bash.stdin.take().expect("a pipe").write_all(ask.as_bytes()).expect("bash reads");
        text(&bash.wait_with_output().expect("bash ends").stdout)
    };
    assert_eq!(completed(&["caliprobe", "dia"]), "diagnose\n");
    assert_eq!(completed(&["caliprobe", "diagnose", "--peer-e"]), "--peer-exec\n");
    assert_eq!(completed(&["caliprobe", "diagnose", "--protocol", "u"]), "udp\n");
    assert_eq!(completed(&["caliprobe", "snapshot", "sh"]), "show\n");
}

#[test]
fn other_shells_get_scripts_that_name_every_command() {
    for shell in ["zsh", "fish"] {
        let script = text(&run(&["completions", shell]).stdout);
        for (words, _) in commands().iter().filter(|(words, _)| words.len() == 1) {
            assert!(script.contains(words[0].as_str()), "{shell}: {words:?}");
        }
    }
}

#[test]
fn manual_pages_are_written_and_man_takes_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man/man1");
    let output = caliprobe().arg("manual").arg(&pages).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(&pages).expect("a folder").count(), commands().len());
    let Ok(man) = Command::new("man")
        .args(["--warnings", "-E", "UTF-8", "-l"])
        .arg(pages.join("caliprobe-diagnose.1"))
        .env("MANWIDTH", "100")
        .output()
    else {
        eprintln!("SKIPPED: there is no man here");
        return;
    };
    let page = text(&man.stdout);
    assert_eq!(text(&man.stderr), "");
    assert!(page.contains("       caliprobe diagnose 10.200.153.70 --port 53 --protocol udp\n"), "{page}");
}
