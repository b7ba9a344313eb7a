//! Addresses of nodes that two machines have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use crate::{
    causes::{Cause, case::finding},
    model::{Model, peers},
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{ArpClaim, ArpWatch},
};

/// An address that moves to another machine changes once, and once more when it comes back; two machines that both
/// have it go on in turn.
const LAWFUL_CHANGES: usize = 2;
/// As many as a person reads.
const SHOWN: usize = 6;

/// Judges what was heard.
pub fn judge(model: &Model<'_>, watch: &ArpWatch) -> Vec<Finding> {
    let peers = peers::all(model);
    let nodes: BTreeSet<Ipv4Addr> =
        peers.iter().map(|peer| peer.address).chain(model.own_address()).collect();
    let mut heard: BTreeMap<(u32, Ipv4Addr), Vec<&ArpClaim>> = BTreeMap::new();
    for claim in watch.claims.iter().filter(|claim| nodes.contains(&claim.address)) {
        heard.entry((claim.link, claim.address)).or_default().push(claim);
    }
    heard
        .into_iter()
        .filter_map(|((link, address), claims)| {
            let device = model.link(link)?;
            if model.is_local(address) {
                return of_this_node(model, watch, address, &device.name, &claims);
            }
            (claims.len() > LAWFUL_CHANGES + 1)
                .then(|| of_a_peer(model, watch, address, &device.name, &claims))
        })
        .collect()
}

/// What comes in from this node's own address and is from none of its devices is from another machine.
fn of_this_node(
    model: &Model<'_>,
    watch: &ArpWatch,
    address: Ipv4Addr,
    device: &str,
    claims: &[&ArpClaim],
) -> Option<Finding> {
    let is_own = |claim: &&&ArpClaim| {
        let mut links = model.sample.links.iter();
        links.any(|link| link.hardware_address.as_ref() == Some(&claim.hardware_address))
    };
    let strangers: BTreeSet<&str> =
        claims.iter().filter(|claim| !is_own(claim)).map(|claim| claim.hardware_address.as_str()).collect();
    let stranger = strangers.first()?;
    let summary =
        format!("another machine has this node's address {address}: {stranger} sends ARP requests from it");
    let seen =
        format!("{device}: ARP requests from {address} came from {} within {}", join(strangers), time(watch));
    Some(duplicate(model, address, device, summary, seen))
}

/// Of an address elsewhere it does not show whether the hardware addresses are of one machine.
fn of_a_peer(
    model: &Model<'_>,
    watch: &ArpWatch,
    address: Ipv4Addr,
    device: &str,
    claims: &[&ArpClaim],
) -> Finding {
    let machines: BTreeSet<&str> = claims.iter().map(|claim| claim.hardware_address.as_str()).collect();
    let summary = format!(
        "{} has the address of another machine too: {} send ARP requests from {address} in turn",
        peers::Peer::of(model, address).words(),
        join(machines)
    );
    let order = join(claims.iter().take(SHOWN).map(|claim| claim.hardware_address.as_str()));
    let seen = format!(
        "{device}: ARP requests from {address} came from {order} in this order, {} changes within {}",
        claims.len() - 1,
        time(watch)
    );
    duplicate(model, address, device, summary, seen).inferred()
}

fn duplicate(model: &Model<'_>, address: Ipv4Addr, device: &str, summary: String, seen: String) -> Finding {
    finding(Cause::NodeAddressDuplicate, SubjectKind::Address, address.to_string(), summary)
        .with_severity(Severity::Warning)
        .with(EvidenceSource::Neighbour, seen)
        .confirm(
            model.node_name(),
            format!(
                "tcpdump -c 20 -n -e -i {device} arp and host {address}   # then: which switch port has each?"
            ),
        )
}

fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

fn time(watch: &ArpWatch) -> String {
    format!("{:?}", Duration::from_millis(watch.milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Address, Fact, FelixSets, Link, Sample};

    const OWN: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 188);
    const PEER: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);
    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 9);
    const OWN_HARDWARE: &str = "00:50:56:81:47:bc";

    /// What is found where these hardware addresses were heard in this order.
    fn found(address: Ipv4Addr, heard: &[&str]) -> Vec<Finding> {
        let claims = heard.iter().map(|hardware_address| ArpClaim {
            link: 2,
            address,
            hardware_address: (*hardware_address).to_owned(),
        });
        let watch = ArpWatch { milliseconds: 5000, claims: claims.collect() };
        let sample = Sample {
            links: vec![Link {
                index: 2,
                name: "eth0".to_owned(),
                hardware_address: Some(OWN_HARDWARE.to_owned()),
                ..Link::default()
            }],
            addresses: vec![Address { link: 2, address: OWN, prefix_length: 24, scope: 0 }],
            sets: FelixSets { hosts: Fact::Known(vec![PEER.into(), OWN.into()]), ..FelixSets::default() },
            ..Sample::default()
        };
        judge(&Model::new(&sample), &watch)
    }

    #[test]
    fn two_machines_that_ask_in_turn_have_one_address() {
        let found = found(PEER, &["a", "b", "a", "b"]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].cause, Cause::NodeAddressDuplicate);
        assert_eq!(found[0].subject.value, PEER.to_string());
    }

    #[test]
    fn an_address_that_moves_and_comes_back_is_one_machines() {
        assert!(found(PEER, &["a"]).is_empty());
        assert!(found(PEER, &["a", "b"]).is_empty());
        assert!(found(PEER, &["a", "b", "a"]).is_empty());
    }

    #[test]
    fn of_its_own_address_this_node_needs_no_second_word() {
        assert_eq!(found(OWN, &["a"]).len(), 1);
        assert!(found(OWN, &[OWN_HARDWARE]).is_empty());
    }

    #[test]
    fn addresses_of_others_are_none_of_the_pod_networks_business() {
        assert!(found(ELSEWHERE, &["a", "b", "a", "b"]).is_empty());
    }
}
