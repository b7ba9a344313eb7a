//! What is stale on a node and can be taken away, on proof alone: whatever could be in use, somebody's, or put right
//! by Calico itself stays, and it is said why.

mod bridges;
mod command;
mod devices;
mod guard;
mod owners;
mod pod_links;
mod routes;

use self::guard::Guard;
use crate::{
    model::Model,
    plan::{Action, FORMAT_VERSION, Kept, Plan, Step},
    report::document::{Evidence, EvidenceSource, Subject, SubjectKind},
};

/// What came of one thing that looks stale.
type Outcome = Result<Vec<Step>, Kept>;

/// More than a person reads, or wants to be done at once.
const MOST_STEPS: usize = 200;

/// The plan for a node that was looked at twice. Without the earlier look nothing shows that a device carries no
/// traffic, so devices stay.
pub fn plan(model: &Model<'_>, earlier: Option<&Model<'_>>) -> Plan {
    let guard = Guard::new(model);
    let mut kept = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    for outcome in candidates(model, earlier) {
        let refused = outcome.and_then(|found| guard.pass(found)).map(|found| steps.extend(found));
        kept.extend(refused.err());
    }
    // All routes, then all devices down, then the deletions.
    steps.sort_by_key(|step| rank(&step.action));
    let mut chosen: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        if !chosen.iter().any(|other| other.action == step.action) {
            chosen.push(step);
        }
    }
    if chosen.len() > MOST_STEPS {
        kept.extend(chosen.drain(..).map(|step| Kept {
            subject: step.subject,
            why: format!("more than {MOST_STEPS} steps at once are no clean-up: {}", step.why),
            command: None,
        }));
    }
    let node = &model.sample.node;
    Plan {
        format_version: FORMAT_VERSION,
        time: model.sample.time.clone(),
        node: model.node_name(),
        boot_id: node.boot_id.clone(),
        network_namespace: node.network_namespace,
        steps: chosen,
        kept,
    }
}

/// Whether a second look is worth while.
pub fn has_candidates(model: &Model<'_>) -> bool {
    !candidates(model, None).is_empty()
}

fn candidates(model: &Model<'_>, earlier: Option<&Model<'_>>) -> Vec<Outcome> {
    let mut outcomes = bridges::judge(model, earlier);
    outcomes.extend(pod_links::judge(model, earlier));
    outcomes.extend(routes::judge(model));
    outcomes
}

fn rank(action: &Action) -> u8 {
    match action {
        Action::DeleteRoute { .. } => 0,
        Action::SetLinkDown { .. } => 1,
        Action::DeleteLink { .. } => 2,
    }
}

fn subject(kind: SubjectKind, value: impl Into<String>) -> Subject {
    Subject { kind, value: value.into() }
}

fn evidence(source: EvidenceSource, text: impl Into<String>) -> Evidence {
    Evidence { source, text: text.into() }
}

fn kept(subject: Subject, why: impl Into<String>, command: Option<String>) -> Kept {
    Kept { subject, why: why.into(), command }
}

#[cfg(test)]
mod tests;
