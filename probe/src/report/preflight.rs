//! What the probe can do here, as a document and as text.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    document::{Header, Node},
    table::{self, Align},
    text::{QUIET_WIDTH, printable, push, shorten},
};
use crate::model::{
    Model,
    readiness::{Assessment, Check, CommandStanding, Memory, Standing},
};

#[derive(Debug, Serialize)]
pub struct PreflightDocument {
    #[serde(flatten)]
    pub header: Header,
    #[serde(flatten)]
    pub assessment: Assessment,
}

impl PreflightDocument {
    #[must_use]
    pub fn new(model: &Model<'_>, assessment: Assessment) -> Self {
        Self { header: Header::new("preflight", &model.sample.time, Node::of(model)), assessment }
    }

    /// The answer, in one line: the commands that fare worst, each with its first reason.
    #[must_use]
    pub fn headline(&self) -> String {
        let standing = self.assessment.standing;
        let mut by_reason: Vec<(Option<&String>, Vec<String>)> = Vec::new();
        for command in self.assessment.commands.iter().filter(|command| command.standing == standing) {
            let (reason, name) = (command.reasons.first(), command.command.to_string());
            match by_reason.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, names)) => names.push(name),
                None => by_reason.push((reason, vec![name])),
            }
        }
        let words: Vec<String> = by_reason
            .into_iter()
            .map(|(reason, names)| match reason {
                Some(reason) => format!("{}: {reason}", names.join(", ")),
                None => names.join(", "),
            })
            .collect();
        let standing = match standing {
            Standing::Ready => "READY",
            Standing::Degraded => "DEGRADED",
            Standing::CannotRun => "CANNOT RUN",
        };
        format!("{standing}  {}", words.join("; "))
    }

    /// One line of at most eighty characters.
    #[must_use]
    pub fn quiet(&self) -> String {
        shorten(&printable(&self.headline()), QUIET_WIDTH)
    }

    /// The whole view.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.headline();
        text.push('\n');
        for command in &self.assessment.commands {
            let _ = writeln!(text, "{:<9} {}", command.command, standing_words(command));
        }
        text.push('\n');
        for line in self.table() {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
        self.advice(&mut text);
        self.capabilities(&mut text);
        if let Some(memory) = &self.assessment.memory {
            push(&mut text, "mem", &memory_words(memory));
        }
        printable(&text)
    }

    fn table(&self) -> Vec<String> {
        let heading = [("", Align::Left), ("CHECK", Align::Left), ("FOUND", Align::Left)];
        let cells = |check: &Check| {
            let mark = match check.standing {
                Some(Standing::Ready) => "✓",
                Some(Standing::Degraded) => "!",
                Some(Standing::CannotRun) => "✗",
                None => "–",
            };
            vec![mark.to_owned(), check.name.to_owned(), printable(&check.found.replace('\n', " "))]
        };
        table::lines(&heading, self.assessment.checks.iter().map(cells))
    }

    /// What helps several checks is said once.
    fn advice(&self, text: &mut String) {
        let mut said: Vec<(&String, Vec<&str>)> = Vec::new();
        for check in &self.assessment.checks {
            let Some(advice) = &check.advice else { continue };
            match said.iter_mut().find(|(other, _)| *other == advice) {
                Some((_, names)) => names.push(check.name),
                None => said.push((advice, vec![check.name])),
            }
        }
        for (advice, names) in said {
            push(text, "do", &format!("{}: {advice}", names.join(", ")));
        }
    }

    fn capabilities(&self, text: &mut String) {
        let Some(needs) = &self.assessment.capabilities else { return };
        let lacking: Vec<_> = needs.iter().filter(|need| !need.held).collect();
        if lacking.is_empty() {
            push(text, "caps", "every capability that a command needs");
        }
        for need in lacking {
            let commands: Vec<String> = need.commands.iter().map(ToString::to_string).collect();
            push(
                text,
                "caps",
                &format!("lacks {}, {} ({})", need.capability, need.purpose, commands.join(", ")),
            );
        }
    }
}

fn memory_words(memory: &Memory) -> String {
    let Memory { cpus, slots, bytes, pods, blocks, peers } = memory;
    format!(
        "{} KiB of kernel memory for the ledger of `run`: {cpus} CPUs × {slots} slots × 64 bytes, for {pods} pods, \
         {blocks} blocks, {peers} peers",
        bytes.div_ceil(1024)
    )
}

fn standing_words(command: &CommandStanding) -> String {
    let words = match command.standing {
        Standing::Ready => return "ready".to_owned(),
        Standing::Degraded => "degraded",
        Standing::CannotRun => "cannot run",
    };
    format!("{words}: {}", command.reasons.join("; "))
}
