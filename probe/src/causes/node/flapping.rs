//! Routes to pods that something keeps taking away and putting back.

use std::{collections::BTreeMap, time::Duration};

use ipnet::Ipv4Net;

use crate::{
    causes::{Cause, case::finding},
    model::Model,
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{RouteChange, RouteWatch},
};

/// A pod that is replaced takes its route away once.
const LAWFUL_REMOVALS: usize = 1;

/// Judges what was watched.
pub fn judge(model: &Model<'_>, watch: &RouteWatch) -> Vec<Finding> {
    let mut by_destination: BTreeMap<Ipv4Net, Vec<&RouteChange>> = BTreeMap::new();
    for change in watch.changes.iter().filter(|change| model.pool_around(change.destination).is_some()) {
        by_destination.entry(change.destination).or_default().push(change);
    }
    by_destination
        .iter()
        .filter_map(|(destination, changes)| flapping(model, watch, *destination, changes))
        .collect()
}

fn flapping(
    model: &Model<'_>,
    watch: &RouteWatch,
    destination: Ipv4Net,
    changes: &[&RouteChange],
) -> Option<Finding> {
    let removed = changes.iter().filter(|change| change.removed).count();
    let added = changes.len() - removed;
    if removed <= LAWFUL_REMOVALS || added == 0 {
        return None;
    }
    let time = Duration::from_millis(watch.milliseconds);
    let summary =
        format!("the route to {destination} was removed {removed} times and added {added} times in {time:?}");
    let mut found = finding(Cause::RouteFlapping, SubjectKind::Route, destination.to_string(), summary)
        .with_severity(Severity::Warning);
    for (words, is_removal) in [("removed", true), ("added", false)] {
        let mut owners: Vec<u8> = changes
            .iter()
            .filter(|change| change.removed == is_removal)
            .map(|change| change.protocol)
            .collect();
        owners.sort_unstable();
        owners.dedup();
        let owners: Vec<&str> = owners.into_iter().map(owner).collect();
        found = found
            .with(EvidenceSource::Route, format!("{words} routes were written by {}", owners.join(", ")));
    }
    Some(found.confirm(model.node_name(), format!("ip monitor route | grep {}   # then: which process? systemd-networkd, NetworkManager and cloud agents remove what they do not know", destination.addr())))
}

/// `RTPROT_*` (include/uapi/linux/rtnetlink.h), and Felix' 80.
fn owner(protocol: u8) -> &'static str {
    match protocol {
        2 => "the kernel",
        3 => "hand or the CNI plug-in",
        4 => "hand (static)",
        12 => "BIRD",
        16 => "DHCP",
        80 => "felix",
        _ => "another program",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    fn found(removals: &[bool]) -> Vec<Cause> {
        let sample = Sample { given_pools: vec!["10.200.0.0/16".parse().unwrap()], ..Sample::default() };
        let destination = "10.200.153.64/26".parse().unwrap();
        let changes =
            removals.iter().map(|removed| RouteChange { destination, protocol: 12, removed: *removed });
        let watch = RouteWatch { milliseconds: 5000, changes: changes.collect() };
        judge(&Model::new(&sample), &watch).iter().map(|finding| finding.cause).collect()
    }

    #[test]
    fn only_what_comes_and_goes_again_and_again_flaps() {
        assert_eq!(found(&[true, false, true]), [Cause::RouteFlapping]);
        assert!(found(&[true, false]).is_empty());
        assert!(found(&[true, true]).is_empty());
        assert!(found(&[false, false, false]).is_empty());
    }
}
