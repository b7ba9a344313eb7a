//! What is certainly wrong with a node's route table as it stands, without any packet. Whatever could be lawful is
//! left alone.

pub(super) mod blocks;
mod bridges;
mod destinations;
mod encapsulation;
pub(super) mod leftovers;
pub(super) mod next_hops;
mod overlap;
pub(super) mod ownership;
mod pods;
mod routers;

pub use bridges::idle as idle_bridges;
pub use leftovers::{is_leftover, unexplained as unexplained_pod_links};

use super::gateway;
use crate::{
    model::{Model, rows::Row},
    report::document::Finding,
};

/// Something wrong, and the rows that show it, by their place; none where what is wrong is that one is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub finding: Finding,
    pub rows: Vec<usize>,
}

impl Fault {
    fn of_row(row: usize, finding: Finding) -> Self {
        Self { finding, rows: vec![row] }
    }

    fn of_no_row(finding: Finding) -> Self {
        Self { finding, rows: Vec::new() }
    }

    /// Whether another look found the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.finding.cause == other.finding.cause && self.finding.subject == other.finding.subject
    }
}

/// Judges the rows.
pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let tunnel = super::tunnel::fault(model).map(Fault::of_no_row);
    let gateway = gateway::without_route(model).map(Fault::of_no_row);
    let mut faults: Vec<Fault> = tunnel.into_iter().chain(gateway).collect();
    faults.extend(next_hops::judge(model, rows));
    faults.extend(blocks::judge(model, rows));
    faults.extend(pods::judge(model, rows));
    faults.extend(leftovers::judge(model, rows));
    faults.extend(overlap::judge(model, rows));
    faults.extend(encapsulation::judge(model, rows));
    faults.extend(routers::judge(model, rows));
    faults.extend(ownership::judge(model, rows));
    faults
}
