//! Putting back what a journal says was taken away, the newest first. Every part may be done already: a crash in the
//! midst of it, or of the clean-up itself, is put right by doing it again.

use std::path::Path;

use anyhow::bail;
use jiff::Timestamp;

use super::{
    journal::{Entry, Journal, Lock, Standing},
    kernel::Kernel,
    run::Boundary,
    steps::{self, NotPutBack},
};
use crate::sample::NodeIdentity;

/// What came of it, for each step, the newest first.
#[derive(Debug, PartialEq, Eq)]
pub struct PutBack {
    /// The command of the step, and why its thing cannot be put back.
    pub steps: Vec<(String, Option<String>)>,
    /// Why some are left for a later try.
    pub left: Option<String>,
}

/// Opens the journal of this node as it runs now. Fails where there is none, and where what it speaks of is gone.
pub fn open(folder: &Path, node: &NodeIdentity) -> anyhow::Result<Journal> {
    let Some(journal) = Journal::open(folder)? else {
        bail!("there is no clean-up to speak of: no journal in {}", folder.display());
    };
    if !journal.is_of(node) {
        let Journal { begun, .. } = &journal;
        if begun.boot_id == node.boot_id {
            bail!("the clean-up of {} was in another network namespace than this one", begun.time);
        }
        bail!("the node was started anew since the clean-up of {}: nothing of it is left", begun.time);
    }
    Ok(journal)
}

/// Puts everything back that is not yet. `why` is kept in the journal.
pub fn undo(folder: &Path, node: &NodeIdentity, why: &str) -> anyhow::Result<PutBack> {
    open(folder, node)?;
    let _lock = Lock::take(folder)?;
    let mut journal = open(folder, node)?;
    if journal.standing == Standing::Undone {
        bail!("the clean-up of {} was undone already", journal.begun.time);
    }
    put_back(&mut journal, &Kernel::open()?, why, &mut |_| {})
}

/// Keeps what was done, so that it is not put back by itself.
pub fn confirm(folder: &Path, node: &NodeIdentity) -> anyhow::Result<Journal> {
    open(folder, node)?;
    let _lock = Lock::take(folder)?;
    let mut journal = open(folder, node)?;
    let time = &journal.begun.time;
    match journal.standing {
        Standing::Awaiting => {}
        Standing::Unfinished => {
            bail!("the clean-up of {time} did not end; `caliprobe cleanup undo` puts back what it did")
        }
        Standing::Applied => bail!("the clean-up of {time} waits for no confirmation: it stays as it is"),
        Standing::Confirmed => bail!("the clean-up of {time} was confirmed already"),
        Standing::Undone => bail!("the clean-up of {time} was put back already"),
    }
    journal.write(Entry::Confirmed { time: Timestamp::now().to_string() })?;
    Ok(journal)
}

/// Puts everything back, and goes on where one thing cannot be.
pub fn put_back(
    journal: &mut Journal,
    kernel: &Kernel,
    why: &str,
    at: &mut dyn FnMut(Boundary),
) -> anyhow::Result<PutBack> {
    let mut left = None;
    // A full disk must not keep the node from being put right: what is put back twice is there once.
    let keep = |journal: &mut Journal, entry: Entry, left: &mut Option<String>| {
        if let Err(error) = journal.write(entry) {
            left.get_or_insert_with(|| format!("{error:#}"));
        }
    };
    let entry = Entry::PuttingBack { time: Timestamp::now().to_string(), why: why.to_owned() };
    keep(journal, entry, &mut left);
    // A gateway may be reachable only by what was taken away before it, so what fails is tried again after the rest.
    loop {
        let waiting = journal.to_put_back();
        let mut failed = None;
        for (step, _, before) in &waiting {
            at(Boundary::BeforePuttingBack(*step));
            let problem = match steps::put_back(kernel, before) {
                Ok(()) => None,
                // What it misses may be what could not be put back just now.
                Err(NotPutBack::Never(_)) if failed.is_some() => continue,
                Err(NotPutBack::Never(why)) => Some(why),
                Err(NotPutBack::NotNow(error)) => {
                    failed.get_or_insert_with(|| format!("{error:#}"));
                    continue;
                }
            };
            at(Boundary::PutBack(*step));
            keep(journal, Entry::PutBack { step: *step, problem }, &mut left);
        }
        let is_stuck = journal.to_put_back().len() == waiting.len();
        if failed.is_none() || is_stuck {
            left = left.or(failed);
            break;
        }
    }
    if left.is_none() {
        keep(journal, Entry::Undone { time: Timestamp::now().to_string() }, &mut left);
    }
    Ok(PutBack { steps: journal.is_put_back(), left })
}
