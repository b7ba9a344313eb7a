//! A clean-up plan as a person reads it before anything is taken away.

use super::text::{QUIET_WIDTH, printable, push, shorten};
use crate::plan::{Plan, VALID_FOR_SECONDS};

/// The whole plan: each step with its command, then what stays and why.
pub fn text(plan: &Plan) -> String {
    let mut text = headline(plan);
    text.push('\n');
    for (number, step) in (1..).zip(&plan.steps) {
        push(&mut text, "", "");
        push(&mut text, &format!("{number}."), &step.command);
        push(&mut text, "why", &step.why);
        for evidence in &step.proof {
            push(&mut text, "seen", &evidence.text);
        }
        push(&mut text, "risk", &step.risk);
        let undo = if step.is_reversible() {
            "`caliprobe cleanup undo` puts it back"
        } else {
            "it cannot be put back"
        };
        push(&mut text, "undo", undo);
    }
    for kept in &plan.kept {
        push(&mut text, "", "");
        push(&mut text, "stays", &format!("{}: {}", kept.subject.value, kept.why));
        if let Some(command) = &kept.command {
            push(&mut text, "owner", command);
        }
    }
    if !plan.steps.is_empty() {
        push(&mut text, "", "");
        push(
            &mut text,
            "next",
            &format!(
                "caliprobe cleanup plan -o json > plan.json; caliprobe cleanup apply plan.json   # within {} minutes",
                VALID_FOR_SECONDS / 60
            ),
        );
    }
    printable(&text.replace("\n      \n", "\n\n"))
}

/// One line of at most eighty characters.
pub fn quiet(plan: &Plan) -> String {
    shorten(&printable(&headline(plan)).replace('\n', " "), QUIET_WIDTH)
}

fn headline(plan: &Plan) -> String {
    let stays = match plan.kept.len() {
        0 => String::new(),
        count => format!("; {count} more stay"),
    };
    match plan.steps.len() {
        0 if plan.kept.is_empty() => format!("NOTHING TO CLEAN UP  {}: nothing here is stale", plan.node),
        0 => format!("NOTHING TO CLEAN UP  {}: {} may be stale and stay", plan.node, things(plan.kept.len())),
        1 => format!("PLAN  {}: 1 step{stays}; nothing is changed by this", plan.node),
        steps => format!("PLAN  {}: {steps} steps{stays}; nothing is changed by this", plan.node),
    }
}

fn things(count: usize) -> String {
    if count == 1 { "1 thing".to_owned() } else { format!("{count} things") }
}
