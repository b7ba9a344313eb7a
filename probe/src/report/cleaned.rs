//! What came of carrying a clean-up plan out, or of putting it back.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    document::{Header, Node, Subject},
    text::{QUIET_WIDTH, printable, push, shorten},
};
use crate::{
    causes::before_after::Change,
    changing::{
        run::{Applied, Fate, Outcome, StepResult, Why},
        undo::PutBack,
    },
    plan::Step,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Result {
    /// What would be done; nothing was.
    WouldDo,
    Done,
    /// Done, and put back by itself unless it is confirmed.
    Awaiting,
    /// Something got worse: everything is as before.
    RolledBack,
    /// A step could not be taken, or somebody stopped it: everything is as before.
    Stopped,
    /// A journal is left to undo.
    JournalLeft,
    Undone,
    /// Undone, but for what cannot be made again.
    UndoneInPart,
}

#[derive(Debug, Serialize)]
pub struct CleanedDocument {
    #[serde(flatten)]
    pub header: Header,
    pub result: Result,
    pub steps: Vec<DocumentStep>,
    /// What got worse, and was the reason to put everything back.
    pub worse: Vec<Change>,
    /// Packets that the kernel found no route for while something was away; this node's in all.
    pub packets_without_route: Option<u64>,
    /// Packets for pods that left bare by the default route meanwhile.
    pub bare_packets: Option<u64>,
    /// Why it ended before its end.
    pub why: Option<String>,
    /// What keeps a part from being put back; `cleanup undo` tries again.
    pub left: Option<String>,
    pub confirm_within_seconds: Option<u64>,
    pub journal: Option<String>,
    /// The node as it was before, for `caliprobe verify`.
    pub snapshot: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct DocumentStep {
    pub subject: Option<Subject>,
    pub command: String,
    pub state: State,
    /// Why it cannot be put back.
    pub why: Option<String>,
    /// How long its thing was away.
    pub away_milliseconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    WouldDo,
    Done,
    PutBack,
    CannotBePutBack,
    NotReached,
    LeftOut,
}

impl CleanedDocument {
    fn new(command: &'static str, (time, node): (&str, Node), result: Result) -> Self {
        Self {
            header: Header::new(command, time, node),
            result,
            steps: Vec::new(),
            worse: Vec::new(),
            packets_without_route: None,
            bare_packets: None,
            why: None,
            left: None,
            confirm_within_seconds: None,
            journal: None,
            snapshot: None,
        }
    }

    /// The steps that would be done, and those that would be left out.
    pub fn of_plan(head: (&str, Node), steps: &[Step], left_out: &[Step]) -> Self {
        let would = steps.iter().map(|step| DocumentStep::of_plan(step, State::WouldDo));
        let out = left_out.iter().map(|step| DocumentStep::of_plan(step, State::LeftOut));
        Self { steps: would.chain(out).collect(), ..Self::new("cleanup apply", head, Result::WouldDo) }
    }

    pub fn of_applied(head: (&str, Node), applied: Applied) -> Self {
        let mut document = Self::new("cleanup apply", head, Result::Done);
        document.journal = Some(applied.journal.display().to_string());
        document.snapshot = Some(applied.snapshot.display().to_string());
        document.steps = applied.steps.iter().map(DocumentStep::of).collect();
        match applied.outcome {
            Outcome::Done => {}
            Outcome::Awaiting(within) => {
                document.result = Result::Awaiting;
                document.confirm_within_seconds = Some(within.as_secs());
            }
            Outcome::PutBack(why) => document.explain(why),
            Outcome::Left { why, left } => {
                document.explain(why);
                document.result = Result::JournalLeft;
                document.left = Some(left);
            }
        }
        document
    }

    fn explain(&mut self, why: Why) {
        match why {
            Why::Worse { changes, lost } => {
                self.result = Result::RolledBack;
                self.worse = changes;
                self.packets_without_route = Some(lost.without_route);
                self.bare_packets = lost.bare;
            }
            Why::Stopped(why) => {
                self.result = Result::Stopped;
                self.why = Some(why);
            }
        }
    }

    pub fn of_undone(head: (&str, Node), put_back: PutBack) -> Self {
        let never = put_back.steps.iter().any(|(_, problem)| problem.is_some());
        let result = match (&put_back.left, never) {
            (Some(_), _) => Result::JournalLeft,
            (None, true) => Result::UndoneInPart,
            (None, false) => Result::Undone,
        };
        let step = |(command, why): (String, Option<String>)| DocumentStep {
            subject: None,
            command,
            state: if why.is_some() { State::CannotBePutBack } else { State::PutBack },
            why,
            away_milliseconds: None,
        };
        Self {
            steps: put_back.steps.into_iter().map(step).collect(),
            left: put_back.left,
            ..Self::new("cleanup undo", head, result)
        }
    }

    fn with(&self, state: State) -> usize {
        self.steps.iter().filter(|step| step.state == state).count()
    }

    /// The answer, in one line.
    pub fn headline(&self) -> String {
        let name = &self.header.node.name;
        let why = self.why.clone().unwrap_or_default();
        match self.result {
            Result::WouldDo => {
                format!("WOULD DO  {name}: {}; nothing was changed", steps(self.with(State::WouldDo)))
            }
            Result::Done => {
                format!(
                    "CLEANED UP  {name}: {} done, and nothing that was reached is lost",
                    steps(self.with(State::Done))
                )
            }
            Result::Awaiting => format!(
                "CLEANED UP  {name}: {} done; put back in {} s unless `caliprobe cleanup confirm` comes",
                steps(self.with(State::Done)),
                self.confirm_within_seconds.unwrap_or_default()
            ),
            Result::RolledBack => {
                let worse = self.worse.first().map_or("", |change| &change.summary);
                format!("ROLLED BACK  {name}: {worse}{}{}", self.all_back(), self.cost())
            }
            Result::Stopped => format!("STOPPED  {name}: {why}{}", self.all_back()),
            Result::JournalLeft => format!(
                "NOT PUT BACK  {name}: {}; `caliprobe cleanup undo` tries again",
                self.left.clone().unwrap_or_default()
            ),
            Result::Undone => format!("UNDONE  {name}: {} put back", steps(self.with(State::PutBack))),
            Result::UndoneInPart => format!(
                "UNDONE IN PART  {name}: {} put back, {} cannot be",
                steps(self.with(State::PutBack)),
                self.with(State::CannotBePutBack)
            ),
        }
    }

    fn all_back(&self) -> &'static str {
        if self.with(State::CannotBePutBack) > 0 {
            "; put back, but for what cannot be made again"
        } else {
            "; everything is as before"
        }
    }

    fn cost(&self) -> String {
        let lost = self.packets_without_route.unwrap_or(0) + self.bare_packets.unwrap_or(0);
        match lost {
            0 => String::new(),
            1 => "; 1 packet was lost meanwhile".to_owned(),
            lost => format!("; {lost} packets were lost meanwhile"),
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
        for change in self.worse.iter().skip(1) {
            push(&mut text, "worse", &change.summary);
        }
        for step in &self.steps {
            let (label, more) = match step.state {
                State::WouldDo => ("do", String::new()),
                State::Done => ("done", String::new()),
                State::PutBack => ("back", step.away_words()),
                State::CannotBePutBack => {
                    ("gone", format!("   # {}", step.why.as_deref().unwrap_or_default()))
                }
                State::NotReached => ("not", "   # not reached".to_owned()),
                State::LeftOut => {
                    ("left", "   # cannot be undone; --include-irreversible does it too".to_owned())
                }
            };
            push(&mut text, label, &format!("{}{more}", step.command));
        }
        if let Some(packets) = self.packets_without_route {
            let bare = self.bare_packets.map_or_else(
                || "; how many left bare is not known".to_owned(),
                |bare| format!(", {bare} for pods left bare by the default route"),
            );
            let line = format!("{packets} packets of this node found no route meanwhile{bare}");
            push(&mut text, "lost", &line);
        }
        if matches!(self.result, Result::Done | Result::Awaiting) {
            push(&mut text, "undo", "caliprobe cleanup undo");
            if let Some(snapshot) = &self.snapshot {
                push(&mut text, "see", &format!("caliprobe verify {snapshot}"));
            }
        }
        printable(&text)
    }
}

impl DocumentStep {
    fn of_plan(step: &Step, state: State) -> Self {
        Self {
            subject: Some(step.subject.clone()),
            command: step.command.clone(),
            state,
            why: None,
            away_milliseconds: None,
        }
    }

    fn of(result: &StepResult) -> Self {
        let (state, why) = match &result.fate {
            Fate::Done => (State::Done, None),
            Fate::PutBack => (State::PutBack, None),
            Fate::CannotBePutBack(why) => (State::CannotBePutBack, Some(why.clone())),
            Fate::NotReached => (State::NotReached, None),
            Fate::LeftOut => (State::LeftOut, None),
        };
        let away = result.away.map(|away| u64::try_from(away.as_millis()).unwrap_or(u64::MAX));
        Self { why, away_milliseconds: away, ..Self::of_plan(&result.step, state) }
    }

    fn away_words(&self) -> String {
        let mut words = String::new();
        if let Some(milliseconds) = self.away_milliseconds {
            let _ = write!(words, "   # away for {}.{:03} s", milliseconds / 1000, milliseconds % 1000);
        }
        words
    }
}

fn steps(count: usize) -> String {
    if count == 1 { "1 step".to_owned() } else { format!("{count} steps") }
}
