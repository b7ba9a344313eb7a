//! Each fault in an otherwise healthy cluster gives its group, with the nodes on which to act, and no other.

use caliprobe::{
    causes::Cause,
    report::joined::JoinedDocument,
    sample::{Fact, Hop, Route, RouteKind, Sample},
};
use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::{
    made_up::{Plan, address, block, name, pod},
    made_up_nodes, said,
};

/// What goes wrong on one node, `at`, with another one, `with`.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    OwnedTwice,
    LeadsElsewhere,
    LeadsToNobody,
    NoRouteThere,
    NotAnnounced,
    NotAllowed,
    SameTunnelAddress,
    SameName,
    SameAddress,
    SamePod,
    SessionOfOneEnd,
    LargerTunnel,
}

pub const FAULTS: [Fault; 12] = [
    Fault::OwnedTwice,
    Fault::LeadsElsewhere,
    Fault::LeadsToNobody,
    Fault::NoRouteThere,
    Fault::NotAnnounced,
    Fault::NotAllowed,
    Fault::SameTunnelAddress,
    Fault::SameName,
    Fault::SameAddress,
    Fault::SamePod,
    Fault::SessionOfOneEnd,
    Fault::LargerTunnel,
];

impl Fault {
    /// Breaks it; comes to the cause, and the nodes that have it.
    pub fn inject(self, samples: &mut [Sample], at: u32, with: u32) -> (Cause, Vec<String>) {
        let place = |node: u32| usize::try_from(node).unwrap();
        let (here, there) = (address(at), address(with));
        let both = || vec![name(at.min(with)), name(at.max(with))];
        let to = |sample: &mut Sample, block: Ipv4Net, gateway| {
            let route = sample.routes.iter_mut().find(|route| route.destination == block).unwrap();
            route.hops[0].gateway = Some(gateway);
        };
        let sample = &mut samples[place(at)];
        match self {
            Self::OwnedTwice => {
                let route = sample.routes.iter_mut().find(|route| route.destination == block(with)).unwrap();
                *route = Route { kind: RouteKind::Blackhole, hops: Vec::new(), ..route.clone() };
                (Cause::BlockOwnerConflict, both())
            }
            Self::LeadsElsewhere => {
                let third = (0..3).find(|node| *node != at && *node != with).unwrap();
                to(sample, block(with), address(third));
                (Cause::BlockOwnerConflict, vec![name(at)])
            }
            Self::LeadsToNobody => {
                let nobody = "172.30.77.7".parse().unwrap();
                to(sample, block(with), nobody);
                // It is no node for Felix either, and `check` says so.
                (Cause::StaleTunnelRoute, vec![name(at)])
            }
            Self::NoRouteThere => {
                sample.routes.retain(|route| route.destination != block(with));
                (Cause::BlockRouteMissing, vec![name(at)])
            }
            Self::NotAnnounced => {
                for (other, sample) in samples.iter_mut().enumerate() {
                    if other != place(at) {
                        sample.routes.retain(|route| route.destination != block(at));
                    }
                }
                (Cause::BlockRouteMissing, vec![name(at)])
            }
            Self::NotAllowed => {
                let Fact::Known(hosts) = &mut sample.sets.hosts else { unreachable!() };
                hosts.retain(|host| host.addr() != there);
                let Fact::Known(rules) = &mut sample.rule_sets else { unreachable!() };
                let Fact::Known(members) = &mut rules.ipsets[0].members else { unreachable!() };
                members.retain(|member| member.key != [caliprobe::sample::KeyPart::network(there, 32)]);
                (Cause::IpipNotAllowed, vec![name(at)])
            }
            Self::SameTunnelAddress => {
                let own = sample.addresses.iter_mut().find(|own| own.link == 3).unwrap();
                own.address = block(with).addr();
                (Cause::AddressConflict, both())
            }
            Self::SameName => {
                sample.node.calico_node_name = Fact::Known(name(with));
                sample.node.hostname = name(with);
                sample.control_plane.configured_hostname = Fact::Known(name(with));
                (Cause::NodeNameChanged, vec![name(with); 2])
            }
            Self::SameAddress => {
                let own = sample.addresses.iter_mut().find(|own| own.address == here).unwrap();
                own.address = there;
                (Cause::NodeAddressDuplicate, both())
            }
            Self::SamePod => {
                let hop = Hop { link: Some(10), weight: 1, ..Hop::default() };
                let destination = Ipv4Net::from(pod(with, 0));
                sample.routes.push(Route {
                    destination,
                    table: 254,
                    protocol: 3,
                    hops: vec![hop],
                    ..Route::default()
                });
                (Cause::AddressConflict, both())
            }
            Self::SessionOfOneEnd => {
                let Fact::Known(bird) = &mut sample.bird else { unreachable!() };
                let session = bird.sessions.iter_mut().find(|session| session.peer == there).unwrap();
                session.established = false;
                "Active".clone_into(&mut session.state);
                (Cause::BgpSessionDown, vec![name(at)])
            }
            Self::LargerTunnel => {
                let tunnel = sample.links.iter_mut().find(|link| link.name == "tunl0").unwrap();
                tunnel.mtu = 8980;
                let uplink = sample.links.iter_mut().find(|link| link.name == "eth0").unwrap();
                uplink.mtu = 9000;
                (Cause::MtuBlackHole, vec![name(at)])
            }
        }
    }

    /// What `check` of one node alone says of it as well.
    fn also(self) -> &'static [Cause] {
        match self {
            Self::LeadsToNobody => &[Cause::NextHopNotANode],
            Self::SameAddress => {
                &[Cause::StaleTunnelRoute, Cause::TunnelLoop, Cause::BgpSessionDown, Cause::NodeAddressWrong]
            }
            _ => &[],
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn each_fault_gives_its_group(
        fault in prop::sample::select(&FAULTS[..]),
        nodes in 5_u32..10,
        at in 0_u32..5,
        apart in 1_u32..5,
    ) {
        let with = (at + apart) % 5;
        let mut samples = made_up_nodes(Plan::mesh(nodes, 3));
        let (cause, names) = fault.inject(&mut samples, at, with);
        let said = said(&samples);
        let faults = said.faults();
        let of_cause: Vec<_> = faults.iter().filter(|(found, _)| *found == cause).collect();
        prop_assert_eq!(of_cause.len(), 1, "{:?}: {:?}", fault, faults);
        let found: Vec<String> = of_cause[0].1.iter().map(|name| (*name).to_owned()).collect();
        let mut sorted = found.clone();
        sorted.sort();
        prop_assert_eq!(sorted, names, "{:?}: {}", fault, said.words());
        let others: Vec<_> =
            faults.iter().filter(|(found, _)| *found != cause && !fault.also().contains(found)).collect();
        prop_assert!(others.is_empty(), "{:?}: {:?}", fault, others);
    }
}

#[test]
fn what_may_be_only_time_is_said_with_the_times() {
    let mut samples = made_up_nodes(Plan::mesh(4, 3));
    samples[1].routes.retain(|route| route.destination != block(2));
    samples[2].time = "2026-01-02T03:24:05Z".to_owned();
    let said = said(&samples);
    let expected = "node-001 at 2026-01-02T03:04:05Z, node-002 at 2026-01-02T03:24:05Z: what changed in these 20 min looks like this too";
    assert!(said.evidence().contains(&expected), "{}", said.words());
}

#[test]
fn what_a_person_reads() {
    let mut samples = made_up_nodes(Plan::mesh(40, 3));
    for at in 1..=37 {
        Fault::NotAllowed.inject(&mut samples, at, 0);
    }
    Fault::NoRouteThere.inject(&mut samples, 38, 2);
    let nodes: Vec<_> = samples.iter().map(super::node).collect();
    let joined = caliprobe::causes::cluster::judge(&nodes);
    let groups = caliprobe::causes::cluster::group(&nodes, &joined.found);
    let document = JoinedDocument::new("2026-01-02T03:05:00Z", &nodes, groups, joined.not_seen);
    insta::assert_snapshot!(document.text());
    assert_eq!(document.quiet(), "PROBLEMS  37 of 40 nodes: ipip-not-allowed, and 1 cause more");
}
