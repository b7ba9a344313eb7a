//! Other pod networks on this node, and dataplanes of Calico whose path is another one.

use super::{Review, Topic, firewall};
use crate::{
    causes::{Cause, case::finding, other_dataplane},
    model::Model,
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{Link, Part, ProcessRole},
};

/// Devices that other pod networks make, and whose they are.
const DEVICES: [(&str, &str); 6] = [
    ("flannel.", "flannel"),
    ("cni0", "the bridge plug-in, as flannel uses it"),
    ("weave", "Weave Net"),
    ("cilium_", "Cilium"),
    ("kube-bridge", "kube-router"),
    ("antrea-gw", "Antrea"),
];

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::PodNetworks);
    review.found(other_networks(model));
    review.found(other_dataplane(model));
    if review.findings.is_empty() && !model.sample.holds(Part::Links) {
        review.unseen("other pod networks", "not every device was shown: ip addr");
    } else if review.findings.is_empty() {
        review.pass("no other pod network is here");
    }
    review
}

/// A process or the runtime's first configuration proves that another network is active; what one left behind
/// proves only that it was.
fn other_networks(model: &Model<'_>) -> Option<Finding> {
    let control = &model.sample.control_plane;
    let processes = control.processes.known().into_iter().flatten();
    let running: Vec<&str> = processes
        .filter(|process| process.role == ProcessRole::OtherPodNetwork)
        .map(|process| process.name.as_str())
        .collect();
    let networks = control.cni_networks.known().map_or(&[][..], Vec::as_slice);
    let is_calico = |plugins: &[String]| plugins.iter().any(|plugin| plugin == "calico");
    let first = networks.first().filter(|network| !is_calico(&network.plugins));
    let others: Vec<&str> = networks
        .iter()
        .filter(|network| {
            !is_calico(&network.plugins) && network.plugins.iter().any(|plugin| plugin != "loopback")
        })
        .map(|network| network.file.as_str())
        .collect();
    let devices: Vec<(&Link, &str)> = devices(model).collect();
    let chains = firewall::of_other_networks(model);
    if running.is_empty() && others.is_empty() && devices.is_empty() && chains.is_empty() {
        return None;
    }
    let preferred = first.filter(|_| networks.iter().any(|network| is_calico(&network.plugins)));
    // Where nothing needs tunl0 the other one may lawfully carry the pods, as flannel does for Calico's policies alone.
    let is_ours = model.needs_tunnel().is_some();
    let (severity, summary) = match (running.first().filter(|_| is_ours), preferred.filter(|_| is_ours)) {
        (Some(name), _) => (Severity::Warning, format!("another pod network runs on this node: {name}")),
        (None, Some(network)) => (
            Severity::Warning,
            format!("new pods do not come to Calico: the runtime takes {} first", network.file),
        ),
        (None, None) => (Severity::Info, "another pod network has something on this node".to_owned()),
    };
    let mut found =
        finding(Cause::SecondCni, SubjectKind::Node, model.node_name(), summary).with_severity(severity);
    if severity == Severity::Info {
        found = found.inferred();
    }
    for name in running {
        found = found.with(EvidenceSource::File, format!("/proc: {name} runs"));
    }
    for file in &others {
        found = found.with(EvidenceSource::File, format!("/etc/cni/net.d/{file} is not Calico's"));
    }
    for (link, whose) in devices {
        found = found.with(EvidenceSource::Link, format!("{} is a device of {whose}", link.name));
    }
    for (network, chains) in chains {
        let first = chains.first().map_or("", String::as_str);
        let more = if chains.len() > 1 { format!(" and {} more", chains.len() - 1) } else { String::new() };
        found = found.with(EvidenceSource::Rule, format!("chains of {network}: {first}{more}"));
    }
    Some(found.confirm(model.node_name(), "ls /etc/cni/net.d; ip -brief link"))
}

fn devices<'a>(model: &Model<'a>) -> impl Iterator<Item = (&'a Link, &'static str)> {
    model.sample.links.iter().filter_map(|link| {
        let (_, whose) = DEVICES.iter().find(|(prefix, _)| link.name.starts_with(prefix))?;
        Some((link, *whose))
    })
}

fn other_dataplane(model: &Model<'_>) -> Option<Finding> {
    let links = model.sample.links.iter();
    let device = links
        .filter_map(|link| Some((link, other_dataplane::of_device(link)?)))
        .find(|(link, _)| carries_pods(model, link));
    let (summary, evidence) = if let Some((link, what)) = device {
        (
            format!("Calico's {what} carries pods' traffic here"),
            format!("routes to pods lead by {}", link.name),
        )
    } else {
        let processes = model.sample.control_plane.processes.known()?;
        let vpp = processes.iter().find(|process| process.role == ProcessRole::Vpp)?;
        ("Calico's VPP dataplane runs here".to_owned(), format!("/proc/{}: {}", vpp.id, vpp.name))
    };
    let found = finding(
        Cause::DataplaneUnsupported,
        SubjectKind::Node,
        model.node_name(),
        format!("{summary}; caliprobe knows the path through tunl0"),
    )
    .with_severity(Severity::Info)
    .with(EvidenceSource::Link, evidence)
    .confirm(
        "kubectl",
        "kubectl get ippools.crd.projectcalico.org,felixconfigurations.crd.projectcalico.org -o yaml",
    );
    Some(found)
}

fn carries_pods(model: &Model<'_>, link: &Link) -> bool {
    let mut routes = model.sample.routes.iter();
    routes.any(|route| {
        model.pool_around(route.destination).is_some()
            && route.hops.iter().any(|hop| hop.link == Some(link.index))
    })
}
