//! A black hole as a person reads it: what is lost, where, why, and what to type.

use super::text::{fixes, push, stage_word};
use crate::{
    causes::Cause,
    report::{document::Finding, text::finding_code},
    state::BlackHole,
};

/// The cause's code, or that nothing proves one.
pub fn cause_words(black_hole: &BlackHole) -> String {
    black_hole.cause.map_or_else(|| "cause unknown".to_owned(), Cause::code)
}

/// The whole of it, one line a thought, each under its label.
pub fn text(black_hole: &BlackHole) -> String {
    let mut text = String::new();
    let code = black_hole.finding.as_ref().map_or_else(|| cause_words(black_hole), finding_code);
    push(&mut text, "what", &format!("{}: {} ({code})", black_hole.subject.value, black_hole.summary));
    let end = black_hole.closed.as_ref().map_or_else(String::new, |closed| format!(", closed {closed}"));
    push(
        &mut text,
        "since",
        &format!("{}{end}; at least {} packets lost", black_hole.opened, black_hole.packets),
    );
    if let Some(place) = &black_hole.place {
        let device = place.device.as_ref().map_or_else(String::new, |device| format!(", {device}"));
        push(&mut text, "where", &format!("{} at {}{device}", place.node, stage_word(place.stage)));
    }
    match &black_hole.finding {
        Some(finding) => explain(&mut text, finding),
        None => {
            push(&mut text, "why", "nothing proves why; `caliprobe diagnose` follows a packet of its own");
        }
    }
    text
}

fn explain(text: &mut String, finding: &Finding) {
    for reason in &finding.explained_by {
        push(text, "why", &format!("{} ({})", reason.summary, finding_code(reason)));
        for evidence in &reason.evidence {
            push(text, "why", &evidence.text);
        }
    }
    for evidence in &finding.evidence {
        push(text, "why", &evidence.text);
    }
    fixes(text, finding);
    for reason in &finding.explained_by {
        fixes(text, reason);
    }
}
