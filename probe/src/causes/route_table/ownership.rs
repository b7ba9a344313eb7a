//! This node's own blocks against what the datastore says of them.

use std::net::Ipv4Addr;

use super::Fault;
use crate::{
    causes::{Cause, case::finding, routing::route_words},
    model::{
        Model,
        rows::{Role, Row},
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{BlockAffinity, Datastore, DatastorePod, Route},
};

/// Judges each own block, where the datastore was shown.
pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let Some(datastore) = model.sample.datastore.known() else { return Vec::new() };
    let own = rows.iter().enumerate().filter(|(_, row)| matches!(row.role, Role::OwnBlock { .. }));
    own.flat_map(|(place, row)| {
        let mut findings: Vec<Finding> = of_another_node(model, datastore, row).into_iter().collect();
        findings.extend(datastore.pods.iter().filter_map(|pod| borrowed(model, row.route, pod)));
        findings.into_iter().map(move |finding| Fault::of_row(place, finding))
    })
    .collect()
}

/// A blackhole for a block that another node has, or none.
fn of_another_node(model: &Model<'_>, datastore: &Datastore, row: &Row<'_>) -> Option<Finding> {
    let block = row.route.destination;
    let name = model.node_name();
    let is_known = datastore.nodes.iter().any(|node| node.name == name);
    if !is_known || datastore.affinities.is_empty() {
        return None;
    }
    let affinity = datastore.affinities.iter().find(|affinity| affinity.block == block);
    match affinity {
        Some(BlockAffinity { node, .. }) if *node == name => None,
        Some(BlockAffinity { node, state, .. }) => {
            let summary =
                format!("this node drops what is for block {block}, which the datastore gives to {node}");
            Some(
                finding(Cause::BlockOwnerConflict, SubjectKind::Block, block.to_string(), summary)
                    .with(EvidenceSource::Route, route_words(model, row.route))
                    .with(EvidenceSource::File, format!("the block's affinity is {node}'s, {state}"))
                    .confirm(model.node_name(), "calicoctl ipam check"),
            )
        }
        None if model.pods_within(block) > 0 => None,
        None => {
            let summary = format!("this node drops what is for block {block}, which no node has");
            Some(
                finding(Cause::StaleBlackhole, SubjectKind::Block, block.to_string(), summary)
                    .with_severity(Severity::Warning)
                    .with(EvidenceSource::Route, route_words(model, row.route))
                    .with(EvidenceSource::File, format!("the datastore has no affinity for {block}"))
                    .confirm(model.node_name(), "calicoctl ipam check")
                    .cure(
                        model.node_name(),
                        format!("ip route del blackhole {block}   # as long as no node has the block"),
                    ),
            )
        }
    }
}

/// The pod of another node that the datastore says to have an address, with that node's name.
pub fn pod_elsewhere<'a>(model: &Model<'a>, address: Ipv4Addr) -> Option<(&'a DatastorePod, &'a str)> {
    let pods = &model.sample.datastore.known()?.pods;
    let pod = pods.iter().find(|pod| runs(pod) && pod.addresses.contains(&address))?;
    let node = pod.node.as_deref().filter(|node| *node != model.node_name())?;
    Some((pod, node))
}

/// Why an own block's blackhole took a packet for an address, where a pod of another node has it.
pub fn borrowed_address(model: &Model<'_>, own: &Route, address: Ipv4Addr) -> Option<Finding> {
    borrowed(model, own, pod_elsewhere(model, address)?.0)
}

fn runs(pod: &DatastorePod) -> bool {
    !pod.host_network && pod.phase == "Running"
}

/// A pod of another node with an address of this one's block, to which no route of its own leads.
fn borrowed(model: &Model<'_>, own: &Route, pod: &DatastorePod) -> Option<Finding> {
    let node = pod.node.as_ref().filter(|node| runs(pod) && **node != model.node_name())?;
    let is_lost = |address: &&Ipv4Addr| {
        own.destination.contains(*address)
            && !model.is_local_pod(**address)
            && model.remote_block(**address).is_none_or(|block| block.route.destination.prefix_len() < 32)
    };
    let address = *pod.addresses.iter().find(is_lost)?;
    let summary = format!(
        "pod {}/{} lives on {node} with {address} of this node's block {}, and no route leads there",
        pod.namespace, pod.name, own.destination
    );
    Some(
        finding(Cause::BorrowedAddress, SubjectKind::Address, address.to_string(), summary)
            .with(
                EvidenceSource::Route,
                format!("no /32 for {address}; {} covers it", route_words(model, own)),
            )
            .with(EvidenceSource::File, format!("the datastore has the pod on {node}"))
            .confirm(
                node,
                format!("birdcl show route for {address} all   # does that node announce the /32?"),
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::rows::{self, Tables},
        sample::{DatastoreNode, Fact, PodOwner, Route, RouteKind, Sample},
    };

    /// A node named `here` that drops what is for 10.244.5.0/26, with one affinity and one pod of the other node.
    fn causes(owner: Option<&str>, pod: Option<&str>, route: Option<&str>) -> Vec<Cause> {
        let block = "10.244.5.0/26".parse().unwrap();
        let blackhole = Route {
            destination: block,
            kind: RouteKind::Blackhole,
            table: 254,
            protocol: 12,
            ..Route::default()
        };
        let announced = route.map(|destination| Route {
            destination: destination.parse().unwrap(),
            table: 254,
            protocol: 12,
            hops: vec![crate::sample::Hop { gateway: Some([10, 0, 0, 6].into()), ..Default::default() }],
            ..Route::default()
        });
        let node = |name: &str| DatastoreNode {
            name: name.to_owned(),
            address: None,
            tunnel_address: None,
            ready: None,
        };
        let affinity =
            |node: &str, block| BlockAffinity { block, node: node.to_owned(), state: "confirmed".to_owned() };
        let elsewhere = affinity("there", "10.244.6.0/26".parse().unwrap());
        let datastore = Datastore {
            nodes: vec![node("here"), node("there")],
            affinities: owner.map(|owner| affinity(owner, block)).into_iter().chain([elsewhere]).collect(),
            pods: pod
                .map(|address| DatastorePod {
                    namespace: "default".to_owned(),
                    name: "web-0".to_owned(),
                    node: Some("there".to_owned()),
                    addresses: vec![address.parse().unwrap()],
                    host_network: false,
                    phase: "Running".to_owned(),
                    waiting: Vec::new(),
                    owner: PodOwner::NotRead,
                })
                .into_iter()
                .collect(),
            ..Datastore::default()
        };
        let mut sample = Sample {
            routes: std::iter::once(blackhole).chain(announced).collect(),
            datastore: Fact::Known(datastore),
            ..Sample::default()
        };
        sample.node.calico_node_name = Fact::Known("here".to_owned());
        let model = Model::new(&sample);
        let (rows, _) = rows::read(&model, Tables::Main);
        judge(&model, &rows).into_iter().map(|fault| fault.finding.cause).collect()
    }

    #[test]
    fn a_block_is_dropped_by_its_owner_alone() {
        assert_eq!(causes(Some("here"), None, None), []);
        assert_eq!(causes(Some("there"), None, None), [Cause::BlockOwnerConflict]);
        assert_eq!(causes(None, None, None), [Cause::StaleBlackhole]);
    }

    #[test]
    fn a_borrowed_address_needs_a_route_of_its_own() {
        assert_eq!(causes(Some("here"), Some("10.244.5.40"), None), [Cause::BorrowedAddress]);
        assert_eq!(causes(Some("here"), Some("10.244.5.40"), Some("10.244.5.40/32")), []);
        assert_eq!(causes(Some("here"), Some("10.244.6.40"), None), []);
    }
}
