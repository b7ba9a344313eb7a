//! The pages themselves, and the page about them.

use std::{fs, time::Duration};

use caliprobe::{
    model::totals::Totals,
    report::metrics::{self, Facts, Format, Page},
};

use super::{node, programs::promtool};

#[test]
fn prometheus_own_lint_finds_nothing() {
    let state = node::state(188, &[(187, 7, 5)]);
    let mut totals = Totals::default();
    totals.advance(&state);
    let written_in = [(Page::Node, Duration::from_millis(1)), (Page::Peers, Duration::from_millis(1))];
    let facts = Facts { state: &state, totals: &totals, written_in: &written_in };
    for page in [Page::Node, Page::Peers] {
        let text = metrics::page(page, &facts, Format::Text);
        promtool(&["check", "metrics"], &text).unwrap();
    }
}

#[test]
fn the_reference_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let written = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, metrics::reference(), "docs/metrics.md is stale: run `cargo xtask docs`");
}
