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
    sample::{BlockAffinity, Datastore, DatastorePod},
};

/// Judges each own block, where the datastore was shown.
pub fn judge(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<Fault> {
    let Some(datastore) = model.sample.datastore.known() else { return Vec::new() };
    let own = rows.iter().enumerate().filter(|(_, row)| matches!(row.role, Role::OwnBlock { .. }));
    own.flat_map(|(place, row)| {
        let mut findings: Vec<Finding> = of_another_node(model, datastore, row).into_iter().collect();
        findings.extend(datastore.pods.iter().filter_map(|pod| borrowed(model, row, pod)));
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

/// A pod of another node with an address of this one's block, to which no route of its own leads.
fn borrowed(model: &Model<'_>, row: &Row<'_>, pod: &DatastorePod) -> Option<Finding> {
    let node = pod.node.as_ref().filter(|node| **node != model.node_name())?;
    if pod.host_network || pod.phase != "Running" {
        return None;
    }
    let is_lost = |address: &&Ipv4Addr| {
        row.route.destination.contains(*address)
            && !model.is_local_pod(**address)
            && model.remote_block(**address).is_none_or(|block| block.route.destination.prefix_len() < 32)
    };
    let address = *pod.addresses.iter().find(is_lost)?;
    let summary = format!(
        "pod {}/{} lives on {node} with {address} of this node's block {}, and no route leads there",
        pod.namespace, pod.name, row.route.destination
    );
    Some(
        finding(Cause::BorrowedAddress, SubjectKind::Address, address.to_string(), summary)
            .with(
                EvidenceSource::Route,
                format!("no /32 for {address}; {} covers it", route_words(model, row.route)),
            )
            .with(EvidenceSource::File, format!("the datastore has the pod on {node}"))
            .confirm(
                node,
                format!("birdcl show route for {address} all   # does that node announce the /32?"),
            ),
    )
}
