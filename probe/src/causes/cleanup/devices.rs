//! What holds of every device before it is taken away, whatever it was for.

use super::{Outcome, command, evidence, kept, subject};
use crate::{
    causes::routing::route_words,
    model::Model,
    plan::{Action, Kept, Step},
    report::document::{Evidence, EvidenceSource, SubjectKind},
    sample::{Link, Part, Route},
};

/// `RT_TABLE_LOCAL`: its rows come and go with addresses.
const TABLE_LOCAL: u32 = 255;

/// A device that is stale, and why.
pub struct Stale<'a> {
    pub link: &'a Link,
    /// In one sentence.
    pub why: String,
    pub proof: Vec<Evidence>,
    /// What happens if it is wrong.
    pub risk: String,
}

/// The steps that take a device away with the routes to it.
pub fn take_away(model: &Model<'_>, stale: &Stale<'_>) -> Outcome {
    let link = stale.link;
    let routes = routes_to(model, link);
    if let Some(route) = routes.iter().find(|route| route.hops.len() > 1 || route.next_hop_id.is_some()) {
        return Err(stays(link, format!("{} uses it among others", route_words(model, route))));
    }
    let step = |action, kind, value: String, command| Step {
        action,
        subject: subject(kind, value),
        why: stale.why.clone(),
        proof: stale.proof.clone(),
        risk: stale.risk.clone(),
        command,
    };
    let mut steps: Vec<Step> = routes
        .into_iter()
        .map(|route| {
            let devices = vec![Some(link.name.clone())];
            let command = command::delete_route(route, &devices);
            let action = Action::DeleteRoute { route: route.clone(), devices };
            step(action, SubjectKind::Route, route.destination.to_string(), command)
        })
        .collect();
    if link.up {
        let action = Action::SetLinkDown { link: link.clone() };
        steps.push(step(action, SubjectKind::Interface, link.name.clone(), command::set_down(link)));
    }
    let addresses = model.sample.addresses.iter().filter(|address| address.link == link.index);
    let action = Action::DeleteLink { link: link.clone(), addresses: addresses.cloned().collect() };
    steps.push(step(action, SubjectKind::Interface, link.name.clone(), command::delete_link(link)));
    Ok(steps)
}

/// Routes of all tables that lead to a device, but for those that stand and fall with its addresses.
pub fn routes_to<'a>(model: &Model<'a>, link: &Link) -> Vec<&'a Route> {
    let leads_there = |route: &&Route| route.hops.iter().any(|hop| hop.link == Some(link.index));
    model.sample.routes.iter().filter(|route| route.table != TABLE_LOCAL).filter(leads_there).collect()
}

pub fn stays(link: &Link, why: impl Into<String>) -> Kept {
    kept(subject(SubjectKind::Interface, &link.name), why, None)
}

/// That nothing was carried between the two looks, and nothing else stands on the device.
pub fn idle(model: &Model<'_>, earlier: Option<&Model<'_>>, link: &Link) -> Result<Evidence, Kept> {
    if let Some(user) = user(model, link) {
        return Err(stays(link, user));
    }
    if !model.sample.holds(Part::LinkStatistics) {
        return Err(stays(link, "what it carries is not known"));
    }
    let Some(before) = earlier else {
        return Err(stays(link, "one look does not show whether it carries traffic"));
    };
    let same = before.link(link.index).filter(|same| same.name == link.name);
    let Some(same) = same else { return Err(stays(link, "it has just come")) };
    if same.statistics != link.statistics {
        return Err(stays(link, "it carries traffic"));
    }
    let packets = |count: u64| if count == 1 { "1 packet".to_owned() } else { format!("{count} packets") };
    let text = format!(
        "{} received {} and sent {} since it exists, none while it was watched",
        link.name,
        packets(link.statistics.rx_packets),
        packets(link.statistics.tx_packets)
    );
    Ok(evidence(EvidenceSource::Counter, text))
}

/// What else on this node needs the device.
fn user(model: &Model<'_>, link: &Link) -> Option<String> {
    let mut others = model.sample.links.iter().filter(|other| other.index != link.index);
    let on_it = |other: &Link| {
        other.master == Some(link.index)
            || (other.lower == Some(link.index) && other.peer_namespace.is_none())
    };
    if let Some(other) = others.find(|other| on_it(other)) {
        return Some(format!("{} stands on it", other.name));
    }
    if let Some(master) = link.master {
        let name = model.link(master).map_or_else(|| format!("if{master}"), |master| master.name.clone());
        return Some(format!("it is a port of {name}"));
    }
    let names_it = |name: &Option<String>| name.as_deref() == Some(link.name.as_str());
    let mut rules = model.sample.rules.iter();
    let rule = rules.find(|rule| names_it(&rule.input_interface) || names_it(&rule.output_interface))?;
    Some(format!("routing rule {} names it", rule.priority))
}
