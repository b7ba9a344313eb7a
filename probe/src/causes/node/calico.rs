//! Calico's processes, Felix' own word on its health, and the errors that its logs hold.

use jiff::{SignedDuration, Timestamp};

use super::{Review, Topic};
use crate::{
    causes::{Cause, case::finding},
    model::Model,
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{FelixReadiness, LogEntry, ProcessRole, Sample},
};

/// Older errors say little about what is wrong now.
const RECENT: SignedDuration = SignedDuration::from_hours(1);
/// As many lines as a person reads.
const SHOWN_ERRORS: usize = 3;

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::Calico);
    processes(model, &mut review);
    readiness(model, &mut review);
    logs(model, &mut review);
    review
}

fn processes(model: &Model<'_>, review: &mut Review) {
    let processes = match (model.sample.control_plane.processes.known(), absent_processes(model.sample)) {
        (Some(processes), _) => processes,
        (None, why) => return review.unseen("Calico's processes", why),
    };
    let running = |role| processes.iter().any(|process| process.role == role);
    if running(ProcessRole::Felix) {
        let others = [(ProcessRole::Bird, "bird"), (ProcessRole::Confd, "confd")];
        let names = others.into_iter().filter(|(role, _)| running(*role)).map(|(_, name)| name);
        let names: Vec<&str> = std::iter::once("felix").chain(names).collect();
        review.pass(format!("{} run", names.join(", ")));
        return;
    }
    let left: Vec<String> = processes.iter().map(|process| process.name.clone()).collect();
    let summary = if running(ProcessRole::Bird) {
        "felix does not run on this node, though bird does"
    } else {
        "no process of Calico runs on this node"
    };
    let seen = if left.is_empty() { "none".to_owned() } else { left.join(", ") };
    review.found([finding(Cause::CalicoNotRunning, SubjectKind::Node, model.node_name(), summary)
        .with(
            EvidenceSource::File,
            format!("/proc: of felix, bird and confd in this network namespace: {seen}"),
        )
        .confirm("kubectl", calico_pods(model))
        .confirm(
            "kubectl",
            "kubectl -n kube-system logs -l k8s-app=calico-node -c calico-node --previous --tail=50",
        )]);
}

fn absent_processes(sample: &Sample) -> &str {
    sample.control_plane.processes.absent().unwrap_or_default()
}

/// The line that shows this node's calico-node pod.
pub fn calico_pods(model: &Model<'_>) -> String {
    format!(
        "kubectl -n kube-system get pods -l k8s-app=calico-node -o wide --field-selector spec.nodeName={}",
        model.node_name()
    )
}

fn readiness(model: &Model<'_>, review: &mut Review) {
    match model.sample.control_plane.felix.known() {
        Some(FelixReadiness { status: Some(200), .. }) => review.pass("felix says that it is ready"),
        Some(readiness) => review.found([not_ready(model, readiness)]),
        None => {
            let why = model.sample.control_plane.felix.absent().unwrap_or_default();
            review.unseen("whether felix is ready", why);
        }
    }
}

fn not_ready(model: &Model<'_>, readiness: &FelixReadiness) -> Finding {
    let answer = match readiness.status {
        Some(status) => format!("127.0.0.1:9099/readiness answers {status} {}", readiness.message),
        None => format!("127.0.0.1:9099/readiness: {}", readiness.message),
    };
    finding(
        Cause::FelixNotReady,
        SubjectKind::Node,
        model.node_name(),
        "felix is not ready: what changes now reaches neither routes of pods nor rules",
    )
    .with_severity(Severity::Warning)
    .with(EvidenceSource::Probe, answer.trim_end())
    .confirm("kubectl", calico_pods(model))
    .confirm(
        model.node_name(),
        "curl -s 127.0.0.1:9099/readiness; tail -n 50 /var/log/pods/kube-system_calico-node-*/calico-node/*.log",
    )
}

fn logs(model: &Model<'_>, review: &mut Review) {
    let Some(logs) = model.sample.control_plane.logs.known() else {
        let why = model.sample.control_plane.logs.absent().unwrap_or_default();
        return review.unseen("Calico's logs", why);
    };
    for log in logs {
        let recent: Vec<&LogEntry> =
            log.errors.iter().filter(|entry| is_recent(model.sample, entry)).collect();
        if recent.is_empty() {
            review.pass(format!("no recent error in the log of {}", log.of));
            continue;
        }
        let times: u32 = recent.iter().map(|entry| entry.count).fold(0, u32::saturating_add);
        let summary = format!("{times} errors in the log of {} within the last hour", log.of);
        let found = finding(Cause::CalicoLogErrors, SubjectKind::Log, &log.path, summary)
            .with_severity(Severity::Info)
            .confirm(model.node_name(), format!("tail -n 200 {}", log.path));
        let shown = recent.iter().rev().take(SHOWN_ERRORS);
        review
            .found([shown.fold(found, |found, entry| found.with(EvidenceSource::File, entry_words(entry)))]);
    }
}

/// A line of a log as it is shown.
pub fn entry_words(entry: &LogEntry) -> String {
    let time = entry.time.as_deref().map_or_else(String::new, |time| format!("{time} "));
    let count = if entry.count > 1 { format!(" ({} times)", entry.count) } else { String::new() };
    format!("{time}{}{count}", entry.text)
}

/// Lines without a time are among the last that were read.
fn is_recent(sample: &Sample, entry: &LogEntry) -> bool {
    let parsed = |text: &str| text.parse::<Timestamp>().ok();
    match (entry.time.as_deref().and_then(parsed), parsed(&sample.time)) {
        (Some(then), Some(now)) => now.duration_since(then) <= RECENT,
        _ => true,
    }
}
