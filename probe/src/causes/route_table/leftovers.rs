//! Devices of pods that are gone, as far as that shows. A veth ends with its peer's namespace, so each device has a
//! peer; the namespace of a pod whose removal failed half way stays, without a process.

use super::Fault;
use crate::{
    causes::{Cause, case::finding, routing::route_words},
    model::{
        Model, is_pod_link,
        rows::{Row, Traffic},
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{Link, Part},
};

/// The devices that are certainly of no pod any more, with the rows that still lead to them.
pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let devices = model.sample.links.iter().filter(|link| is_pod_link(link) && is_leftover(model, link));
    devices
        .map(|device| {
            let leads_there = |row: &Row<'_>| row.route.hops.iter().any(|hop| hop.link == Some(device.index));
            let rows = rows.iter().enumerate().filter(|(_, row)| leads_there(row));
            let (places, rows): (Vec<usize>, Vec<&Row<'_>>) = rows.unzip();
            let found = rows.iter().fold(leftover(model, device), |found, row| {
                found.with(EvidenceSource::Route, route_words(model, row.route))
            });
            Fault { finding: found, rows: places }
        })
        .collect()
}

/// Whether a device is of a pod that is gone: no process is left behind it, and the container runtime's cache does not
/// name it. That no process is seen there says something only where those of other pods are seen: a probe in a
/// container may see none but its own.
pub fn is_leftover(model: &Model<'_>, device: &Link) -> bool {
    let pods = &model.sample.pod_interfaces;
    let is_empty = pods.iter().any(|pod| pod.link == device.index && pod.inhabited == Some(false));
    let sees_processes = pods.iter().any(|pod| pod.inhabited == Some(true));
    let results = model.sample.cni_results.known();
    let is_unnamed = results.is_some_and(|results| {
        !results.iter().any(|result| result.host_interface.as_ref() == Some(&device.name))
    });
    is_empty && sees_processes && is_unnamed
}

fn leftover(model: &Model<'_>, device: &Link) -> Finding {
    let name = &device.name;
    let summary = format!("{name} is a leftover: the pod behind it is gone, its network namespace is not");
    finding(Cause::StaleInterface, SubjectKind::Interface, name, summary)
        .with_severity(Severity::Info)
        .with(EvidenceSource::Link, format!("no process is in the network namespace behind {name}"))
        .with(EvidenceSource::File, format!("no result in the container runtime's cache names {name}"))
        .confirm(
            "kubectl",
            format!("calicoctl get workloadendpoint -A -o wide | grep {name}   # none: no pod has it"),
        )
        .confirm(model.node_name(), "lsns -t net; ip netns list-id   # the namespace without a process")
}

/// Devices without a row behind which nobody looked: whether a pod still uses one does not show from here.
pub fn unexplained(model: &Model<'_>) -> Vec<Finding> {
    if !model.sample.holds(Part::Routes) {
        return Vec::new();
    }
    let looked_into = |link: &&Link| model.sample.pod_interfaces.iter().any(|pod| pod.link == link.index);
    let devices = model.pod_links_without_route().filter(|link| !looked_into(link));
    devices.map(|device| leftover_or_lost(model, device)).collect()
}

fn leftover_or_lost(model: &Model<'_>, device: &Link) -> Finding {
    let name = &device.name;
    let summary = format!(
        "no /32 leads to {name}: either a live pod that lost its route, or a leftover of one that is gone"
    );
    let mut found = finding(Cause::StaleInterface, SubjectKind::Interface, name, summary)
        .inferred()
        .with_severity(Severity::Info)
        .with(EvidenceSource::Route, format!("no row leads to {name}"));
    if model.sample.holds(Part::LinkStatistics) {
        let Traffic { packets_in, packets_out, .. } = Traffic::of(device);
        let words =
            format!("{name} has received {packets_in} packets and sent {packets_out} since it exists");
        found = found.with(EvidenceSource::Counter, words);
    }
    found
        .confirm("kubectl", format!("calicoctl get workloadendpoint -A -o wide | grep {name}   # a pod: it lost its route (pod-route-missing); none: a leftover"))
        .confirm(model.node_name(), "caliprobe routes   # as root on the node it looks into the pods themselves")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{CniResult, Fact, PodInterface, Sample};

    const DEVICE: &str = "cali0123456789a";

    fn pod(link: u32, inhabited: Option<bool>) -> PodInterface {
        PodInterface {
            link,
            name: "eth0".to_owned(),
            up: true,
            carrier: true,
            addresses: Vec::new(),
            inhabited,
            checksum_errors: None,
        }
    }

    fn result(interface: &str) -> CniResult {
        CniResult {
            namespace: None,
            pod: None,
            container_id: String::new(),
            host_interface: Some(interface.to_owned()),
            addresses: Vec::new(),
            network_namespace: None,
        }
    }

    /// Whether the first of two devices counts as left over, by whether processes are behind them.
    fn is_left_over(behind: [Option<bool>; 2], results: Fact<Vec<CniResult>>) -> bool {
        let links = [DEVICE, "cali1"].into_iter().zip(1..);
        let links = links.map(|(name, index)| Link { index, name: name.to_owned(), ..Link::default() });
        let sample = Sample {
            links: links.collect(),
            pod_interfaces: vec![pod(1, behind[0]), pod(2, behind[1])],
            cni_results: results,
            ..Sample::default()
        };
        let model = Model::new(&sample);
        is_leftover(&model, &sample.links[0])
    }

    #[test]
    fn a_pod_is_gone_only_where_processes_and_the_runtime_both_say_so() {
        let gone = [Some(false), Some(true)];
        let of_others = || Fact::Known(vec![result("cali1")]);
        assert!(is_left_over(gone, of_others()));
        assert!(!is_left_over([Some(true), Some(true)], of_others()));
        assert!(!is_left_over(gone, Fact::Known(vec![result(DEVICE)])));
        assert!(!is_left_over(gone, Fact::Absent("no cache".to_owned())));
    }

    #[test]
    fn who_sees_no_process_of_any_pod_knows_of_none_that_it_is_gone() {
        let of_others = || Fact::Known(vec![result("cali1")]);
        assert!(!is_left_over([Some(false), Some(false)], of_others()));
        assert!(!is_left_over([None, None], of_others()));
    }
}
