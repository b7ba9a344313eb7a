//! A node like the one of the field: two idle bridges and an interface without a pod, next to all that is in use.

use proptest::prelude::*;

use super::*;
use crate::sample::{
    Address, Bird, CniResult, Fact, Hop, Lifeline, Link, LinkStatistics, Neighbour, NeighbourState,
    OwnedDevice, Owner, OwnerKind, PodInterface, Process, ProcessRole, Route, RouteKind, Rule, Sample,
    Surroundings,
};

const UPLINK: u32 = 2;
const TUNNEL: u32 = 3;
const BRIDGE: u32 = 5;
const LEFTOVER: u32 = 7;
const POD: u32 = 8;
const BRIDGE_NAME: &str = "br-1d6d3edc38f7";
const GONE: [u8; 4] = [172, 30, 10, 99];

fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        link_layer_type: if name == "lo" { 772 } else { 1 },
        up: true,
        carrier: kind != Some("bridge"),
        peer_namespace: (kind == Some("veth")).then_some(1),
        ..Link::default()
    }
}

fn route(destination: &str, link: u32, gateway: Option<[u8; 4]>, protocol: u8) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        table: 254,
        protocol,
        hops: vec![Hop { link: Some(link), gateway: gateway.map(Into::into), weight: 1, ..Hop::default() }],
        ..Route::default()
    }
}

fn pod(link: u32, inhabited: bool, address: &str) -> PodInterface {
    PodInterface {
        link,
        name: "eth0".to_owned(),
        up: true,
        carrier: true,
        addresses: vec![address.parse().unwrap()],
        inhabited: Some(inhabited),
        checksum_errors: None,
    }
}

fn node() -> Sample {
    let links = vec![
        link(1, "lo", None),
        link(UPLINK, "eth0", None),
        link(TUNNEL, "tunl0", Some("ipip")),
        link(BRIDGE, BRIDGE_NAME, Some("bridge")),
        link(LEFTOVER, "cali980e384bbd4", Some("veth")),
        link(POD, "cali1", Some("veth")),
    ];
    let mut sample = Sample {
        links,
        addresses: vec![
            Address { link: UPLINK, address: [172, 30, 10, 188].into(), prefix_length: 24, scope: 0 },
            Address { link: BRIDGE, address: [172, 18, 0, 1].into(), prefix_length: 16, scope: 0 },
        ],
        routes: vec![
            route("0.0.0.0/0", UPLINK, Some([172, 30, 10, 254]), 3),
            route("172.30.10.0/24", UPLINK, None, 2),
            route("172.18.0.0/16", BRIDGE, None, 2),
            route("10.200.153.64/26", TUNNEL, Some([172, 30, 10, 187]), 12),
            route("10.200.168.128/26", TUNNEL, Some(GONE), 4),
            route("10.200.55.193/32", POD, None, 80),
        ],
        rules: vec![Rule::for_all(32766, 254)],
        given_pools: vec!["10.200.0.0/16".parse().unwrap()],
        neighbours: vec![Neighbour {
            link: UPLINK,
            address: GONE.into(),
            state: NeighbourState::Failed,
            hardware_address: None,
        }],
        pod_interfaces: vec![pod(LEFTOVER, false, "10.200.55.194"), pod(POD, true, "10.200.55.193")],
        cni_results: Fact::Known(Vec::new()),
        bird: Fact::Known(Bird::default()),
        surroundings: Fact::Known(Surroundings {
            ages: [(LEFTOVER, 3600)].into(),
            lifelines: Fact::Known(vec![Lifeline {
                address: [172, 30, 20, 1].into(),
                what: "the API server".to_owned(),
            }]),
            ..Surroundings::default()
        }),
        ..Sample::default()
    };
    let hosts = ["172.30.10.187/32", "172.30.10.188/32"].map(|host| host.parse().unwrap());
    sample.sets.hosts = Fact::Known(hosts.to_vec());
    sample.control_plane.processes =
        Fact::Known(vec![Process { id: 1, role: ProcessRole::Felix, name: "calico-node".to_owned() }]);
    sample
}

fn surroundings(sample: &mut Sample) -> &mut Surroundings {
    match &mut sample.surroundings {
        Fact::Known(surroundings) => surroundings,
        Fact::Absent(why) => panic!("{why}"),
    }
}

fn planned(sample: &Sample) -> Plan {
    let model = Model::new(sample);
    plan(&model, Some(&model))
}

fn commands(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.command.as_str()).collect()
}

fn stays(plan: &Plan, subject: &str, why: &str) {
    let kept = plan.kept.iter().find(|kept| kept.subject.value == subject);
    let kept = kept.unwrap_or_else(|| panic!("{subject} is not kept: {plan:?}"));
    assert!(kept.why.contains(why), "{}", kept.why);
    assert!(!plan.steps.iter().any(|step| step.command.contains(subject)));
}

#[test]
fn what_is_stale_goes_routes_first_and_deletions_last() {
    let plan = planned(&node());
    assert_eq!(
        commands(&plan),
        [
            "ip route del 172.18.0.0/16 dev br-1d6d3edc38f7 proto kernel",
            "ip route del 10.200.168.128/26 via 172.30.10.99 dev tunl0 proto static",
            "ip link set dev br-1d6d3edc38f7 down",
            "ip link set dev cali980e384bbd4 down",
            "ip link del dev br-1d6d3edc38f7",
            "ip link del dev cali980e384bbd4",
        ]
    );
    assert_eq!(plan.kept, []);
    let reversible: Vec<bool> = plan.steps.iter().map(Step::is_reversible).collect();
    assert_eq!(reversible, [true, true, true, true, true, false]);
}

#[test]
fn what_an_owner_knows_stays_with_what_the_owner_would_type() {
    let mut sample = node();
    let own = OwnedDevice { device: BRIDGE_NAME.to_owned(), name: "app_default".to_owned() };
    surroundings(&mut sample).owners =
        vec![Owner { kind: OwnerKind::Docker, devices: Fact::Known(vec![own]) }];
    let plan = planned(&sample);
    stays(&plan, BRIDGE_NAME, "Docker's: app_default");
    assert_eq!(plan.kept[0].command.as_deref(), Some("docker network rm app_default"));
}

#[test]
fn an_owner_that_cannot_be_asked_keeps_its_kind_of_things() {
    for kind in [OwnerKind::Docker, OwnerKind::NetworkManager, OwnerKind::Networkd] {
        let mut sample = node();
        let devices = Fact::Absent("silent".to_owned());
        surroundings(&mut sample).owners = vec![Owner { kind, devices }];
        stays(&planned(&sample), BRIDGE_NAME, "cannot be asked: silent");
    }
    let mut sample = node();
    let devices = Fact::Known(Vec::new());
    surroundings(&mut sample).owners = vec![Owner { kind: OwnerKind::Docker, devices }];
    assert!(commands(&planned(&sample)).contains(&"ip link del dev br-1d6d3edc38f7"));
}

#[test]
fn a_bridge_whose_name_tells_nothing_or_that_is_configured_stays() {
    let mut sample = node();
    sample.links[3].name = "br0".to_owned();
    stays(&planned(&sample), "br0", "does not tell who made it");
    let mut sample = node();
    surroundings(&mut sample).configured = [(BRIDGE_NAME.to_owned(), "/etc/netplan/1".to_owned())].into();
    stays(&planned(&sample), BRIDGE_NAME, "/etc/netplan/1 names it");
}

#[test]
fn what_carries_traffic_or_was_looked_at_once_stays() {
    let earlier = node();
    for (place, name) in [(3, BRIDGE_NAME), (4, "cali980e384bbd4")] {
        let mut now = node();
        now.links[place].statistics = LinkStatistics { tx_packets: 1, ..LinkStatistics::default() };
        stays(&plan(&Model::new(&now), Some(&Model::new(&earlier))), name, "carries traffic");
        stays(&plan(&Model::new(&earlier), None), name, "one look");
    }
}

#[test]
fn an_interface_without_all_the_proof_stays() {
    let name = "cali980e384bbd4";
    let mut young = node();
    surroundings(&mut young).ages = [(LEFTOVER, 599)].into();
    stays(&planned(&young), name, "599 s only");
    let mut ageless = node();
    surroundings(&mut ageless).ages.clear();
    stays(&planned(&ageless), name, "since when it exists");
    let mut cached = node();
    cached.cni_results = Fact::Known(vec![CniResult {
        namespace: None,
        pod: None,
        container_id: String::new(),
        host_interface: Some(name.to_owned()),
        addresses: Vec::new(),
        network_namespace: None,
    }]);
    stays(&planned(&cached), name, "cache names it");
    let mut uncached = node();
    uncached.cni_results = Fact::Absent("no cache".to_owned());
    stays(&planned(&uncached), name, "no cache");
    let mut routed = node();
    routed.routes.push(route("10.200.55.194/32", LEFTOVER, None, 80));
    stays(&planned(&routed), name, "Felix keeps");
    let mut unseen = node();
    unseen.pod_interfaces.remove(0);
    stays(&planned(&unseen), name, "nobody could look behind it");
    let mut inhabited = node();
    inhabited.pod_interfaces[0].inhabited = Some(true);
    assert!(!commands(&planned(&inhabited)).iter().any(|command| command.contains(name)));
}

#[test]
fn a_route_to_a_node_that_may_be_alive_stays() {
    let destination = "10.200.168.128/26";
    let of_bird = |sample: &mut Sample| sample.routes[4].protocol = 12;
    let unasked = |sample: &mut Sample| sample.bird = Fact::Absent("silent".to_owned());
    let answers = |sample: &mut Sample| {
        sample.neighbours[0].state = NeighbourState::Reachable;
        sample.neighbours[0].hardware_address = Some("00:50:56:81:47:99".to_owned());
    };
    for (change, why) in
        [(of_bird as fn(&mut Sample), "BIRD's"), (unasked, "BIRD was not asked"), (answers, "has not failed")]
    {
        let mut sample = node();
        change(&mut sample);
        stays(&planned(&sample), destination, why);
    }
}

#[test]
fn of_two_ways_to_a_pod_the_one_that_leads_elsewhere_goes() {
    let mut sample = node();
    sample.links.push(link(9, "cali2", Some("veth")));
    sample.pod_interfaces.push(pod(9, true, "10.200.55.200"));
    let stale = Route { metric: 100, ..route("10.200.55.193/32", 9, None, 4) };
    sample.routes.push(stale.clone());
    let wanted = "ip route del 10.200.55.193 dev cali2 proto static metric 100";
    assert!(commands(&planned(&sample)).contains(&wanted), "{:?}", commands(&planned(&sample)));
    sample.routes.pop();
    sample.routes.push(Route { protocol: 80, ..stale });
    stays(&planned(&sample), "10.200.55.193/32", "Felix's");
}

#[test]
fn without_knowing_what_the_node_talks_to_there_is_no_step() {
    let mut sample = node();
    surroundings(&mut sample).lifelines = Fact::Absent("no /proc".to_owned());
    let plan = planned(&sample);
    assert_eq!(plan.steps, []);
    stays(&plan, BRIDGE_NAME, "no /proc");
    sample.surroundings = Fact::default();
    assert_eq!(planned(&sample).steps, []);
}

#[test]
fn what_leads_to_somebody_who_is_talked_to_stays() {
    let mut sample = node();
    let used = Lifeline { address: [172, 18, 4, 4].into(), what: "the API server".to_owned() };
    surroundings(&mut sample).lifelines = Fact::Known(vec![used]);
    stays(&planned(&sample), BRIDGE_NAME, "leads towards 172.18.4.4, the API server");
}

/// Any mixture of what is stale, what is in use, and what cannot be told.
fn any_node() -> impl Strategy<Value = Sample> {
    let names =
        ["br-1d6d3edc38f7", "br-1691e1aaa0bf", "docker0", "br0", "eth1", "bond0", "cali5", "tunl0", "lo"];
    let kinds = ["bridge", "veth", "bond", "vlan", "ipip"];
    let device = (
        prop::sample::select(names.to_vec()),
        prop::option::of(prop::sample::select(kinds.to_vec())),
        any::<bool>(),
        prop::option::of(1u32..16),
        prop::option::of(1u32..16),
    );
    let way = (
        prop::sample::select(vec![
            "0.0.0.0/0",
            "172.18.0.0/16",
            "172.30.10.0/24",
            "172.18.4.0/24",
            "10.200.9.0/26",
            "172.30.10.187/32",
            "10.200.55.193/32",
        ]),
        1u32..16,
        prop::option::of(prop::sample::select(vec![
            GONE,
            [172, 30, 10, 187],
            [172, 18, 4, 4],
            [172, 30, 10, 254],
        ])),
        prop::sample::select(vec![2u8, 4, 12, 80]),
        prop::sample::select(vec![254u32, 255, 100]),
        prop::sample::select(vec![
            RouteKind::Unicast,
            RouteKind::Blackhole,
            RouteKind::Local,
            RouteKind::Broadcast,
        ]),
    );
    let lifelines = prop::collection::vec(
        prop::sample::select(vec![[172u8, 18, 4, 4], [10, 200, 9, 1], [172, 30, 10, 9]]),
        0..3,
    );
    let addresses = prop::collection::vec(
        (1u32..16, prop::sample::select(vec![[172u8, 18, 0, 1], [172, 18, 4, 4], [172, 30, 10, 188]])),
        0..4,
    );
    (prop::collection::vec(device, 0..8), prop::collection::vec(way, 0..12), lifelines, addresses).prop_map(
        |(devices, ways, lifelines, addresses)| {
            let mut sample = node();
            for (index, (name, kind, carrier, master, lower)) in (9..).zip(devices) {
                if sample.links.iter().all(|link| link.name != name) {
                    sample.links.push(Link { carrier, master, lower, ..link(index, name, kind) });
                    sample.pod_interfaces.push(pod(index, false, "10.200.55.250"));
                    surroundings(&mut sample).ages.insert(index, 3600);
                }
            }
            let ways = ways.into_iter().map(|(destination, link, gateway, protocol, table, kind)| Route {
                kind,
                table,
                ..route(destination, link, gateway, protocol)
            });
            sample.routes.extend(ways);
            sample.addresses.extend(addresses.into_iter().map(|(link, address)| Address {
                link,
                address: address.into(),
                prefix_length: 16,
                scope: 0,
            }));
            let used = lifelines
                .into_iter()
                .map(|address| Lifeline { address: address.into(), what: "the API server".to_owned() });
            surroundings(&mut sample).lifelines = Fact::Known(used.collect());
            sample
        },
    )
}

/// Every device that is part of a way by which packets leave for an address.
fn with_parts(sample: &Sample, link: u32) -> Vec<&Link> {
    let mut parts = vec![link];
    let mut place = 0;
    while let Some(index) = parts.get(place).copied() {
        place += 1;
        for other in &sample.links {
            let is_lower =
                |of: &Link| of.index == index && of.peer_namespace.is_none() && of.lower == Some(other.index);
            let is_part = other.master == Some(index)
                || sample
                    .links
                    .iter()
                    .any(|of| is_lower(of) || (of.index == index && of.master == Some(other.index)));
            if is_part && !parts.contains(&other.index) {
                parts.push(other.index);
            }
        }
    }
    sample.links.iter().filter(|link| parts.contains(&link.index)).collect()
}

proptest! {
    #[test]
    fn no_plan_holds_what_the_node_lives_by(sample in any_node()) {
        let plan = planned(&sample);
        let lifelines = sample.surroundings.known().unwrap().lifelines.known().unwrap();
        let nodes = sample.sets.hosts.known().unwrap().iter().map(ipnet::Ipv4Net::addr);
        let defaults: Vec<&Route> = sample.routes.iter().filter(|route| route.destination.prefix_len() == 0).collect();
        let gateways = defaults.iter().flat_map(|route| &route.hops).filter_map(|hop| hop.gateway);
        let vital: Vec<std::net::Ipv4Addr> =
            lifelines.iter().map(|lifeline| lifeline.address).chain(nodes).chain(gateways).collect();
        let uplinks: Vec<&str> = defaults
            .iter()
            .flat_map(|route| &route.hops)
            .flat_map(|hop| with_parts(&sample, hop.link.unwrap()))
            .map(|link| link.name.as_str())
            .collect();
        for step in &plan.steps {
            match &step.action {
                Action::DeleteRoute { route, .. } => {
                    prop_assert!(route.destination.prefix_len() > 0);
                    prop_assert!(route.table != 255);
                    prop_assert!(!matches!(route.kind, RouteKind::Local | RouteKind::Broadcast));
                    prop_assert!(!vital.iter().any(|address| route.destination.contains(address)));
                    prop_assert!(!route.hops.iter().filter_map(|hop| hop.gateway).any(|gateway| vital.contains(&gateway)));
                }
                Action::SetLinkDown { link } | Action::DeleteLink { link, .. } => {
                    prop_assert!(!["lo", "tunl0", "eth0", "eth1", "bond0", "docker0", "br0", "cali1"].contains(&link.name.as_str()));
                    prop_assert!(!uplinks.contains(&link.name.as_str()));
                    prop_assert!(!sample.links.iter().any(|port| port.master == Some(link.index) && port.index != link.index));
                    let own = sample.addresses.iter().filter(|address| address.link == link.index);
                    prop_assert!(!own.map(|own| own.address).any(|own| vital.contains(&own)));
                }
            }
        }
        let ranks: Vec<u8> = plan.steps.iter().map(|step| rank(&step.action)).collect();
        prop_assert!(ranks.is_sorted());
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}
