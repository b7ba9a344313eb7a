//! What `check` says of one look and not of the other, or of both.

use super::{Change, Happened, Meaning};
use crate::{
    causes::node,
    model::Model,
    report::document::{Finding, Severity},
};

pub fn judge(before: &Model<'_>, after: &Model<'_>) -> Vec<Change> {
    let (old, new) = (findings(before), findings(after));
    let is_bad = |finding: &Finding| finding.severity >= Severity::Warning;
    let worse = new.iter().filter(|finding| !has(&old, finding)).map(|finding| {
        let meaning = if is_bad(finding) { Meaning::Regression } else { Meaning::Harmless };
        Change::of_finding(Happened::Came, meaning, finding)
    });
    let dark = new
        .iter()
        .filter(|finding| has(&old, finding) && is_bad(finding))
        .map(|finding| Change::of_finding(Happened::Stayed, Meaning::Dark, finding));
    let better = old
        .iter()
        .filter(|finding| !has(&new, finding))
        .map(|finding| Change::of_finding(Happened::Went, Meaning::Healed, finding));
    worse.chain(dark).chain(better).collect()
}

/// All that is wrong with one look.
pub fn findings(model: &Model<'_>) -> Vec<Finding> {
    node::judge(model, None).into_iter().flat_map(|review| review.findings).collect()
}

/// Whether one of them says the same of the same thing.
pub fn has(findings: &[Finding], wanted: &Finding) -> bool {
    findings.iter().any(|finding| finding.cause == wanted.cause && finding.subject == wanted.subject)
}
