//! The rules of netfilter as they stand: whether they let pods' traffic and the tunnel's pass, and whose they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{Review, Topic};
use crate::{
    causes::{
        Cause,
        case::finding,
        netfilter::{
            owner::{Owner, Tool},
            words,
        },
    },
    model::{
        Model, is_pod_link,
        netfilter::{Bits, Device, Firewall, Packet, Stop, Transport},
        peers::is_vouched_for,
    },
    report::document::{EvidenceSource, Finding, Severity, SubjectKind},
    sample::{ConnectionState, NetfilterHook, RuleSets},
};

const TCP: u8 = 6;
const IPIP: u8 = 4;
/// A connection's first packet.
const SYN: u8 = 0x02;
/// As many as a person reads.
const MOST_NAMED: usize = 5;
/// The kubelet writes these itself, by the host's own iptables.
const KUBELETS: [&str; 3] = ["KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-MARK-DROP"];
/// What a packet's mark is when it enters from a device.
const UNMARKED: Bits = Bits { value: 0, known: u32::MAX };

pub fn review(model: &Model<'_>) -> Review {
    let mut review = Review::of(Topic::Firewall);
    let Some(sets) = model.sample.rule_sets.known() else {
        let why = model.sample.rule_sets.absent().unwrap_or_default();
        review.unseen("the rules of netfilter", why);
        return review;
    };
    let firewall = Firewall::new(sets);
    review.found(backends(model, sets));
    review.found(tunnel(model, &firewall));
    review.found(forwarding(model, &firewall));
    if review.findings.is_empty() {
        let rules: usize =
            sets.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
        review.pass(format!("nothing in {rules} rules of netfilter stands in the way of pods"));
    }
    for missed in &sets.missed {
        review.unseen("rules of netfilter", missed);
    }
    if !sets.elsewhere.is_empty() {
        review
            .unseen("rules at devices and bridges", format!("{} may drop frames", sets.elsewhere.join(", ")));
    }
    review
}

/// Rules of one owner by both kinds of tables: packets meet both, and the owner keeps only one up to date.
fn backends(model: &Model<'_>, sets: &RuleSets) -> Option<Finding> {
    let chains_of = |owner: Owner, legacy: bool| {
        let tables =
            sets.tables.iter().filter(move |table| (Tool::of(table) == Tool::IptablesLegacy) == legacy);
        tables
            .flat_map(|table| table.chains.iter().map(move |chain| (table, chain)))
            .filter(move |(table, chain)| Owner::of_chain(&table.name, &chain.name) == Some(owner))
            .filter(|(_, chain)| !chain.rules.is_empty() && !KUBELETS.contains(&chain.name.as_str()))
            .count()
    };
    let mixed: Vec<(&str, usize, usize)> = [("Calico", Owner::Calico), ("kube-proxy", Owner::KubeProxy)]
        .into_iter()
        .map(|(name, owner)| (name, chains_of(owner, true), chains_of(owner, false)))
        .filter(|(_, legacy, nft)| *legacy > 0 && *nft > 0)
        .collect();
    let (name, ..) = mixed.first()?;
    let mut found = finding(
        Cause::IptablesBackendMix,
        SubjectKind::Node,
        model.node_name(),
        format!(
            "rules of {name} are in ip_tables and in nf_tables: packets meet both, and one of them is stale"
        ),
    )
    .with_severity(Severity::Warning);
    for (name, legacy, nft) in &mixed {
        found = found.with(
            EvidenceSource::Rule,
            format!("{name} has {legacy} chains by iptables-legacy and {nft} by nft"),
        );
    }
    Some(
        found
            .confirm(
                model.node_name(),
                "iptables-legacy-save -c | grep cali-FORWARD; iptables-nft-save -c | grep cali-FORWARD   # whose counters stand still?",
            )
            .cure(
                model.node_name(),
                "iptables-legacy-save | grep -vE 'cali|KUBE' | iptables-legacy-restore   # where those of ip_tables stand still; a reboot does the same",
            ),
    )
}

/// The chains that other pod networks made, by the network's name.
pub fn of_other_networks(model: &Model<'_>) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let sets = model.sample.rule_sets.known();
    for table in sets.into_iter().flat_map(|sets| &sets.tables) {
        for chain in &table.chains {
            if let Some(Owner::PodNetwork(network)) = Owner::of_chain(&table.name, &chain.name) {
                found.entry(network).or_default().insert(format!(
                    "{} in {}",
                    chain.name,
                    words::table(table)
                ));
            }
        }
    }
    found
}

/// Whether encapsulated packets of every peer come in.
fn tunnel(model: &Model<'_>, firewall: &Firewall<'_>) -> Option<Finding> {
    model.needs_tunnel()?;
    let own = model.own_address()?;
    let uplink = model.sample.addresses.iter().find(|local| local.address == own)?.link;
    let arriving = |peer, connection| {
        let packet = Packet {
            source: peer,
            destination: own,
            protocol: IPIP,
            transport: Transport::Unknown,
            input: device(model, uplink),
            output: Device::Absent,
            mark: UNMARKED,
            connection: Some(connection),
        };
        lost(firewall, model, NetfilterHook::Input, &packet)
    };
    let refused: Vec<(Ipv4Addr, Stop<'_>)> = model
        .peers()
        .filter(|peer| is_behind_tunnel(model, *peer) && is_node(model, *peer))
        .filter_map(|peer| Some((peer, arriving(peer, ConnectionState::New)?)))
        .collect();
    let (first, stop) = refused.first()?;
    let peers: Vec<String> = refused.iter().take(MOST_NAMED).map(|(peer, _)| peer.to_string()).collect();
    let whose = if refused.len() == 1 { peers[0].clone() } else { format!("{} peers", refused.len()) };
    // Connection tracking knows the peer's packets as answers for a while after this node has sent to it.
    let answers_pass = arriving(*first, ConnectionState::Established).is_none();
    let until = if answers_pass { ", unless this node sent to them first" } else { "" };
    let summary = format!("encapsulated packets of {whose} are dropped where they arrive{until}");
    let mut found = finding(Cause::IpipNotAllowed, SubjectKind::Peer, first.to_string(), summary)
        .with(EvidenceSource::Rule, words::whole(&stop.place))
        .with(EvidenceSource::Route, format!("routes lead to pods on {}", peers.join(", ")));
    if answers_pass {
        found = found.with_severity(Severity::Warning);
    }
    if let Some(hosts) = model.sample.sets.hosts.known()
        && !hosts.iter().any(|host| host.contains(first))
    {
        found = found.with(EvidenceSource::Rule, format!("cali40all-hosts-net does not hold {first}"));
    }
    Some(
        found
            .confirm(model.node_name(), words::shown_by(&stop.place))
            .confirm("kubectl", format!("kubectl get nodes -o yaml | grep -w {first}   # projectcalico.org/IPv4Address of the peer: is it another one?"))
            .cure("kubectl", felix_anew(model)),
    )
}

fn felix_anew(model: &Model<'_>) -> String {
    format!(
        "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={}   # Felix writes its rules again",
        model.node_name()
    )
}

/// A next hop that only routes name may be no node at all, and its packets rightly dropped.
fn is_node(model: &Model<'_>, peer: Ipv4Addr) -> bool {
    let hosts = model.sample.sets.hosts.known().map_or(&[][..], Vec::as_slice);
    hosts.iter().any(|host| host.contains(&peer)) || is_vouched_for(model, peer)
}

/// Whether a block's route leads to the peer through `tunl0`.
fn is_behind_tunnel(model: &Model<'_>, peer: Ipv4Addr) -> bool {
    let mut tunnelled = model.remote_blocks().iter().filter(|block| block.tunnelled);
    tunnelled.any(|block| block.route.hops.iter().any(|hop| hop.gateway == Some(peer)))
}

/// Whether the last word over what pods send is a policy that drops it. What Calico's own chains deny is meant so.
fn forwarding(model: &Model<'_>, firewall: &Firewall<'_>) -> Option<Finding> {
    let tunnel = model.tunnel()?;
    let target =
        model.remote_blocks().iter().find(|block| block.tunnelled)?.route.destination.hosts().next()?;
    let mut pods = model.pods().iter().filter(|pod| model.link(pod.link).is_some_and(is_pod_link));
    let (pod, stop) = pods.find_map(|pod| {
        let packet = Packet {
            source: pod.address,
            destination: target,
            protocol: TCP,
            transport: Transport::Ports { source: None, destination: None, tcp_flags: Some(SYN) },
            input: device(model, pod.link),
            output: device(model, tunnel.index),
            mark: UNMARKED,
            connection: Some(ConnectionState::New),
        };
        let stop = lost(firewall, model, NetfilterHook::Forward, &packet)?;
        (Owner::of(&stop.place) != Owner::Calico).then_some((pod, stop))
    })?;
    let (code, summary) = match stop.place.rule {
        None => (
            Cause::ForwardPolicyDrop,
            format!(
                "the policy of chain {} drops what pods send, and no rule accepts it before",
                stop.place.chain.name
            ),
        ),
        Some(_) => (Cause::NetfilterDrop, format!("{} drops what pods send", words::short(&stop.place))),
    };
    let subject = format!("{} {}", stop.place.table.name, stop.place.chain.name);
    let mut found = finding(code, SubjectKind::Chain, subject, summary)
        .with(EvidenceSource::Rule, words::whole(&stop.place))
        .with(
            EvidenceSource::Rule,
            format!("walked for a connection from pod {} to {target} by {}", pod.address, tunnel.name),
        );
    found = found.confirm(model.node_name(), words::shown_by(&stop.place));
    Some(match stop.place.rule {
        None => found.cure("kubectl", felix_anew(model)),
        // Somebody may mean it so.
        Some(_) => found.inferred().with_severity(Severity::Warning),
    })
}

fn device<'a>(model: &Model<'a>, index: u32) -> Device<'a> {
    model.link(index).map_or(Device::Unknown, |link| Device::Known { index, name: &link.name })
}

/// The only place at which a packet that enters by a device is lost at a hook, where it is lost for certain.
fn lost<'a>(
    firewall: &Firewall<'a>,
    model: &Model<'_>,
    hook: NetfilterHook,
    packet: &Packet<'_>,
) -> Option<Stop<'a>> {
    let entering = Packet { output: Device::Absent, ..packet.clone() };
    let entered = firewall.walk(model, NetfilterHook::Prerouting, &entering);
    let walk = firewall.walk(model, hook, &Packet { mark: entered.mark, ..packet.clone() });
    if walk.passes || !walk.complete || !entered.passes {
        return None;
    }
    <[Stop<'a>; 1]>::try_from(walk.stops).ok().map(|[stop]| stop)
}
