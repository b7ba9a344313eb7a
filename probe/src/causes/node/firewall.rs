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

/// Encapsulated packets of other nodes, as they arrive at this one.
struct Arrivals<'a, 'f> {
    model: &'f Model<'a>,
    firewall: &'f Firewall<'a>,
    own: Ipv4Addr,
    uplink: u32,
}

impl<'a, 'f> Arrivals<'a, 'f> {
    /// Absent where no tunnel is needed, or nobody tells this node's address.
    fn of(model: &'f Model<'a>, firewall: &'f Firewall<'a>) -> Option<Self> {
        model.needs_tunnel()?;
        let own = model.own_address()?;
        let uplink = model.sample.addresses.iter().find(|local| local.address == own)?.link;
        Some(Self { model, firewall, own, uplink })
    }

    /// The nodes that they come from.
    fn peers(&self) -> impl Iterator<Item = Ipv4Addr> {
        let behind_tunnel: BTreeSet<Ipv4Addr> = tunnel_next_hops(self.model).collect();
        self.model.peers().filter(move |peer| behind_tunnel.contains(peer) && is_node(self.model, *peer))
    }

    fn fate(&self, peer: Ipv4Addr, connection: ConnectionState) -> Fate<'a> {
        let packet = Packet {
            source: peer,
            destination: self.own,
            protocol: IPIP,
            transport: Transport::Unknown,
            input: device(self.model, self.uplink),
            output: Device::Absent,
            mark: UNMARKED,
            connection: Some(connection),
        };
        fate(self.firewall, self.model, NetfilterHook::Input, &packet)
    }
}

/// The peers that are not in Felix' set of hosts and whose encapsulated packets come in for certain all the same; none
/// where the rules were not read.
pub fn admitted_peers(model: &Model<'_>) -> BTreeSet<Ipv4Addr> {
    let Some(sets) = model.sample.rule_sets.known() else { return BTreeSet::new() };
    let firewall = Firewall::new(sets);
    let Some(arrivals) = Arrivals::of(model, &firewall) else { return BTreeSet::new() };
    let hosts = model.sample.sets.hosts.known().map_or(&[][..], Vec::as_slice);
    let is_absent = |peer: &Ipv4Addr| !hosts.iter().any(|host| host.contains(peer));
    let passes = |peer: &Ipv4Addr| matches!(arrivals.fate(*peer, ConnectionState::New), Fate::Passes);
    arrivals.peers().filter(is_absent).filter(passes).collect()
}

/// Whether encapsulated packets of every peer come in.
fn tunnel(model: &Model<'_>, firewall: &Firewall<'_>) -> Option<Finding> {
    let arrivals = Arrivals::of(model, firewall)?;
    let refused: Vec<(Ipv4Addr, Stop<'_>)> = arrivals
        .peers()
        .filter_map(|peer| match arrivals.fate(peer, ConnectionState::New) {
            Fate::Lost(stop) => Some((peer, stop)),
            Fate::Passes | Fate::Undecided => None,
        })
        .collect();
    let (first, stop) = refused.first()?;
    let peers: Vec<String> = refused.iter().take(MOST_NAMED).map(|(peer, _)| peer.to_string()).collect();
    let whose = if refused.len() == 1 { peers[0].clone() } else { format!("{} peers", refused.len()) };
    // Connection tracking knows the peer's packets as answers for a while after this node has sent to it.
    let answers_pass = !matches!(arrivals.fate(*first, ConnectionState::Established), Fate::Lost(_));
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
    felix_anew_on(&model.node_name())
}

/// What makes Felix write a node's rules and sets again.
pub fn felix_anew_on(node: &str) -> String {
    format!(
        "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName={node}   # Felix writes its rules again"
    )
}

/// A next hop that only routes name may be no node at all, and its packets rightly dropped.
fn is_node(model: &Model<'_>, peer: Ipv4Addr) -> bool {
    let hosts = model.sample.sets.hosts.known().map_or(&[][..], Vec::as_slice);
    hosts.iter().any(|host| host.contains(&peer)) || is_vouched_for(model, peer)
}

/// The nodes that blocks' routes lead to through `tunl0`.
fn tunnel_next_hops(model: &Model<'_>) -> impl Iterator<Item = Ipv4Addr> {
    let tunnelled = model.remote_blocks().iter().filter(|block| block.tunnelled);
    tunnelled.flat_map(|block| &block.route.hops).filter_map(|hop| hop.gateway)
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

/// What becomes of a packet at a hook.
enum Fate<'a> {
    Passes,
    /// At this place, for certain.
    Lost(Stop<'a>),
    Undecided,
}

fn fate<'a>(
    firewall: &Firewall<'a>,
    model: &Model<'_>,
    hook: NetfilterHook,
    packet: &Packet<'_>,
) -> Fate<'a> {
    let entering = Packet { output: Device::Absent, ..packet.clone() };
    let entered = firewall.walk(model, NetfilterHook::Prerouting, &entering);
    let walk = firewall.walk(model, hook, &Packet { mark: entered.mark, ..packet.clone() });
    if !walk.complete || !entered.passes {
        return Fate::Undecided;
    }
    if walk.passes && entered.complete && entered.stops.is_empty() && walk.stops.is_empty() {
        return Fate::Passes;
    }
    match <[Stop<'a>; 1]>::try_from(walk.stops) {
        Ok([stop]) if !walk.passes => Fate::Lost(stop),
        _ => Fate::Undecided,
    }
}

/// The only place at which a packet that enters by a device is lost at a hook, where it is lost for certain.
fn lost<'a>(
    firewall: &Firewall<'a>,
    model: &Model<'_>,
    hook: NetfilterHook,
    packet: &Packet<'_>,
) -> Option<Stop<'a>> {
    match fate(firewall, model, hook, packet) {
        Fate::Lost(stop) => Some(stop),
        Fate::Passes | Fate::Undecided => None,
    }
}
