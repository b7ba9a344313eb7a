//! The terminal: taken over while the screen is shown, and given back however that ends.

use std::{
    io::{self, IsTerminal as _},
    thread,
};

use anyhow::{Context as _, bail};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};
use tokio::sync::mpsc::{Receiver, channel};

/// Keys that may wait for being handled; who holds one down longer waits.
const WAITING: usize = 64;

/// What may be used where there is no screen.
const INSTEAD: &str = "`caliprobe events -f` follows black holes, `caliprobe peers` shows the other nodes, and \
    `caliprobe run` serves /metrics";

/// A terminal that is ours until this is dropped. A panic gives it back, too, before it is told.
pub(super) struct Screen {
    pub(super) terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn open() -> anyhow::Result<Self> {
        Ok(Self { terminal: ratatui::try_init().context("cannot take over the terminal")? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Fails, and names what to use instead, where there is none.
pub fn require() -> anyhow::Result<()> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        bail!("`watch` needs a terminal at its input and output; without one, {INSTEAD}");
    }
    if std::env::var_os("TERM").is_none_or(|kind| kind.is_empty() || kind == "dumb") {
        bail!("`watch` needs a terminal that can place text (TERM says it cannot); without one, {INSTEAD}");
    }
    Ok(())
}

/// Keys and changes of size, until the terminal is gone. They are waited for in a thread of their own, which ends
/// with the process.
pub(super) fn events() -> Receiver<Event> {
    let (sender, receiver) = channel(WAITING);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    receiver
}
