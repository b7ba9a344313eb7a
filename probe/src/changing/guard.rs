//! A clean-up that is to be confirmed is put back by a process of its own, in a session of its own: it outlives the
//! connection of the person who started it, and the clean-up itself.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{SigHandler, Signal, signal},
    unistd::setsid,
};

use super::{
    journal::{Journal, Lock, Standing},
    undo,
};
use crate::sample::NodeIdentity;

/// Starts it; it waits for the lock that the caller has.
pub fn start(mut command: Command) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
    let mut guard = command.spawn().context("cannot start the process that puts everything back in time")?;
    // It closes its output once it is in a session of its own; nothing is taken away before.
    let mut output = guard.stdout.take().context("the process that puts everything back has no output")?;
    let mut word = Vec::new();
    output.read_to_end(&mut word)?;
    anyhow::ensure!(word == READY, "the process that puts everything back in time did not start");
    Ok(())
}

const READY: &[u8] = b"ready\n";

/// The guard's side: once nobody has the lock, it puts back what was not finished, and what nobody confirms in time.
pub fn serve(folder: &Path, node: &NodeIdentity) -> Result<()> {
    setsid().context("cannot leave the session")?;
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }.context("cannot ignore a signal")?;
    }
    let began = began(folder)?;
    say_ready()?;
    let standing = standing(folder, node, &began)?;
    let within = match standing {
        Some((Standing::Unfinished, _)) => Duration::ZERO,
        Some((Standing::Awaiting, within)) => within,
        _ => return Ok(()),
    };
    thread::sleep(within);
    if matches!(self::standing(folder, node, &began)?, Some((Standing::Unfinished | Standing::Awaiting, _))) {
        undo::undo(folder, node, "nobody confirmed it in time")?;
    }
    Ok(())
}

/// The time of the clean-up that is going on, which tells it from the next.
fn began(folder: &Path) -> Result<String> {
    let journal = Journal::open(folder)?.context("there is no journal to guard")?;
    Ok(journal.begun.time)
}

fn say_ready() -> Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(READY)?;
    output.flush()?;
    // The starter reads to the end.
    let nothing = fs::OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(nothing)?;
    Ok(())
}

/// Where the clean-up stands that began then, once nobody works on it; `None` where another one took its place.
fn standing(folder: &Path, node: &NodeIdentity, began: &str) -> Result<Option<(Standing, Duration)>> {
    let _lock = Lock::wait(folder)?;
    let journal = undo::open(folder, node)?;
    let within = Duration::from_millis(journal.begun.confirm_within.unwrap_or_default());
    Ok((journal.begun.time == began).then_some((journal.standing, within)))
}
