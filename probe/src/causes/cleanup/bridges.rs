//! Bridges of container networks that nothing uses and nobody owns.

use super::{
    Outcome,
    devices::{Stale, idle, routes_to, take_away},
    evidence, owners,
};
use crate::{
    causes::routing::route_words,
    model::Model,
    report::document::EvidenceSource,
    sample::{Link, Part},
};

/// What programs make again whenever they start, so that taking it away is no clean-up.
const DEFAULTS: [&str; 3] = ["docker0", "podman0", "cni-podman0"];

pub fn judge(model: &Model<'_>, earlier: Option<&Model<'_>>) -> Vec<Outcome> {
    let parts = [Part::Links, Part::LinkStates, Part::LinkKinds];
    if !parts.iter().all(|part| model.sample.holds(*part)) {
        return Vec::new();
    }
    let bridges = model.sample.links.iter().filter(|link| looks_stale(model, link));
    bridges.map(|link| outcome(model, earlier, link)).collect()
}

/// Without a carrier and without ports; one that nobody names counts only where a route leads to it.
fn looks_stale(model: &Model<'_>, link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge")
        && !link.carrier
        && !DEFAULTS.contains(&link.name.as_str())
        && !model.sample.links.iter().any(|port| port.master == Some(link.index))
        && (owners::by_name(&link.name).is_some() || !routes_to(model, link).is_empty())
}

fn outcome(model: &Model<'_>, earlier: Option<&Model<'_>>, link: &Link) -> Outcome {
    let name = &link.name;
    let unowned = owners::nobody(model, link)?;
    let silent = idle(model, earlier, link)?;
    let mut proof = vec![evidence(EvidenceSource::Link, format!("{name} has no carrier and no ports"))];
    let routes = routes_to(model, link);
    proof.extend(routes.iter().map(|route| evidence(EvidenceSource::Route, route_words(model, route))));
    proof.push(silent);
    proof.extend(unowned);
    let within = routes.iter().find_map(|route| {
        let network = route.destination;
        let pool = model.pools.iter().find(|pool| {
            pool.cidr.contains(&network) || (network.prefix_len() > 0 && network.contains(&pool.cidr))
        })?;
        Some(format!(", and its network {network} overlaps the pods' {}", pool.cidr))
    });
    take_away(
        model,
        &Stale {
            link,
            why: format!("{name} is an idle bridge that nobody owns{}", within.unwrap_or_default()),
            proof,
            risk: format!("a container that is started on {name} later finds no network"),
        },
    )
}
