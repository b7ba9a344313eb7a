//! Which outputs would settle what pasted ones leave open.

use crate::{
    causes::Cause,
    model::Model,
    report::document::{Certainty, Finding, Next},
    sample::{Part, Sample},
};

/// As many as a person goes and fetches.
const MOST: usize = 2;

/// The one or two outputs to show next; none where the node itself was looked at, or nothing is open.
pub fn wanted(model: &Model<'_>, findings: &[Finding]) -> Vec<Next> {
    let sample = model.sample;
    if sample.missing.is_empty() {
        return Vec::new();
    }
    let commands = if model.is_inside_pod() { of_the_pods_node() } else { of_the_node(sample, findings) };
    let node = if model.is_inside_pod() { "the pod's node".to_owned() } else { model.node_name() };
    commands
        .into_iter()
        .take(MOST)
        .map(|command| Next { node: node.clone(), command: command.to_owned() })
        .collect()
}

/// Whether what was shown is enough to call a node's pod network healthy.
pub fn is_enough(sample: &Sample) -> bool {
    let parts = [Part::Routes, Part::LinkStates, Part::Addresses];
    parts.iter().all(|part| sample.holds(*part)) && sample.bird.known().is_some()
}

fn of_the_pods_node() -> Vec<&'static str> {
    vec![
        "ip route get 169.254.1.1",
        "sysctl -a --pattern 'net.ipv4.(ip_forward|conf.cali.*(forwarding|proxy_arp))'",
    ]
}

fn of_the_node(sample: &Sample, findings: &[Finding]) -> Vec<&'static str> {
    let about = |causes: &[Cause]| {
        findings
            .iter()
            .any(|finding| causes.contains(&finding.cause) && finding.certainty == Certainty::Inferred)
    };
    let mut commands = Vec::new();
    let blocks = [Cause::BlockRouteMissing, Cause::NextHopNotANode, Cause::StaleTunnelRoute];
    let open = [
        (sample.routes.is_empty(), "ip route"),
        (about(&blocks) && sample.bird.known().is_none(), "calicoctl node status"),
        (about(&[Cause::EncapsulationMissing]), "kubectl get ippools.crd.projectcalico.org -o yaml"),
        (about(&[Cause::StaleInterface]), "calicoctl get workloadendpoint -A -o wide"),
        (!sample.holds(Part::Routes), "ip route"),
        (sample.bird.known().is_none(), "calicoctl node status"),
        (!sample.holds(Part::LinkStates) || !sample.holds(Part::Addresses), "ip -s -d address"),
        (!sample.holds(Part::Neighbours), "ip neigh"),
        (!sample.holds(Part::Sysctls), "sysctl -a --pattern 'net.ipv4.(ip_forward|conf)'"),
        (sample.rule_sets.known().is_none(), "iptables-save -c"),
    ];
    for (_, command) in open.into_iter().filter(|(is_open, _)| *is_open) {
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}
