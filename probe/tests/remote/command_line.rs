//! What the commands say of settings that do not fit together. Nothing is attached and nothing sent by then.

use std::process::Command;

use anyhow::Result;

use crate::certificates::{Authority, VALID};

/// The one line on standard error of a command that could not run.
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
    let output = command.args(arguments).envs(environment.iter().copied()).output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    Ok(said)
}

#[test]
fn run_says_what_its_listeners_lack() -> Result<()> {
    let alone = refused(&["run", "--listen-cert", "/nowhere/node.pem"], &[])?;
    assert!(alone.contains("--listen-cert and --listen-key belong together"), "{alone}");
    let lacking = refused(&["run", "--remote-listen", "127.0.0.1:0"], &[])?;
    assert!(lacking.contains("needs --remote-cert, --remote-key and --remote-ca"), "{lacking}");
    let environment = [("CALIPROBE_REMOTE_LISTEN", "127.0.0.1:0"), ("CALIPROBE_REMOTE_CERT", "/nowhere/x")];
    let half = refused(&["run"], &environment)?;
    assert!(half.contains("--remote-cert and --remote-key belong together"), "{half}");
    Ok(())
}

#[test]
fn run_reads_them_from_its_file_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("caliprobe.toml");
    std::fs::write(&path, "remote-listen = \"127.0.0.1:0\"\n")?;
    let lacking = refused(&["run", "--config", path.to_str().unwrap_or_default()], &[])?;
    assert!(lacking.contains("needs --remote-cert"), "{lacking}");
    Ok(())
}

#[test]
fn diagnose_says_what_a_peer_needs() -> Result<()> {
    let target = "10.200.153.70";
    let lacking = refused(&["diagnose", target, "--peer", "https://paas-187"], &[])?;
    assert!(lacking.contains("--peer needs --peer-ca, --peer-cert and --peer-key"), "{lacking}");
    let plain = refused(&["diagnose", target, "--peer", "http://paas-187"], &[])?;
    assert!(plain.contains("it must begin with https://"), "{plain}");
    let two = refused(&["diagnose", target, "--peer", "https://a", "--peer-exec", "ssh a caliprobe"], &[])?;
    assert!(two.contains("cannot be used with"), "{two}");

    let folder = tempfile::tempdir()?;
    let identity = Authority::new()?.certify(&folder.path().join("caller"), &["paas-188"], VALID)?;
    let text = |path: &std::path::Path| path.display().to_string();
    let (certificate, key) = (text(&identity.certificate), text(&identity.key));
    let environment = [
        ("CALIPROBE_PEER_CA", "/nowhere/ca.pem"),
        ("CALIPROBE_PEER_CERT", &certificate),
        ("CALIPROBE_PEER_KEY", &key),
    ];
    let absent = refused(&["diagnose", target, "--peer", "https://paas-187"], &environment)?;
    assert!(absent.contains("cannot read /nowhere/ca.pem"), "{absent}");
    Ok(())
}
