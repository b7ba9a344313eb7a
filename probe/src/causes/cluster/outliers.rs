//! Settings in which a few nodes differ from all others.

use std::collections::BTreeMap;

use super::{Cluster, Node, list};
use crate::{
    causes::{Cause, case::finding},
    model::Model,
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
};

/// Fewer are no majority.
const FEWEST_ALIKE: usize = 3;
/// Those that differ are at most such a part of all.
const PART: usize = 4;

/// What all nodes of a cluster have alike, mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Of `tunl0`, bytes.
    TunnelMtu,
    /// Which Calico gives to pods, bytes.
    PodMtu,
    /// Of the device of the default route, bytes.
    UplinkMtu,
    /// `net.ipv4.conf.all.rp_filter`.
    ReversePathFilter,
    /// `net.ipv4.ip_forward`.
    Forwarding,
}

impl Setting {
    /// As far as they are known.
    pub fn all_of(model: &Model<'_>) -> BTreeMap<Self, u32> {
        let sample = model.sample;
        let mtu = |mtu: u32| (mtu > 0).then_some(mtu);
        let uplink = model.tables.default_link().and_then(|link| model.link(link));
        [
            (Self::TunnelMtu, model.tunnel().and_then(|tunnel| mtu(tunnel.mtu))),
            (Self::PodMtu, sample.node.calico_mtu.known().copied()),
            (Self::UplinkMtu, uplink.and_then(|link| mtu(link.mtu))),
            (
                Self::ReversePathFilter,
                sample.sysctls.interfaces.get("all").and_then(|all| all.rp_filter).map(u32::from),
            ),
            (Self::Forwarding, sample.sysctls.ip_forward.map(u32::from)),
        ]
        .into_iter()
        .filter_map(|(setting, value)| Some((setting, value?)))
        .collect()
    }

    fn words(self) -> &'static str {
        match self {
            Self::TunnelMtu => "the MTU of tunl0",
            Self::PodMtu => "the pods' MTU",
            Self::UplinkMtu => "the uplink's MTU",
            Self::ReversePathFilter => "net.ipv4.conf.all.rp_filter",
            Self::Forwarding => "net.ipv4.ip_forward",
        }
    }

    fn cause(self) -> Cause {
        match self {
            Self::TunnelMtu | Self::PodMtu | Self::UplinkMtu => Cause::MtuBlackHole,
            Self::ReversePathFilter => Cause::RpFilter,
            Self::Forwarding => Cause::IpForwardOff,
        }
    }

    /// What is larger than the others' may not fit through their path; nodes of several kinds differ by right.
    fn severity(self, value: u32, others: u32) -> Severity {
        match self {
            Self::TunnelMtu | Self::PodMtu if value > others => Severity::Warning,
            _ => Severity::Info,
        }
    }

    fn source(self) -> EvidenceSource {
        match self {
            Self::TunnelMtu | Self::UplinkMtu => EvidenceSource::Link,
            Self::PodMtu => EvidenceSource::File,
            Self::ReversePathFilter | Self::Forwarding => EvidenceSource::Sysctl,
        }
    }

    fn shown_by(self) -> &'static str {
        match self {
            Self::TunnelMtu => "ip link show tunl0",
            Self::PodMtu => "cat /var/lib/calico/mtu",
            Self::UplinkMtu => "ip link show $(ip route show default | grep -o 'dev [^ ]*' | cut -c5-)",
            Self::ReversePathFilter => "sysctl net.ipv4.conf.all.rp_filter",
            Self::Forwarding => "sysctl net.ipv4.ip_forward",
        }
    }
}

/// Nodes by what a setting is there.
type ByValue<'a> = BTreeMap<u32, Vec<(usize, &'a Node)>>;

pub fn judge(cluster: &Cluster<'_>) -> Vec<(usize, Finding)> {
    let mut by_setting: BTreeMap<Setting, ByValue<'_>> = BTreeMap::new();
    for (place, node) in &cluster.nodes {
        for (setting, value) in &node.settings {
            by_setting.entry(*setting).or_default().entry(*value).or_default().push((*place, node));
        }
    }
    by_setting.iter().flat_map(|(setting, values)| outliers(*setting, values)).collect()
}

fn outliers(setting: Setting, values: &ByValue<'_>) -> Vec<(usize, Finding)> {
    let all: usize = values.values().map(Vec::len).sum();
    let Some((common, many)) = values.iter().max_by_key(|(_, nodes)| nodes.len()) else { return Vec::new() };
    let few = all - many.len();
    if many.len() < FEWEST_ALIKE || few * PART > all {
        return Vec::new();
    }
    let names: Vec<&str> = many.iter().map(|(_, node)| node.name.as_str()).collect();
    let others = values.iter().filter(|(value, _)| *value != common);
    others
        .flat_map(|(value, nodes)| nodes.iter().map(move |(place, node)| (*value, *place, *node)))
        .map(|(value, place, node)| {
            let summary =
                format!("{} is {value} here and {common} on {} of {all} nodes", setting.words(), many.len());
            let found = finding(setting.cause(), SubjectKind::Sysctl, setting.words(), summary)
                .inferred()
                .with_severity(setting.severity(value, *common))
                .with(setting.source(), format!("{}: {} is {value}", node.name, setting.words()))
                .with(setting.source(), format!("{}: {common}", list(&names)))
                .confirm(&node.name, setting.shown_by());
            (place, found)
        })
        .collect()
}
