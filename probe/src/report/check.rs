//! A node's condition as a document and as a person reads it: what is wrong first, then what is fine.

use serde::Serialize;

use super::{
    document::{Finding, Header, Next, Node, NotSeen, Severity},
    text::{QUIET_WIDTH, finding_code, fixes, printable, push, shorten},
};
use crate::{
    causes::node::{self, Review, Topic},
    model::{Model, pools::Pool},
};

#[derive(Debug, Serialize)]
pub struct CheckDocument {
    #[serde(flatten)]
    pub header: Header,
    pub verdict: Condition,
    pub pools: Vec<Pool>,
    /// The worst first.
    pub findings: Vec<Finding>,
    pub passed: Vec<Passed>,
    pub not_seen: Vec<NotSeen>,
    /// Outputs that would settle what pasted ones leave open.
    pub next: Vec<Next>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    Healthy,
    Problems,
    /// Nothing is wrong in what was shown, which is not enough to call it healthy.
    Unknown,
}

#[derive(Debug, Serialize)]
pub struct Passed {
    pub topic: Topic,
    pub text: String,
}

impl CheckDocument {
    pub fn new(model: &Model<'_>, reviews: Vec<Review>) -> Self {
        let mut document = Self {
            header: Header::new("check", &model.sample.time, Node::of(model)),
            verdict: Condition::Healthy,
            pools: model.pools.clone(),
            findings: Vec::new(),
            passed: Vec::new(),
            not_seen: NotSeen::of_lines(model.sample),
            next: Vec::new(),
        };
        for review in reviews {
            let Review { topic, findings, passed, not_seen } = review;
            document.findings.extend(findings);
            document.passed.extend(passed.into_iter().map(|text| Passed { topic, text }));
            document.not_seen.extend(not_seen);
        }
        document.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        if document.worst().is_some_and(|worst| worst >= Severity::Warning) {
            document.verdict = Condition::Problems;
        } else if !model.sample.missing.is_empty() && !node::is_enough(model.sample) {
            document.verdict = Condition::Unknown;
        }
        document.next = node::wanted(model, &document.findings);
        document
    }

    /// The severity of the worst finding.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// The answer, in one line.
    pub fn headline(&self) -> String {
        let node = &self.header.node.name;
        let name = if node.is_empty() { "this node" } else { node };
        match (self.verdict, self.findings.as_slice()) {
            (Condition::Problems, [first, rest @ ..]) => {
                let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
                format!("PROBLEMS  {name}: {} ({}){more}", first.summary, finding_code(first))
            }
            (Condition::Unknown, _) => {
                let next: Vec<&str> = self.next.iter().map(|next| next.command.as_str()).collect();
                format!("UNKNOWN  {name}: nothing wrong in what was shown; to see next: {}", next.join(", "))
            }
            (_, []) => format!("HEALTHY  {name}: {} checks passed", self.passed.len()),
            (_, notes) => {
                format!("HEALTHY  {name}: {} checks passed, {} worth knowing", self.passed.len(), notes.len())
            }
        }
    }

    /// One line of at most eighty characters.
    pub fn quiet(&self) -> String {
        shorten(&printable(&self.headline()), QUIET_WIDTH)
    }

    /// The whole view.
    pub fn text(&self) -> String {
        let mut text = self.headline();
        text.push('\n');
        for finding in &self.findings {
            text.push('\n');
            self::finding(&mut text, finding);
        }
        if !self.passed.is_empty() {
            text.push('\n');
        }
        for passed in &self.passed {
            push(&mut text, "ok", &format!("{:<11} {}", passed.topic.words(), passed.text));
        }
        let is_unshown = |not_seen: &&NotSeen| UNSHOWN.iter().any(|words| not_seen.why.starts_with(words));
        for not_seen in self.not_seen.iter().filter(|not_seen| !is_unshown(not_seen)) {
            push(&mut text, "?", &format!("not seen    {}: {}", not_seen.what, not_seen.why));
        }
        let unshown: Vec<&str> =
            self.not_seen.iter().filter(is_unshown).map(|not_seen| not_seen.what.as_str()).collect();
        if !unshown.is_empty() {
            push(&mut text, "?", &format!("not shown   {}", unshown.join(", ")));
        }
        for next in &self.next {
            push(&mut text, "next", &format!("on {}: {}", next.node, next.command));
        }
        printable(&text)
    }
}

/// How the reasons of what pasted outputs lack begin.
const UNSHOWN: [&str; 2] = ["it was not shown", "they were not shown"];

fn finding(text: &mut String, finding: &Finding) {
    let label = match finding.severity {
        Severity::Critical => "bad",
        Severity::Warning => "warn",
        Severity::Info => "note",
    };
    push(text, label, &format!("{} ({})", finding.summary, finding_code(finding)));
    for reason in &finding.explained_by {
        push(text, "why", &format!("{} ({})", reason.summary, finding_code(reason)));
    }
    for evidence in &finding.evidence {
        push(text, "seen", &evidence.text);
    }
    fixes(text, finding);
    for reason in &finding.explained_by {
        fixes(text, reason);
    }
}
