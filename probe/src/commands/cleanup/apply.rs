//! `caliprobe cleanup apply`: carries a plan out, and puts everything back where something got worse.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, ensure};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{ensure_may_change, folder, print};
use crate::{
    changing::{
        plan_file,
        run::{self, Confirmation, Prepared, Settings, Surroundings},
    },
    cli::{CleanupApplyArgs, Global, Output},
    commands::check,
    exit::Exit,
    model::Model,
    report::{cleaned::CleanedDocument, document::Node, text::printable},
    sample::Sample,
    sources::caller,
};

pub async fn run(args: &CleanupApplyArgs, global: &Global) -> anyhow::Result<Exit> {
    if !args.dry_run {
        ensure_may_change()?;
    }
    let plan = plan_file::read(&args.plan)?;
    let mut node = ThisNode { global, stopped: stop_by_signal()?, seen: None };
    let settings = Settings {
        folder: folder(global),
        settle: args.settle,
        include_irreversible: args.include_irreversible,
        caller: caller::read(),
        confirmation: args.confirm_within.map(|within| Confirmation { within, guard: guard(global) }),
        despite_refusals: false,
    };
    let prepared = run::prepare(&plan, &settings, &mut node).await?;
    if args.dry_run {
        let (time, name) = node.head();
        return print(&CleanedDocument::of_plan((&time, name), &prepared.steps, &prepared.left_out), global);
    }
    ensure!(
        args.yes || is_agreed(&args.plan, &prepared)?,
        "nothing was changed; --yes, or a `yes` at the terminal, lets it"
    );
    let applied = run::apply(&plan, prepared, settings, &mut node).await?;
    let (time, name) = node.head();
    print(&CleanedDocument::of_applied((&time, name), applied), global)
}

fn guard(global: &Global) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--root").arg(&global.root).args(["cleanup", "guard"]);
    command
}

/// Whether a person at the terminal says yes to the steps.
fn is_agreed(plan: &Path, prepared: &Prepared) -> anyhow::Result<bool> {
    if plan == Path::new("-") || !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut terminal = io::stderr().lock();
    for step in &prepared.steps {
        writeln!(terminal, "do    {}", printable(&step.command))?;
    }
    write!(terminal, "These {} steps change this node. Type yes to take them: ", prepared.steps.len())?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// What is sent to end this process ends the clean-up in order: everything is put back.
fn stop_by_signal() -> anyhow::Result<watch::Receiver<Option<&'static str>>> {
    let (sender, receiver) = watch::channel(None);
    let kinds = [
        (SignalKind::hangup(), "the connection was cut (SIGHUP)"),
        (SignalKind::interrupt(), "it was interrupted (SIGINT)"),
        (SignalKind::terminate(), "it was to end (SIGTERM)"),
    ];
    for (kind, words) in kinds {
        let mut signal = signal(kind).context("cannot wait for signals")?;
        let sender = sender.clone();
        tokio::spawn(async move {
            signal.recv().await;
            sender.send_replace(Some(words));
        });
    }
    Ok(receiver)
}

struct ThisNode<'a> {
    global: &'a Global,
    stopped: watch::Receiver<Option<&'static str>>,
    /// When it was looked at last, and what node it is.
    seen: Option<(String, Node)>,
}

impl ThisNode<'_> {
    fn head(&self) -> (String, Node) {
        self.seen.clone().unwrap_or_default()
    }
}

impl Surroundings for ThisNode<'_> {
    async fn look(&mut self) -> anyhow::Result<Sample> {
        let sample = check::look(self.global).await?;
        self.seen = Some((sample.time.clone(), Node::of(&Model::new(&sample))));
        Ok(sample)
    }

    fn stopped(&mut self) -> Option<String> {
        self.stopped.borrow().map(str::to_owned)
    }

    fn progress(&mut self, line: &str) {
        if self.global.output == Output::Text && !self.global.quiet && io::stderr().is_terminal() {
            let _ = writeln!(io::stderr(), "{}", printable(line));
        }
    }
}
