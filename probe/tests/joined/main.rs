//! `caliprobe cluster PATH…` of clusters that nobody has: healthy ones have nothing to report, and each fault gives
//! its group alone.
#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test itself may")]

mod command;
mod faults;
mod lawful;
mod made_up;
mod masked;

use caliprobe::{
    causes::{
        Cause,
        cluster::{self, Group, Node},
        node::judge,
    },
    model::Model,
    report::document::{NotSeen, Severity},
    sample::Sample,
};

use made_up::Plan;

/// What a cluster comes to.
struct Said {
    groups: Vec<Group>,
    not_seen: Vec<NotSeen>,
}

/// All nodes of a cluster, looked at within one second.
fn made_up_nodes(plan: Plan) -> Vec<Sample> {
    (0..plan.nodes).map(|node| made_up::sample(plan, node)).collect()
}

fn said(samples: &[Sample]) -> Said {
    let (nodes, mut not_seen) = cluster::newest(samples.iter().map(node).collect());
    let joined = cluster::judge(&nodes);
    not_seen.extend(joined.not_seen);
    Said { groups: cluster::group(&nodes, &joined.found), not_seen }
}

fn node(sample: &Sample) -> Node {
    let model = Model::new(sample);
    let findings = judge(&model, None).into_iter().flat_map(|review| review.findings).collect();
    Node::of(&model, findings)
}

impl Said {
    /// Causes that need somebody, with the names of their nodes.
    fn faults(&self) -> Vec<(Cause, Vec<&str>)> {
        let bad = self.groups.iter().filter(|group| group.severity >= Severity::Warning);
        bad.map(|group| (group.cause, group.names())).collect()
    }

    fn words(&self) -> String {
        serde_json::to_string_pretty(&self.groups).unwrap_or_default()
    }

    /// Of all findings.
    fn evidence(&self) -> Vec<&str> {
        let findings = self.groups.iter().flat_map(|group| &group.findings);
        findings.flat_map(|it| &it.finding.evidence).map(|evidence| evidence.text.as_str()).collect()
    }
}
