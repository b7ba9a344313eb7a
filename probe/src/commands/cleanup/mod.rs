//! `caliprobe cleanup`: what is stale on this node, how it is taken away, and put back.

mod apply;
mod confirm;
mod plan;
mod undo;

use std::{io::Write as _, path::PathBuf};

use anyhow::ensure;

use crate::{
    changing::{guard, journal},
    cli::{CleanupCommand, Global, Output},
    commands::standard_output,
    exit::Exit,
    report::cleaned::{CleanedDocument, Result, State},
    sources::identity,
};

pub async fn run(command: &CleanupCommand, global: &Global) -> anyhow::Result<Exit> {
    match command {
        CleanupCommand::Plan(args) => plan::run(args, global).await,
        CleanupCommand::Apply(args) => apply::run(args, global).await,
        CleanupCommand::Confirm => confirm::run(global),
        CleanupCommand::Undo => undo::run(global),
        CleanupCommand::Guard => {
            guard::serve(&folder(global), &identity::read(&global.root)?).map(|()| Exit::Fine)
        }
    }
}

/// Where the journal is.
fn folder(global: &Global) -> PathBuf {
    global.root.join(journal::FOLDER)
}

/// Fails where a person has said that nothing is to be changed here.
fn ensure_may_change() -> anyhow::Result<()> {
    let is_set = |value: std::ffi::OsString| !value.is_empty() && value != "0";
    ensure!(
        !std::env::var_os("CALIPROBE_READ_ONLY").is_some_and(is_set),
        "CALIPROBE_READ_ONLY is set: nothing is changed on this node"
    );
    Ok(())
}

fn print(document: &CleanedDocument, global: &Global) -> anyhow::Result<Exit> {
    let mut out = standard_output::lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(document)?)?,
        Output::Text if global.quiet => writeln!(out, "{}", document.quiet())?,
        Output::Text => write!(out, "{}", document.text())?,
    }
    let is_gone = document.steps.iter().any(|step| step.state == State::CannotBePutBack);
    Ok(match document.result {
        Result::WouldDo | Result::Done | Result::Awaiting | Result::Undone => Exit::Fine,
        Result::RolledBack | Result::UndoneInPart => Exit::Proven,
        Result::Stopped if is_gone => Exit::Proven,
        Result::Stopped => Exit::Failed,
        Result::JournalLeft => Exit::JournalLeft,
    })
}
