//! What two looks at a node come to, as a document and as a person reads it.

use serde::Serialize;

use super::{
    document::{Header, Node, NotSeen},
    text::{QUIET_WIDTH, finding_code, fixes, printable, push, shorten},
};
use crate::{
    causes::before_after::{self, Change, LossRate, Meaning, Traffic},
    model::Model,
    plan::Plan,
};

/// As many harmless changes as a person reads.
const MOST_HARMLESS: usize = 20;
/// As many kinds of losses.
const MOST_LOSSES: usize = 10;

#[derive(Debug, Serialize)]
pub struct VerifyDocument {
    #[serde(flatten)]
    pub header: Header,
    pub verdict: Outcome,
    /// When the node was looked at before, RFC 3339.
    pub before: String,
    /// What is reached now.
    pub reached: Reached,
    /// What was reached before.
    pub was_reached: Reached,
    /// The worst first.
    pub changes: Vec<Change>,
    /// How many steps the plan has, where one was given.
    pub planned_steps: Option<usize>,
    /// What was counted over a time before and now.
    pub traffic: Option<Traffic>,
    pub not_seen: Vec<NotSeen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing that was reached is lost.
    Intact,
    Regression,
    /// Nothing is lost, and something that the plan takes away is there.
    Unfinished,
    /// Something changed that these looks do not explain.
    Unknown,
}

/// How many of each the routes lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reached {
    pub pods: usize,
    pub blocks: usize,
}

impl Reached {
    fn of(model: &Model<'_>) -> Self {
        Self { pods: model.pods().len(), blocks: model.remote_blocks().len() }
    }
}

impl VerifyDocument {
    pub fn new(before: &Model<'_>, after: &Model<'_>, changes: Vec<Change>, plan: Option<&Plan>) -> Self {
        let worst = changes.iter().map(|change| change.meaning).min();
        Self {
            header: Header::new("verify", &after.sample.time, Node::of(after)),
            verdict: match worst {
                Some(Meaning::Regression) => Outcome::Regression,
                Some(Meaning::Unfinished) => Outcome::Unfinished,
                Some(Meaning::Unknown) => Outcome::Unknown,
                _ => Outcome::Intact,
            },
            before: before.sample.time.clone(),
            reached: Reached::of(after),
            was_reached: Reached::of(before),
            changes,
            planned_steps: plan.map(|plan| plan.steps.len()),
            traffic: before_after::traffic(before, after),
            not_seen: before_after::not_seen(before, after),
        }
    }

    fn with(&self, meaning: Meaning) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.meaning == meaning)
    }

    /// The answer, in one line.
    pub fn headline(&self) -> String {
        let name = &self.header.node.name;
        let more = |count: usize| if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
        let first = |meaning, word: &str| {
            let count = self.with(meaning).count();
            self.with(meaning)
                .next()
                .map(|change| format!("{word}  {name}: {}{}", change.summary, more(count)))
        };
        let headline = match self.verdict {
            Outcome::Regression => first(Meaning::Regression, "REGRESSION"),
            Outcome::Unfinished => first(Meaning::Unfinished, "UNFINISHED"),
            Outcome::Unknown => first(Meaning::Unknown, "UNKNOWN"),
            Outcome::Intact => None,
        };
        headline.unwrap_or_else(|| {
            let Reached { pods, blocks } = self.reached;
            let changes = match self.changes.iter().filter(|change| change.meaning != Meaning::Dark).count() {
                0 => "nothing changed".to_owned(),
                1 => "1 change".to_owned(),
                several => format!("{several} changes"),
            };
            let done = match self.planned_steps {
                None => "",
                Some(0) => ", and the plan has no step",
                Some(_) => ", all that was meant is gone",
            };
            let dark = self.with(Meaning::Dark).next().map_or_else(String::new, |change| {
                format!("; still dark: {}{}", change.summary, more(self.with(Meaning::Dark).count()))
            });
            format!(
                "INTACT  {name}: nothing that was reached is lost, {pods} pods and {blocks} remote blocks; {changes}{done}{dark}"
            )
        })
    }

    /// One line of at most eighty characters.
    pub fn quiet(&self) -> String {
        shorten(&printable(&self.headline()), QUIET_WIDTH)
    }

    /// The whole view.
    pub fn text(&self) -> String {
        let mut text = self.headline();
        text.push('\n');
        for change in &self.changes {
            let label = match change.meaning {
                Meaning::Regression => "worse",
                Meaning::Unfinished => "left",
                Meaning::Unknown => "?",
                Meaning::Dark => "dark",
                Meaning::Healed => "healed",
                Meaning::Meant => "meant",
                Meaning::Harmless => continue,
            };
            let code = change
                .finding
                .as_ref()
                .map_or_else(String::new, |finding| format!(" ({})", finding_code(finding)));
            push(&mut text, label, &format!("{}{code}", change.summary));
            if let Some(finding) = change.finding.as_ref().filter(|_| change.meaning == Meaning::Regression) {
                for evidence in &finding.evidence {
                    push(&mut text, "seen", &evidence.text);
                }
                fixes(&mut text, finding);
            }
        }
        for change in self.with(Meaning::Harmless).take(MOST_HARMLESS) {
            push(&mut text, "ok", &change.summary);
        }
        let left = self.with(Meaning::Harmless).count().saturating_sub(MOST_HARMLESS);
        if left > 0 {
            push(&mut text, "ok", &format!("{left} more harmless changes; -o json has them all"));
        }
        if let Some(traffic) = &self.traffic {
            traffic_lines(&mut text, traffic);
        }
        for not_seen in &self.not_seen {
            push(&mut text, "?", &format!("not seen: {}: {}", not_seen.what, not_seen.why));
        }
        printable(&text)
    }
}

fn traffic_lines(text: &mut String, traffic: &Traffic) {
    let rate = |rate: Option<before_after::Rate>| {
        rate.map_or_else(|| "not counted".to_owned(), |rate| format!("{:.1}", rate.per_second))
    };
    let line =
        format!("{} packets a second from and to pods, before {}", rate(traffic.now), rate(traffic.before));
    push(text, "seen", &line);
    for loss in traffic.losses.iter().take(MOST_LOSSES) {
        let line = format!("{} a second {}, before {}", rate(loss.now), loss_words(loss), rate(loss.before));
        push(text, "lost", &line);
    }
}

fn loss_words(loss: &LossRate) -> String {
    if loss.bare {
        return "left bare for a pool".to_owned();
    }
    let function = loss.symbol.as_deref().unwrap_or("a function without a name");
    let reason = loss.reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("in {function}{reason}")
}
