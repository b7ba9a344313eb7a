//! Packets lost at a pod of this node: its route gone or wrong, its veth down, the pod itself silent.

use std::net::Ipv4Addr;

use super::{
    Cause,
    case::{Case, Located, finding},
    gateway,
    route_table::ownership,
    routing::{drop_device, drop_evidence, neighbour_state, route_words},
};
use crate::{
    model::{Model, routing::Flow},
    observation::DropSighting,
    report::document::{Direction, EvidenceSource, Finding, Stage, SubjectKind},
    sample::{Link, PodInterface, Route},
};

/// The own block's blackhole swallowed a packet, so no /32 covers its destination.
#[must_use]
pub fn not_routed(
    case: &Case<'_>,
    direction: Direction,
    flow: &Flow,
    blackhole: &Route,
    drop: Option<&DropSighting>,
) -> Located {
    let address = flow.destination;
    let words = route_words(case.model, blackhole);
    let place = || case.place(direction, Stage::Routing, drop_device(case, drop, flow));
    match candidate(case, address) {
        Some(Candidate { link, proof }) if !link.up => Located {
            finding: link_down(case.model, address, link, "is set down, so its route is gone")
                .with(EvidenceSource::Link, proof)
                .with(EvidenceSource::Route, words)
                .with_all(drop_evidence(case, drop)),
            place: case.place(direction, Stage::PodLink, Some(link.name.clone())),
        },
        Some(Candidate { link, proof }) => Located {
            finding: route_missing(case.model, address, link)
                .with(EvidenceSource::Link, proof)
                .with(EvidenceSource::Route, format!("no /32 for {address}; {words} covers it"))
                .with_all(drop_evidence(case, drop)),
            place: place(),
        },
        None => Located {
            finding: ownership::borrowed_address(case.model, blackhole, address)
                .unwrap_or_else(|| {
                    no_such_pod(case, address, blackhole)
                        .with(EvidenceSource::Route, format!("no /32 for {address}; {words} covers it"))
                })
                .with_all(drop_evidence(case, drop)),
            place: place(),
        },
    }
}

/// A `cali*` that has, or could have, an address that no route leads to.
struct Candidate<'a> {
    link: &'a Link,
    proof: String,
}

fn candidate<'a>(case: &Case<'a>, address: Ipv4Addr) -> Option<Candidate<'a>> {
    let inside = |interface: &&PodInterface| interface.addresses.contains(&address);
    if let Some(interface) = case.before.pod_interfaces.iter().find(inside) {
        let link = case.link(interface.link)?;
        let proof = format!("the pod behind {} has {address} on its {}", link.name, interface.name);
        return Some(Candidate { link, proof });
    }
    let results = case.before.cni_results.known().map_or(&[][..], Vec::as_slice);
    let result = results.iter().find(|result| result.addresses.contains(&address))?;
    let name = result.host_interface.as_deref()?;
    let link = case.before.links.iter().find(|link| link.name == name)?;
    let routed_elsewhere =
        case.model.pods().iter().any(|pod| pod.link == link.index && pod.address != address);
    let looked_into = case.before.pod_interfaces.iter().any(|interface| interface.link == link.index);
    if routed_elsewhere || looked_into {
        return None;
    }
    Some(Candidate { link, proof: format!("the CNI gave {address} to the pod behind {name}") })
}

/// A pod whose device no /32 leads to.
#[must_use]
pub fn route_missing(model: &Model<'_>, address: Ipv4Addr, link: &Link) -> Finding {
    finding(
        Cause::PodRouteMissing,
        SubjectKind::Route,
        format!("{address}/32"),
        format!("pod {} lives behind {}, but its route is gone", pod_words(model, address), link.name),
    )
    .cure(
        "kubectl",
        format!(
            "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={}   # Felix writes pod routes at its start",
            model.node_name()
        ),
    )
    .stopgap(
        model.node_name(),
        format!("ip route add {address}/32 dev {} scope link   # Felix takes it over, or removes it within 90 s if it knows no such pod", link.name),
    )
}

fn no_such_pod(case: &Case<'_>, address: Ipv4Addr, blackhole: &Route) -> Finding {
    let unread = case.before.cni_results.absent();
    let unlooked =
        case.model.pod_links_without_route().filter(|link| !was_looked_into(case, link.index)).count();
    let found = finding(
        Cause::NoSuchPod,
        SubjectKind::Address,
        address.to_string(),
        format!("no pod of this node has {address}, which is in its own block {}", blackhole.destination),
    )
    .confirm("kubectl", format!("kubectl get pods -A -o wide | grep -w {address}"));
    if unread.is_some() && unlooked > 0 { found.inferred() } else { found }
}

fn was_looked_into(case: &Case<'_>, link: u32) -> bool {
    case.before.pod_interfaces.iter().any(|interface| interface.link == link)
}

/// Judges a packet that waited in vain for a pod's ARP answer.
#[must_use]
pub fn does_not_answer_arp(
    case: &Case<'_>,
    direction: Direction,
    address: Ipv4Addr,
    device: &Link,
    drop: Option<&DropSighting>,
) -> Located {
    let inside = case.before.pod_interfaces.iter().find(|interface| interface.link == device.index);
    let down = !device.up || !device.carrier || inside.is_some_and(|interface| !interface.up);
    if down {
        return Located {
            finding: link_down(case.model, address, device, link_state(device, inside))
                .with_all(drop_evidence(case, drop)),
            place: case.place(direction, Stage::PodLink, Some(device.name.clone())),
        };
    }
    let mut found = finding(
        Cause::StalePodRoute,
        SubjectKind::Route,
        format!("{address}/32"),
        format!("the route of {address} leads to {}, which is not that pod's", device.name),
    );
    match inside {
        Some(interface) if !interface.addresses.contains(&address) => {
            let has = words_of(&interface.addresses);
            found = found.with(
                EvidenceSource::Link,
                format!("the pod behind {} has {has}, not {address}", device.name),
            );
        }
        Some(interface) => {
            found = finding(
                Cause::PodLinkDown,
                SubjectKind::Interface,
                &device.name,
                format!("the pod behind {} has {address} but does not answer ARP", device.name),
            )
            .inferred()
            .with(EvidenceSource::Link, format!("its {} is up", interface.name));
        }
        None => found = found.inferred(),
    }
    if let Some(other) = case
        .before
        .pod_interfaces
        .iter()
        .find(|other| other.link != device.index && other.addresses.contains(&address))
    {
        let name = case.link_name(other.link);
        found = found.with(EvidenceSource::Link, format!("the pod behind {name} has {address}")).stopgap(
            &case.node,
            format!(
                "ip route replace {address}/32 dev {name} scope link   # Felix keeps it if it knows the pod"
            ),
        );
    }
    if let Some(state) = neighbour_state(case, device.index, address) {
        let text = format!("{address} dev {} is {state:?}", device.name).to_lowercase();
        found = found.with(EvidenceSource::Neighbour, text);
    }
    let stage = if found.cause == Cause::StalePodRoute { Stage::Neighbour } else { Stage::PodLink };
    let finding = found.with_all(drop_evidence(case, drop)).cure(
        "kubectl",
        format!(
            "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={}   # Felix writes pod routes at its start",
            case.node
        ),
    );
    Located { finding, place: case.place(direction, stage, Some(device.name.clone())) }
}

fn words_of(addresses: &[Ipv4Addr]) -> String {
    match addresses {
        [] => "no address".to_owned(),
        some => some.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn link_state(device: &Link, inside: Option<&PodInterface>) -> &'static str {
    match inside {
        _ if !device.up => "is set down",
        Some(interface) if !interface.up => "has no carrier, because the pod's end is set down",
        _ => "has no carrier",
    }
}

/// A pod's device that carries nothing.
#[must_use]
pub fn link_down(model: &Model<'_>, address: Ipv4Addr, link: &Link, state: &str) -> Finding {
    let found = finding(
        Cause::PodLinkDown,
        SubjectKind::Interface,
        &link.name,
        format!("{} of pod {} {state}", link.name, pod_words(model, address)),
    )
    .with(EvidenceSource::Link, format!("{} {state}", link.name));
    if link.up {
        let pod = model.pod_name(address).unwrap_or_else(|| "NAMESPACE/POD".to_owned());
        match pod.split_once('/') {
            Some((namespace, name)) => {
                found.cure("kubectl", format!("kubectl -n {namespace} delete pod {name}"))
            }
            None => found,
        }
    } else {
        found.cure(model.node_name(), format!("ip link set {} up   # Felix adds the route again", link.name))
    }
}

/// `10.0.0.1`, or `10.0.0.1 (namespace/name)` where the name is known.
#[must_use]
pub fn pod_words(model: &Model<'_>, address: Ipv4Addr) -> String {
    match model.pod_name(address) {
        Some(name) => format!("{address} ({name})"),
        None => address.to_string(),
    }
}

/// A source pod's device that cannot carry its packets.
#[must_use]
pub fn sender_link_down(case: &Case<'_>) -> Option<Located> {
    let link = case.link(case.sender.link()?)?;
    let inside = case.before.pod_interfaces.iter().find(|interface| interface.link == link.index);
    if link.up && link.carrier && inside.is_none_or(|interface| interface.up) {
        return None;
    }
    let address = case.sender.address()?;
    Some(Located {
        finding: link_down(case.model, address, link, link_state(link, inside)),
        place: case.place(Direction::Forward, Stage::PodLink, Some(link.name.clone())),
    })
}

/// Delivered to the pod, and nothing came back out of it.
#[must_use]
pub fn silent(
    case: &Case<'_>,
    direction: Direction,
    device: &Link,
    refusal: Option<&DropSighting>,
) -> Located {
    let address = case.target;
    if refusal.is_none()
        && let Some(located) = gateway::silent(case, Direction::Return, device)
    {
        // A pod that still holds the answer of before would not be hindered.
        return Located { finding: located.finding.inferred(), ..located };
    }
    let finding = match refusal {
        Some(drop) => finding(
            Cause::PodRefused,
            SubjectKind::Pod,
            pod_words(case.model, address),
            format!("delivered to {}, which refused it inside the pod", device.name),
        )
        .with_all(drop_evidence(case, Some(drop))),
        None => no_answer(case, device),
    };
    let finding = finding.confirm("kubectl", format!("kubectl get pods -A -o wide | grep -w {address}"));
    Located { finding, place: case.place(direction, Stage::Pod, Some(device.name.clone())) }
}

fn no_answer(case: &Case<'_>, device: &Link) -> Finding {
    let found = finding(
        Cause::PodNoAnswer,
        SubjectKind::Pod,
        pod_words(case.model, case.target),
        format!("delivered to {}, and the pod did not answer", device.name),
    )
    .with(EvidenceSource::Probe, format!("the probes left by {} and nothing came back", device.name));
    if case.observation.sees_drops() {
        return found;
    }
    found.with(
        EvidenceSource::Probe,
        "a rule inside the pod that drops them would look the same: drops were not visible",
    )
}
