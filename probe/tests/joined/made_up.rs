//! Clusters that nobody has: healthy ones, of as many nodes and pods as are asked for.

use std::{collections::BTreeMap, net::Ipv4Addr};

use caliprobe::sample::{
    Address, BaseChain, BgpSession, Bird, Comparison, FORMAT_VERSION, Fact, FelixReadiness, FelixSets, Field,
    Hop, InterfaceSysctls, KeyPart, Link, Member, Membership, NetfilterHook, NetfilterRule, NodeIdentity,
    PeerKind, Process, ProcessRole, Route, RouteKind, Rule, RuleChain, RuleFamily, RulePart, RuleSetBackend,
    RuleSetMembers, RuleSets, RuleTable, Sample, SetName, Sysctls, Verdict,
};
use ipnet::Ipv4Net;

/// Nodes are in two subnets by turns.
const SUBNETS: [u32; 2] = [0xac1e_0a00, 0xac1e_1400]; // 172.30.10.0, 172.30.20.0
const BLOCKS: u32 = 0x0ac8_0000; // 10.200.0.0
const BLOCK_LENGTH: u8 = 25;
const UPLINK: u32 = 2;
const TUNNEL: u32 = 3;
const FIRST_POD: u32 = 10;
const BIRD: u8 = 12;
const MAIN: u32 = 254;
const LOCAL: u32 = 255;
const LINK_SCOPE: u8 = 253;
const SET_OF_HOSTS: &str = "cali40all-hosts-net";

/// How a cluster is made.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub nodes: u32,
    /// Of each node, at most 120.
    pub pods: u32,
    /// Nodes of one subnet reach each other without encapsulation.
    pub cross_subnet: bool,
    /// The nodes peer with the first one alone.
    pub route_reflector: bool,
    /// Old Calico writes none for its own blocks.
    pub blackholes: bool,
    /// Rules that each pod has in netfilter.
    pub rules: u32,
}

impl Plan {
    pub const fn mesh(nodes: u32, pods: u32) -> Self {
        Self { nodes, pods, cross_subnet: false, route_reflector: false, blackholes: true, rules: 0 }
    }
}

pub fn address(node: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet(node).addr().to_bits() + 1 + node / 2)
}

fn subnet(node: u32) -> Ipv4Net {
    let base = if node.is_multiple_of(2) { SUBNETS[0] } else { SUBNETS[1] };
    Ipv4Net::new(Ipv4Addr::from_bits(base), 24).expect("a length of a prefix")
}

fn router(node: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet(node).addr().to_bits() + 254)
}

pub fn block(node: u32) -> Ipv4Net {
    let base = Ipv4Addr::from_bits(BLOCKS + (node << (32 - BLOCK_LENGTH)));
    Ipv4Net::new(base, BLOCK_LENGTH).expect("a length of a prefix")
}

pub fn pod(node: u32, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(block(node).addr().to_bits() + 1 + number)
}

pub fn name(node: u32) -> String {
    format!("node-{node:03}")
}

/// One node.
pub fn sample(plan: Plan, node: u32) -> Sample {
    let mut sample = Sample {
        format_version: FORMAT_VERSION,
        time: "2026-01-02T03:04:05Z".to_owned(),
        node: identity(node),
        links: links(plan, node),
        addresses: addresses(node),
        routes: routes(plan, node),
        rules: [(0, LOCAL), (32766, MAIN), (32767, 253)].map(|(at, table)| Rule::for_all(at, table)).to_vec(),
        sysctls: sysctls(plan, node),
        sets: sets(plan),
        rule_sets: Fact::Known(rule_sets(plan)),
        cni_results: Fact::Known(Vec::new()),
        bird: Fact::Known(bird(plan, node)),
        queues: Fact::Known(Vec::new()),
        ..Sample::default()
    };
    let control = &mut sample.control_plane;
    let process = |id, role, name: &str| Process { id, role, name: name.to_owned() };
    control.processes = Fact::Known(vec![
        process(10, ProcessRole::Felix, "calico-node"),
        process(11, ProcessRole::Bird, "bird"),
        process(12, ProcessRole::Confd, "calico-node"),
    ]);
    control.felix = Fact::Known(FelixReadiness { status: Some(200), message: String::new() });
    control.logs = Fact::Known(Vec::new());
    control.configured_hostname = Fact::Known(name(node));
    sample
}

fn identity(node: u32) -> NodeIdentity {
    NodeIdentity {
        hostname: name(node),
        kernel: "6.12.0".to_owned(),
        boot_id: format!("boot-{node}"),
        network_namespace: 4_026_531_840,
        calico_node_name: Fact::Known(name(node)),
        calico_mtu: Fact::Known(1480),
        ..NodeIdentity::default()
    }
}

fn link(index: u32, name: &str, kind: Option<&str>, mtu: u32) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        link_layer_type: if kind == Some("ipip") { 768 } else { 1 },
        up: true,
        carrier: true,
        running: true,
        mtu,
        ..Link::default()
    }
}

fn pod_device(node: u32, number: u32) -> String {
    format!("cali{:011x}", u64::from(node) * 1000 + u64::from(number))
}

fn links(plan: Plan, node: u32) -> Vec<Link> {
    let mut links = vec![
        link(1, "lo", None, 65_536),
        link(UPLINK, "eth0", None, 1500),
        link(TUNNEL, "tunl0", Some("ipip"), 1480),
    ];
    links.extend((0..plan.pods).map(|number| Link {
        hardware_address: Some("ee:ee:ee:ee:ee:ee".to_owned()),
        lower: Some(4),
        peer_namespace: i32::try_from(number).ok(),
        ..link(FIRST_POD + number, &pod_device(node, number), Some("veth"), 1480)
    }));
    links
}

fn addresses(node: u32) -> Vec<Address> {
    let on = |link, address, prefix_length, scope| Address { link, address, prefix_length, scope };
    vec![
        on(1, Ipv4Addr::LOCALHOST, 8, 254),
        on(UPLINK, address(node), 24, 0),
        on(TUNNEL, block(node).addr(), 32, 0),
    ]
}

fn hop(link: u32, gateway: Option<Ipv4Addr>) -> Hop {
    Hop { gateway, link: Some(link), weight: 1, ..Hop::default() }
}

fn is_bare(plan: Plan, one: u32, other: u32) -> bool {
    plan.cross_subnet && subnet(one) == subnet(other)
}

fn routes(plan: Plan, node: u32) -> Vec<Route> {
    let route =
        |destination: Ipv4Net, hops: Vec<Hop>| Route { destination, table: MAIN, hops, ..Route::default() };
    let mut routes = vec![
        Route {
            protocol: 3,
            ..route("0.0.0.0/0".parse().expect("a prefix"), vec![hop(UPLINK, Some(router(node)))])
        },
        Route {
            protocol: 2,
            scope: LINK_SCOPE,
            preferred_source: Some(address(node)),
            ..route(subnet(node), vec![hop(UPLINK, None)])
        },
    ];
    if plan.blackholes {
        routes.push(Route { kind: RouteKind::Blackhole, protocol: BIRD, ..route(block(node), Vec::new()) });
    }
    routes.extend((0..plan.pods).map(|number| Route {
        protocol: 3,
        scope: LINK_SCOPE,
        ..route(Ipv4Net::from(pod(node, number)), vec![hop(FIRST_POD + number, None)])
    }));
    routes.extend((0..plan.nodes).filter(|other| *other != node).map(|other| {
        let bare = is_bare(plan, node, other);
        let link = if bare { UPLINK } else { TUNNEL };
        let to_it = Hop { onlink: !bare, ..hop(link, Some(address(other))) };
        Route { protocol: BIRD, ..route(block(other), vec![to_it]) }
    }));
    let own = [(1, Ipv4Addr::LOCALHOST), (UPLINK, address(node)), (TUNNEL, block(node).addr())];
    routes.extend(own.map(|(link, own)| Route {
        kind: RouteKind::Local,
        table: LOCAL,
        protocol: 2,
        scope: 254,
        preferred_source: Some(own),
        ..route(Ipv4Net::from(own), vec![hop(link, None)])
    }));
    routes
}

fn sysctls(plan: Plan, node: u32) -> Sysctls {
    let of = |proxy_arp| InterfaceSysctls {
        forwarding: Some(true),
        rp_filter: Some(0),
        proxy_arp: Some(proxy_arp),
    };
    let others = ["all", "default", "lo", "eth0", "tunl0"].map(|name| (name.to_owned(), of(false)));
    let pods = (0..plan.pods).map(|number| (pod_device(node, number), of(true)));
    let interfaces: BTreeMap<String, InterfaceSysctls> = others.into_iter().chain(pods).collect();
    Sysctls { ip_forward: Some(true), fib_multipath_hash_policy: Some(0), interfaces }
}

fn sets(plan: Plan) -> FelixSets {
    let pools = Fact::Known(vec!["10.200.0.0/16".parse().expect("a prefix")]);
    FelixSets {
        pools: pools.clone(),
        masquerade_pools: pools,
        hosts: Fact::Known((0..plan.nodes).map(|node| Ipv4Net::from(address(node))).collect()),
    }
}

/// What Felix writes for protocol 4, and what each pod has.
fn rule_sets(plan: Plan) -> RuleSets {
    let members = (0..plan.nodes).map(|node| Member {
        key: vec![KeyPart::network(address(node), 32)],
        excluded: false,
        verdict: None,
    });
    let hosts = RuleSetMembers { name: SET_OF_HOSTS.to_owned(), members: Fact::Known(members.collect()) };
    let base = |hook: NetfilterHook| {
        Some(BaseChain {
            hook,
            priority: 0,
            first_packets_only: false,
            policy_drops: false,
            policy_packets: Some(0),
        })
    };
    let mut chains = vec![
        RuleChain {
            name: "INPUT".to_owned(),
            base: base(NetfilterHook::Input),
            rules: vec![rule(1, vec![RulePart::Verdict(Verdict::Jump("cali-INPUT".to_owned()))])],
        },
        RuleChain { name: "FORWARD".to_owned(), base: base(NetfilterHook::Forward), rules: Vec::new() },
        RuleChain { name: "cali-INPUT".to_owned(), base: None, rules: input_rules() },
    ];
    chains.extend((0..plan.pods).map(|number| RuleChain {
        name: format!("cali-tw-{}", pod_device(0, number)),
        base: None,
        rules: (1..=plan.rules).map(ordinary_rule).collect(),
    }));
    RuleSets {
        tables: vec![RuleTable {
            backend: RuleSetBackend::Legacy,
            family: RuleFamily::Ip,
            name: "filter".to_owned(),
            chains,
            sets: Vec::new(),
        }],
        ipsets: vec![hosts],
        ..RuleSets::default()
    }
}

fn rule(number: u32, parts: Vec<RulePart>) -> NetfilterRule {
    NetfilterRule { number, packets: Some(0), parts, ..NetfilterRule::default() }
}

fn input_rules() -> Vec<NetfilterRule> {
    let tunnelled = || RulePart::Compare(Comparison::equals(Field::Protocol, 4));
    let from_a_host = RulePart::Member(Membership {
        set: SetName::Ipset(SET_OF_HOSTS.to_owned()),
        key: vec![Field::SourceAddress],
        invert: false,
    });
    vec![
        rule(1, vec![tunnelled(), from_a_host, RulePart::Verdict(Verdict::Accept)]),
        rule(2, vec![tunnelled(), RulePart::Verdict(Verdict::Drop)]),
    ]
}

fn ordinary_rule(number: u32) -> NetfilterRule {
    let parts = vec![
        RulePart::Compare(Comparison::equals(Field::Protocol, 6)),
        RulePart::Compare(Comparison::equals(Field::DestinationPort, number)),
        RulePart::Compare(Comparison::any_bit(Field::Mark, 0x1_0000)),
        RulePart::Verdict(Verdict::Return),
    ];
    let comments = vec!["cali:0123456789abcdef".to_owned(), "Policy default/allow ingress".to_owned()];
    NetfilterRule { comments, ..rule(number, parts) }
}

fn bird(plan: Plan, node: u32) -> Bird {
    let is_peer = |other: &u32| *other != node && (!plan.route_reflector || node == 0 || *other == 0);
    Bird {
        version: Fact::Known("v0.3.3+birdv1.6.8".to_owned()),
        router_id: Some(address(node)),
        recovering: false,
        sessions: (0..plan.nodes).filter(is_peer).map(|peer| session(node, peer)).collect(),
        routes: Fact::Absent("made up without".to_owned()),
    }
}

fn session(node: u32, peer: u32) -> BgpSession {
    BgpSession {
        name: format!("Mesh_{}", address(peer).to_string().replace('.', "_")),
        peer: address(peer),
        kind: PeerKind::NodeToNodeMesh,
        established: true,
        state: "Established".to_owned(),
        since: "02:28:00".to_owned(),
        error: String::new(),
        source: Some(address(node)),
        imported: Some(1),
        exported: Some(1),
    }
}
