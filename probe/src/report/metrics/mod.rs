//! What a daemon knows, as metrics: `/metrics`, which is bounded, and `/metrics/peers`, which has two counters for
//! every peer and is never cut.
//!
//! A fact that is absent has no series: zero is a count of none, not a count that nobody made.

mod catalogue;
mod encoding;
mod limit;
mod reference;
mod series;

use std::time::Duration;

use crate::{model::totals::Totals, state::State};

pub use encoding::Format;
pub use reference::reference;

/// A page of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`.
    Node,
    /// `/metrics/peers`.
    Peers,
}

impl Page {
    /// Its name in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "metrics",
            Self::Peers => "peers",
        }
    }
}

/// What the metrics are made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub state: &'a State,
    pub totals: &'a Totals,
    /// How long it took to write each page last.
    pub written_in: &'a [(Page, Duration)],
}

/// The text of a page.
pub fn page(page: Page, facts: &Facts<'_>, format: Format) -> String {
    let families = match page {
        Page::Node => limit::fit(catalogue::NODE, facts),
        Page::Peers => catalogue::PEERS.iter().map(|metric| metric.family(facts)).collect(),
    };
    encoding::text(families, format)
}

#[cfg(test)]
mod tests;
