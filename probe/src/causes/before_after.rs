//! Two looks at one node held against each other: what went, what came, what changed, and whether any pod, block or
//! node that was reached before is not any more.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{node, routing::route_words};
use crate::{
    model::{
        LocalPod, Model,
        peers::is_vouched_for,
        routing::{Decision, Flow, look_up},
        rows::{self, Role, Row, Tables},
    },
    report::document::{Finding, Severity, Subject, SubjectKind},
    sample::{Link, Route},
};

/// What happened to a thing between the two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    Went,
    Came,
    Changed,
}

/// What it means for pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// What was reached is not any more, or something is wrong that was not.
    Regression,
    /// What these looks show does not tell.
    Unknown,
    /// What was wrong is not any more.
    Healed,
    /// No pod is the worse for it.
    Harmless,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub happened: Happened,
    pub meaning: Meaning,
    pub subject: Subject,
    pub summary: String,
    /// What is wrong now, or was before.
    pub finding: Option<Finding>,
}

impl Change {
    fn new(
        (happened, meaning): (Happened, Meaning),
        (kind, value): (SubjectKind, String),
        summary: String,
    ) -> Self {
        Self { happened, meaning, subject: Subject { kind, value }, summary, finding: None }
    }
}

/// All differences, the worst first.
pub fn judge(before: &Model<'_>, after: &Model<'_>) -> Vec<Change> {
    let mut changes = routes(before, after);
    changes.extend(devices(before, after));
    changes.extend(conditions(before, after));
    changes.sort_by(|one, other| {
        let key = |change: &Change| (change.meaning, change.happened, change.subject.value.clone());
        key(one).cmp(&key(other))
    });
    changes
}

/// What makes a route the same one in two looks (`fib_create_info`, `fib_table_insert`).
type RouteKey = (u32, Ipv4Net, u8, u32);

fn key(route: &Route) -> RouteKey {
    (route.table, route.destination, route.tos, route.metric)
}

fn routes(before: &Model<'_>, after: &Model<'_>) -> Vec<Change> {
    let (rows_before, _) = rows::read(before, Tables::All);
    let (rows_after, _) = rows::read(after, Tables::All);
    let by_key = |rows: &[Row<'_>]| -> BTreeMap<RouteKey, usize> {
        rows.iter().enumerate().map(|(place, row)| (key(row.route), place)).collect()
    };
    let (old, new) = (by_key(&rows_before), by_key(&rows_after));
    let mut changes = Vec::new();
    for (key, place) in &old {
        let row = &rows_before[*place];
        match new.get(key).map(|place| &rows_after[*place]) {
            None => changes.push(went(before, after, row)),
            Some(now) if words(before, row.route) != words(after, now.route) => {
                changes.push(changed(before, after, row, now));
            }
            Some(_) => {}
        }
    }
    let came = new.iter().filter(|(key, _)| !old.contains_key(*key)).map(|(_, place)| &rows_after[*place]);
    changes.extend(came.map(|row| {
        let text = words(after, row.route);
        Change::new((Happened::Came, Meaning::Harmless), subject(row), format!("{text} came"))
    }));
    changes
}

fn words(model: &Model<'_>, route: &Route) -> String {
    route_words(model, route)
}

fn subject(row: &Row<'_>) -> (SubjectKind, String) {
    let destination = row.route.destination;
    match row.role {
        Role::LocalPod { .. } => (SubjectKind::Pod, destination.addr().to_string()),
        Role::OwnBlock { .. } | Role::RemoteBlock { .. } => (SubjectKind::Block, destination.to_string()),
        _ => (SubjectKind::Route, destination.to_string()),
    }
}

fn went(before: &Model<'_>, after: &Model<'_>, row: &Row<'_>) -> Change {
    let text = words(before, row.route);
    let (meaning, why) = match &row.role {
        Role::LocalPod { .. } => pod_went(before, after, row.route),
        Role::RemoteBlock { next_hops, .. } | Role::RemoteAddress { next_hops, .. } => {
            remote_went(after, row.route.destination, next_hops)
        }
        Role::OwnBlock { .. } if after.pods_within(row.route.destination) > 0 => {
            (Meaning::Unknown, "pods of this block are still here: who announces it?".to_owned())
        }
        Role::DefaultRoute if after.tables.default_route().is_none() => {
            (Meaning::Regression, "no default route is left".to_owned())
        }
        _ => (Meaning::Harmless, "no pod was reached by it".to_owned()),
    };
    Change::new((Happened::Went, meaning), subject(row), format!("{text} went: {why}"))
}

fn pod_went(before: &Model<'_>, after: &Model<'_>, route: &Route) -> (Meaning, String) {
    let address = route.destination.addr();
    if after.is_local_pod(address) {
        return (Meaning::Harmless, "another route leads to the pod".to_owned());
    }
    let link = before.pod_link_of(route).and_then(|link| before.link(link));
    let still_here = link.filter(|link| same_device(before, link, after).is_some());
    if let Some(link) = still_here {
        return (Meaning::Regression, format!("its interface {} is still here", link.name));
    }
    let results = after.sample.cni_results.known();
    let named =
        results.is_some_and(|results| results.iter().any(|result| result.addresses.contains(&address)));
    if named {
        return (Meaning::Regression, "the container runtime still has this pod".to_owned());
    }
    if let Some(node) = after.tunnel_next_hop(address).or_else(|| after.bare_next_hop(address)) {
        return (Meaning::Harmless, format!("its interface went too; {node} has the address now"));
    }
    (Meaning::Harmless, "its interface went too: the pod ended".to_owned())
}

fn remote_went(after: &Model<'_>, destination: Ipv4Net, next_hops: &[Ipv4Addr]) -> (Meaning, String) {
    if let Some(way) = reached(after, destination.network()) {
        return (Meaning::Harmless, way);
    }
    let hosts = after.sample.sets.hosts.known().filter(|hosts| !hosts.is_empty());
    let left =
        hosts.is_some_and(|hosts| !next_hops.iter().any(|node| hosts.iter().any(|host| host.contains(node))));
    if left && !next_hops.is_empty() {
        return (Meaning::Harmless, "its node is none of the cluster any more".to_owned());
    }
    let nodes: Vec<String> = next_hops.iter().map(Ipv4Addr::to_string).collect();
    (Meaning::Regression, format!("nothing leads to the pods of {} any more", nodes.join(" and ")))
}

/// How an address is reached now, where it is.
fn reached(after: &Model<'_>, address: Ipv4Addr) -> Option<String> {
    let flow = Flow { source: None, destination: address, input_link: None, mark: 0, tos: 0 };
    if let Some(LocalPod { link, .. }) = after.pod(address) {
        return after.link(link).map(|link| format!("it is behind {} of this node now", link.name));
    }
    let Decision::Route { route, .. } = look_up(after, &flow) else { return None };
    if after.own_block(address).is_some() {
        return Some("the block is this node's own now".to_owned());
    }
    let leads_there =
        after.way_to_remote_pods(route).is_some() && after.pool_around(route.destination).is_some();
    leads_there.then(|| format!("{} leads there", words(after, route)))
}

fn changed(before: &Model<'_>, after: &Model<'_>, was: &Row<'_>, is: &Row<'_>) -> Change {
    let summary = format!("{} was {}", words(after, is.route), words(before, was.route));
    let meaning = match (&was.role, &is.role) {
        (Role::RemoteBlock { .. } | Role::RemoteAddress { .. }, Role::RemoteBlock { next_hops, .. })
        | (Role::RemoteAddress { .. }, Role::RemoteAddress { next_hops, .. }) => {
            if next_hops.iter().all(|node| is_known_node(before, after, *node)) {
                Meaning::Harmless
            } else {
                Meaning::Unknown
            }
        }
        // Another pod's interface is a fault of its own, which is judged as such.
        (_, Role::LocalPod { .. })
        | (Role::RemoteBlock { .. } | Role::RemoteAddress { .. }, Role::OwnBlock { .. }) => Meaning::Harmless,
        (was, _) if was.is_calico() => Meaning::Regression,
        _ => Meaning::Harmless,
    };
    Change::new((Happened::Changed, meaning), subject(was), summary)
}

/// Whether something other than the changed route says that an address is a node's.
fn is_known_node(before: &Model<'_>, after: &Model<'_>, address: Ipv4Addr) -> bool {
    let hosts = after.sample.sets.hosts.known();
    let in_set = hosts.is_some_and(|hosts| hosts.iter().any(|host| host.contains(&address)));
    in_set || is_vouched_for(after, address) || before.is_node(address)
}

/// The same device in another look. A name is used again by the next pod, an index is not, but over a restart.
fn same_device<'a>(looked_at: &Model<'_>, link: &Link, other: &Model<'a>) -> Option<&'a Link> {
    if looked_at.sample.node.boot_id == other.sample.node.boot_id {
        other.link(link.index).filter(|same| same.name == link.name)
    } else {
        other.link_by_name(&link.name)
    }
}

fn devices(before: &Model<'_>, after: &Model<'_>) -> Vec<Change> {
    let change = |happened, meaning, link: &Link, what: &str| {
        let summary = format!("{} {what}", link.name);
        Change::new((happened, meaning), (SubjectKind::Interface, link.name.clone()), summary)
    };
    let mut changes = Vec::new();
    for link in &before.sample.links {
        match same_device(before, link, after) {
            None => changes.push(change(Happened::Went, Meaning::Harmless, link, "went")),
            Some(now) if link.up && !now.up => {
                // Whether it is a loss is what is wrong now, if anything.
                changes.push(change(Happened::Changed, Meaning::Harmless, link, "was set down"));
            }
            Some(now) if !link.up && now.up => {
                changes.push(change(Happened::Changed, Meaning::Harmless, link, "was set up"));
            }
            Some(_) => {}
        }
    }
    let came = after.sample.links.iter().filter(|link| same_device(after, link, before).is_none());
    changes.extend(came.map(|link| change(Happened::Came, Meaning::Harmless, link, "came")));
    changes
}

/// What `check` says of one look and not of the other.
fn conditions(before: &Model<'_>, after: &Model<'_>) -> Vec<Change> {
    let findings = |model: &Model<'_>| -> Vec<Finding> {
        node::judge(model, None).into_iter().flat_map(|review| review.findings).collect()
    };
    let (old, new) = (findings(before), findings(after));
    let has = |findings: &[Finding], wanted: &Finding| {
        findings.iter().any(|finding| finding.cause == wanted.cause && finding.subject == wanted.subject)
    };
    let change = |happened, meaning, finding: &Finding| Change {
        happened,
        meaning,
        subject: finding.subject.clone(),
        summary: finding.summary.clone(),
        finding: Some(finding.clone()),
    };
    let worse = new.iter().filter(|finding| !has(&old, finding)).map(|finding| {
        let meaning =
            if finding.severity >= Severity::Warning { Meaning::Regression } else { Meaning::Harmless };
        change(Happened::Came, meaning, finding)
    });
    let better = old
        .iter()
        .filter(|finding| !has(&new, finding))
        .map(|finding| change(Happened::Went, Meaning::Healed, finding));
    worse.chain(better).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{Fact, Hop, RouteKind, Rule, Sample};

    const TUNNEL: u32 = 3;
    const POD: u32 = 7;
    const BIRD: u8 = 12;

    fn route(destination: &str, link: u32, gateway: Option<&str>) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            kind: RouteKind::Unicast,
            table: 254,
            protocol: BIRD,
            hops: vec![Hop {
                link: Some(link),
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                weight: 1,
                ..Hop::default()
            }],
            ..Route::default()
        }
    }

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.to_owned(), up: true, carrier: true, ..Link::default() }
    }

    /// A node with a pod and the block of another node.
    fn node() -> Sample {
        Sample {
            links: vec![link(TUNNEL, "tunl0"), link(POD, "cali1")],
            routes: vec![
                route("10.200.55.193/32", POD, None),
                route("10.200.153.64/26", TUNNEL, Some("172.30.10.187")),
            ],
            rules: vec![Rule::for_all(32766, 254)],
            given_pools: vec!["10.200.0.0/16".parse().unwrap()],
            ..Sample::default()
        }
    }

    /// What the routes alone come to.
    fn meanings(after: &Sample) -> Vec<(SubjectKind, Meaning)> {
        let before = node();
        let changes = judge(&Model::new(&before), &Model::new(after));
        let of_routes = changes
            .iter()
            .filter(|change| change.finding.is_none() && change.subject.kind != SubjectKind::Interface);
        of_routes.map(|change| (change.subject.kind, change.meaning)).collect()
    }

    #[test]
    fn a_block_that_nothing_leads_to_any_more_is_a_regression() {
        let mut after = node();
        after.routes.pop();
        assert_eq!(meanings(&after).first(), Some(&(SubjectKind::Block, Meaning::Regression)));
    }

    #[test]
    fn a_block_within_a_wider_route_to_its_node_is_still_reached() {
        let mut after = node();
        after.routes[1].destination = "10.200.153.0/24".parse().unwrap();
        assert!(meanings(&after).iter().all(|(_, meaning)| *meaning == Meaning::Harmless));
    }

    #[test]
    fn a_pod_that_ended_is_none_and_one_that_lost_its_route_is_one() {
        let mut after = node();
        after.routes.remove(0);
        assert_eq!(meanings(&after).first(), Some(&(SubjectKind::Pod, Meaning::Regression)));
        after.links.pop();
        assert_eq!(meanings(&after).first(), Some(&(SubjectKind::Pod, Meaning::Harmless)));
    }

    #[test]
    fn a_next_hop_that_nobody_knows_is_not_judged() {
        let mut after = node();
        after.routes[1].hops[0].gateway = Some(Ipv4Addr::new(172, 30, 10, 99));
        assert_eq!(meanings(&after), [(SubjectKind::Block, Meaning::Unknown)]);
        after.sets.hosts = Fact::Known(vec!["172.30.10.99/32".parse().unwrap()]);
        assert_eq!(meanings(&after), [(SubjectKind::Block, Meaning::Harmless)]);
    }

    proptest! {
        #[test]
        fn a_node_compared_with_itself_has_not_changed(
            destinations in prop::collection::vec((0u32..1 << 16, 16u8..=32, 0u32..3), 0..30),
        ) {
            let mut sample = node();
            sample.routes.extend(destinations.iter().map(|(bits, length, metric)| {
                let network = Ipv4Net::new(Ipv4Addr::from(0x0ac8_0000 | bits), *length).unwrap().trunc();
                let mut row = route(&network.to_string(), POD, None);
                row.metric = *metric;
                row
            }));
            prop_assert_eq!(judge(&Model::new(&sample), &Model::new(&sample)), vec![]);
        }
    }
}
