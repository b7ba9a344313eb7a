//! What is never taken away, whatever a plan says: it may have been edited by hand, or the node has changed.

use std::{collections::BTreeMap, net::Ipv4Addr, ptr};

use super::steps::given;
use crate::{
    causes::{
        Cause, node,
        route_table::{self, is_leftover},
    },
    model::{
        Model, is_pod_link,
        routing::{Decision, Flow, look_up},
        rows::{self, Role, Row, Tables},
    },
    plan::{Action, Plan},
    sample::{Link, Route, RouteKind},
};

/// Why each step is refused; `None` where it is not.
pub fn of_steps(model: &Model<'_>, plan: &Plan, caller: Option<Ipv4Addr>) -> Vec<Option<String>> {
    let judge = Judge::new(model, plan, caller);
    plan.steps
        .iter()
        .map(|step| match &step.action {
            Action::DeleteRoute { route, .. } => judge.of_route(route),
            Action::SetLinkDown { link } | Action::DeleteLink { link, .. } => judge.of_link(link),
        })
        .collect()
}

/// This node, as far as it matters here.
struct Judge<'m, 'a> {
    model: &'m Model<'a>,
    rows: Vec<Row<'a>>,
    /// Whether what `check` says of a row makes it stale, by its place.
    is_stale: Vec<bool>,
    /// What must stay reachable, and as what.
    needed: BTreeMap<Ipv4Addr, String>,
}

impl<'m, 'a> Judge<'m, 'a> {
    fn new(model: &'m Model<'a>, plan: &Plan, caller: Option<Ipv4Addr>) -> Self {
        let (rows, _) = rows::read(model, Tables::All);
        let is_stale = stale(model, &rows);
        let needed = needed(model, &rows, plan, caller);
        Self { model, rows, is_stale, needed }
    }

    fn of_route(&self, planned: &Route) -> Option<String> {
        let destination = planned.destination;
        let place = self.rows.iter().position(|row| given(row.route) == given(planned));
        let Some(place) = place else {
            return Some(format!("no route to {destination} is as the plan says"));
        };
        self.of_row(place).map(|why| format!("the route to {destination} is needed: {why}"))
    }

    fn of_row(&self, place: usize) -> Option<String> {
        let row = &self.rows[place];
        let always = match row.role {
            Role::DefaultRoute => Some("it is a default route"),
            Role::NodeNetwork => Some("this node's own address is in it"),
            Role::Local => Some("it is of the kernel's own addresses"),
            Role::OtherOverlay => Some("another overlay network is behind it"),
            Role::TunnelWithoutNextHop => Some("it is of the tunnel"),
            Role::NodeAddress => Some("it leads to a node"),
            Role::NextHopObject { .. } => Some("where it leads is not readable"),
            _ => None,
        };
        if let Some(why) = always {
            return Some(why.to_owned());
        }
        if !row.is_taken() || self.is_stale[place] {
            return None;
        }
        let live = match &row.role {
            Role::LocalPod { pod } if !self.leads_to_leftover(row) => Some(
                pod.as_ref()
                    .map_or_else(|| "a pod is behind it".to_owned(), |pod| format!("it is of pod {pod}")),
            ),
            Role::OwnBlock { .. } => Some("the block is this node's".to_owned()),
            Role::RemoteBlock { next_hops, .. } | Role::RemoteAddress { next_hops, .. } => {
                let nodes: Vec<String> = next_hops.iter().map(ToString::to_string).collect();
                Some(format!("pods of {} are behind it", nodes.join(" and ")))
            }
            _ => None,
        };
        live.or_else(|| self.takes_needed(row))
    }

    /// The first of the addresses that must stay reachable which takes this row.
    fn takes_needed(&self, row: &Row<'_>) -> Option<String> {
        if row.route.kind == RouteKind::Unicast && self.leads_nowhere(row.route) {
            return None;
        }
        let found = self.needed.iter().find(|(address, _)| {
            let flow = Flow { source: None, destination: **address, input_link: None, mark: 0, tos: 0 };
            let decision = look_up(self.model, &flow);
            matches!(decision, Decision::Route { route, .. } if ptr::eq(route, row.route))
        });
        found.map(|(address, what)| format!("{what} {address} is reached by it"))
    }

    fn leads_to_leftover(&self, row: &Row<'_>) -> bool {
        let links = row.route.hops.iter().filter_map(|hop| self.model.link(hop.link?));
        links.into_iter().all(|link| is_leftover(self.model, link))
    }

    /// Whether behind every device of a route there is nothing: bridges without a port.
    fn leads_nowhere(&self, route: &Route) -> bool {
        let mut links = route.hops.iter().map(|hop| hop.link.and_then(|link| self.model.link(link)));
        links.all(|link| {
            link.is_some_and(|link| link.kind.as_deref() == Some("bridge") && !self.has_ports(link))
        })
    }

    fn has_ports(&self, bridge: &Link) -> bool {
        self.model.sample.links.iter().any(|link| link.master == Some(bridge.index))
    }

    fn of_link(&self, planned: &Link) -> Option<String> {
        let name = &planned.name;
        let Some(link) = self.model.link(planned.index).filter(|link| link.name == *name) else {
            return Some(format!("{name} is not there as the plan says"));
        };
        let own = self.model.own_address();
        let holds_own = || {
            let addresses = &self.model.sample.addresses;
            addresses.iter().any(|local| local.link == link.index && Some(local.address) == own)
        };
        let is_under = || {
            let links = &self.model.sample.links;
            let above = |above: &&Link| above.lower == Some(link.index) && above.peer_namespace.is_none();
            links.iter().find(above).map(|above| above.name.clone())
        };
        let why = match link.kind.as_deref() {
            Some("bridge") if self.has_ports(link) => Some("it has ports".to_owned()),
            Some("bridge") if holds_own() => Some("it has this node's own address".to_owned()),
            Some("bridge") => is_under().map(|above| format!("{above} is on it")),
            Some("veth") if is_pod_link(link) && is_leftover(self.model, link) => None,
            Some("veth") if is_pod_link(link) => Some("nothing proves that its pod is gone".to_owned()),
            _ => Some("only bridges and interfaces of pods that are gone are taken away".to_owned()),
        };
        let by_it = || {
            let uses = |row: &Row<'_>| row.route.hops.iter().any(|hop| hop.link == Some(link.index));
            let places = (0..self.rows.len()).filter(|place| uses(&self.rows[*place]));
            places.into_iter().find_map(|place| {
                let destination = self.rows[place].route.destination;
                self.of_row(place).map(|why| format!("the route to {destination} leads by it, and {why}"))
            })
        };
        why.or_else(by_it).map(|why| format!("{name} is needed: {why}"))
    }
}

/// Whether the judgement that `check` prints calls each row stale.
fn stale(model: &Model<'_>, rows: &[Row<'_>]) -> Vec<bool> {
    let is_stale = |cause: Cause| {
        matches!(
            cause,
            Cause::StaleBlackhole | Cause::StaleInterface | Cause::StalePodRoute | Cause::StaleTunnelRoute
        )
    };
    let mut stale = vec![false; rows.len()];
    let faults = route_table::judge(model, rows);
    for fault in faults.iter().filter(|fault| is_stale(fault.finding.cause)) {
        fault.rows.iter().for_each(|place| stale[*place] = true);
    }
    let findings = node::judge(model, None).into_iter().flat_map(|review| review.findings);
    for finding in findings.filter(|finding| finding.cause == Cause::StaleTunnelRoute) {
        for (place, row) in rows.iter().enumerate() {
            stale[place] |= row.route.destination.to_string() == finding.subject.value;
        }
    }
    stale
}

fn needed(
    model: &Model<'_>,
    rows: &[Row<'_>],
    plan: &Plan,
    caller: Option<Ipv4Addr>,
) -> BTreeMap<Ipv4Addr, String> {
    let is_planned = |row: &Row<'_>| {
        plan.steps.iter().any(|step| {
            matches!(&step.action, Action::DeleteRoute { route, .. } if given(route) == given(row.route))
        })
    };
    let mut needed = BTreeMap::new();
    for row in rows.iter().filter(|row| row.is_taken() && !is_planned(row)) {
        let gateways = row.route.hops.iter().filter_map(|hop| hop.gateway);
        needed.extend(gateways.map(|gateway| (gateway, format!("the gateway of {}", row.route.destination))));
    }
    let hosts = model.sample.sets.hosts.known().into_iter().flatten().map(ipnet::Ipv4Net::addr);
    let nodes = hosts.filter(|address| !model.is_local(*address)).chain(model.peers());
    needed.extend(nodes.map(|node| (node, "node".to_owned())));
    needed.extend(model.default_gateway().map(|gateway| (gateway, "the default gateway".to_owned())));
    needed.extend(caller.map(|caller| (caller, "who asks from".to_owned())));
    needed
}
