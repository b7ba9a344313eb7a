//! `caliprobe watch` as a person uses it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    daemon::{Daemon, black_hole, state},
    terminal::Terminal,
};

const CALIPROBE: &str = env!("CARGO_BIN_EXE_caliprobe");

fn watch(socket: &Path) -> String {
    format!("{CALIPROBE} watch --interval 100ms --api-socket {}", socket.display())
}

#[test]
fn readings_become_rates_and_keys_find_their_way() -> Result<()> {
    let Some(terminal) = Terminal::open(80, 24)? else { return Ok(()) };
    let socket = terminal.folder().join("api.sock");
    let daemon = Daemon::start(&socket)?;
    terminal.run(&watch(&socket))?;
    let first = terminal.wait_for("172.30.10.187")?;
    assert!(row(&first, "172.30.10.187").contains(" - "), "one reading makes no rate:\n{first}");
    assert!(first.contains("no black hole is open"), "{first}");

    daemon.publish(state(2));
    terminal.wait("a rate", |shown| row(shown, "172.30.10.187").contains("  10 "))?;

    daemon.publish(caliprobe::state::State { black_holes: vec![black_hole()], ..state(4) });
    let lost = terminal.wait_for("1 black hole is open")?;
    assert!(lost.contains("cali?[2J?]0;owned?"), "{lost}");

    terminal.press(&["/", "51.95", "Enter"])?;
    terminal.wait("the one peer", |shown| shown.contains("51.95") && !shown.contains("10.187"))?;
    terminal.press(&["Enter"])?;
    terminal.wait_for("77 packets in 77 buffers, 7700 bytes")?;
    terminal.press(&["Escape"])?;
    terminal.wait_for("with /51.95")?;

    terminal.press(&["Space"])?;
    terminal.wait_for("PAUSED at 2026-11-23T12:00:04Z")?;
    terminal.press(&["Space"])?;
    terminal.wait_for("read 2026-11-23T12:00:04Z")?;

    terminal.resize(160, 40)?;
    terminal
        .wait("the wide table", |shown| shown.lines().any(|line| line.contains("its packets are dropped")))?;
    terminal.press(&["q"])?;
    terminal.wait("the shell again", |shown| !shown.contains("black hole"))?;
    Ok(())
}

#[test]
fn a_daemon_that_goes_away_is_said_and_one_that_comes_is_shown() -> Result<()> {
    let Some(terminal) = Terminal::open(100, 24)? else { return Ok(()) };
    let socket = terminal.folder().join("api.sock");
    terminal.run(&watch(&socket))?;
    terminal.wait_for("NO READING, asking again: no daemon runs here")?;
    let daemon = Daemon::start(&socket)?;
    terminal.wait_for("read 2026-11-23T12:00:00Z")?;
    drop(daemon);
    let away = terminal.wait_for("NO READING, asking again; shown is 2026-11-23T12:00:00Z")?;
    assert!(away.contains("172.30.10.187"), "what was known stays:\n{away}");
    let _again = Daemon::start(&socket)?;
    terminal.wait_for("read 2026-11-23T12:00:00Z")?;
    Ok(())
}

#[test]
fn every_signal_that_ends_it_gives_the_terminal_back() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let Some(terminal) = Terminal::open(80, 24)? else { return Ok(()) };
        let socket = terminal.folder().join("api.sock");
        let settings = terminal.folder().join("settings");
        let _daemon = Daemon::start(&socket)?;
        let remember = format!("stty -g > {}.", settings.display());
        terminal.run(&format!("{remember}before; {}; {remember}after; echo over $?", watch(&socket)))?;
        terminal.wait_for("172.30.10.187")?;
        kill(Pid::from_raw(terminal.process()?), signal)?;
        let over = terminal.wait_for("over 0")?;
        assert!(!over.contains("172.30.10.187"), "{signal}: the screen is left behind:\n{over}");
        let kept = |when| fs::read_to_string(settings.with_extension(when)).context(when);
        assert_eq!(kept("before")?, kept("after")?, "{signal}");
    }
    Ok(())
}

#[test]
fn who_wants_no_colours_gets_none() -> Result<()> {
    let Some(terminal) = Terminal::open(80, 24)? else { return Ok(()) };
    let socket = terminal.folder().join("api.sock");
    let daemon = Daemon::start(&socket)?;
    daemon.publish(caliprobe::state::State { black_holes: vec![black_hole()], ..state(1) });
    // As tmux writes colours of its palette.
    let is_coloured = |shown: &str| shown.contains("\u{1b}[38;5;");
    terminal.run(&watch(&socket))?;
    terminal.wait_for("1 black hole is open")?;
    let coloured = terminal.shown_with_colours()?;
    assert!(is_coloured(&coloured), "{coloured:?}");
    terminal.press(&["q"])?;
    terminal.wait("the shell again", |shown| !shown.contains("black hole is"))?;
    terminal.run(&format!("NO_COLOR=1 {}", watch(&socket)))?;
    terminal.wait_for("1 black hole is open")?;
    let plain = terminal.shown_with_colours()?;
    assert!(!is_coloured(&plain), "{plain:?}");
    Ok(())
}

#[test]
fn without_a_terminal_it_names_what_to_use_instead() -> Result<()> {
    let output = Command::new(CALIPROBE).arg("watch").output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{said}");
    for instead in ["caliprobe events -f", "caliprobe peers", "/metrics"] {
        assert!(said.contains(instead), "{said}");
    }
    assert!(output.stdout.is_empty());
    Ok(())
}

/// The line of the screen that begins with a text.
fn row<'a>(shown: &'a str, start: &str) -> &'a str {
    shown.lines().find(|line| line.starts_with(start)).unwrap_or_default()
}
