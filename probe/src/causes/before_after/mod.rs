//! Two looks at one node held against each other: what went, came, changed or stayed as bad as it was, what of it was
//! meant, and whether any pod, block or node that was reached before is not any more.

mod black_holes;
mod conditions;
mod devices;
mod echoes;
mod losses;
mod meant;
mod peers;
mod routes;
mod settings;

use serde::Serialize;

pub use losses::{LossRate, Rate, Traffic, traffic};
pub use routes::is_of_ended_pod;

use self::meant::Meant;
use crate::{
    model::Model,
    plan::Plan,
    report::document::{Finding, NotSeen, Subject, SubjectKind},
};

/// What happened to a thing between the two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    Went,
    Came,
    Changed,
    Stayed,
}

/// What it means for pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// What was reached is not any more, or something is wrong that was not.
    Regression,
    /// What the plan takes away, and is there.
    Unfinished,
    /// What these looks show does not tell.
    Unknown,
    /// It was wrong before, and is.
    Dark,
    /// What was wrong is not any more.
    Healed,
    /// The plan says so, and no pod is the worse for it.
    Meant,
    /// No pod is the worse for it.
    Harmless,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub happened: Happened,
    pub meaning: Meaning,
    pub subject: Subject,
    pub summary: String,
    /// What is wrong now, or was before.
    pub finding: Option<Finding>,
}

impl Change {
    fn new(
        (happened, meaning): (Happened, Meaning),
        (kind, value): (SubjectKind, String),
        summary: String,
    ) -> Self {
        Self { happened, meaning, subject: Subject { kind, value }, summary, finding: None }
    }

    fn of_finding(happened: Happened, meaning: Meaning, finding: &Finding) -> Self {
        Self {
            happened,
            meaning,
            subject: finding.subject.clone(),
            summary: finding.summary.clone(),
            finding: Some(finding.clone()),
        }
    }

    /// Whether two looks speak of the same thing.
    pub fn is_of_same(&self, other: &Self) -> bool {
        let cause = |change: &Self| change.finding.as_ref().map(|finding| finding.cause);
        (self.happened, self.meaning, &self.subject, cause(self))
            == (other.happened, other.meaning, &other.subject, cause(other))
    }
}

/// All differences, the worst first. What the plan takes away is meant.
pub fn judge(before: &Model<'_>, after: &Model<'_>, plan: Option<&Plan>) -> Vec<Change> {
    let meant = plan.map_or_else(Meant::default, Meant::of);
    let mut changes = routes::judge(before, after, &meant);
    changes.extend(devices::judge(before, after, &meant));
    changes.extend(meant.unfinished(after));
    changes.extend(settings::judge(before, after));
    changes.extend(peers::judge(before, after));
    changes.extend(conditions::judge(before, after));
    changes.extend(black_holes::judge(before, after, &changes));
    changes.extend(losses::judge(before, after, &changes));
    changes.extend(echoes::judge(before, after));
    changes.sort_by(|one, other| {
        let key = |change: &Change| (change.meaning, change.happened, change.subject.value.clone());
        key(one).cmp(&key(other))
    });
    changes
}

/// What these two looks do not show.
pub fn not_seen(before: &Model<'_>, after: &Model<'_>) -> Vec<NotSeen> {
    let mut not_seen = NotSeen::of_lines(after.sample);
    let mut unseen = |what: &str, why: String| not_seen.push(NotSeen { what: what.to_owned(), why });
    if before.sample.node.boot_id != after.sample.node.boot_id {
        unseen(
            "devices over the restart",
            "the node was started anew between the two: all devices are new".to_owned(),
        );
    }
    if before.sample.node.kernel != after.sample.node.kernel {
        let (was, is) = (&before.sample.node.kernel, &after.sample.node.kernel);
        unseen("whether the kernel does the same", format!("it was Linux {was}, and is {is}"));
    }
    for (what, why) in losses::not_seen(before, after) {
        unseen(what, why);
    }
    if let Some(why) = echoes::not_seen(after) {
        unseen("whether pods answer", why);
    }
    not_seen
}

#[cfg(test)]
mod tests;
