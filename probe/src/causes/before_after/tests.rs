use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::*;
use crate::{
    causes::Cause,
    plan::{Action, FORMAT_VERSION, Step},
    reading::{Count, DropCounts, DropPlace, LastDropped, Reading},
    sample::{
        BgpSession, Bird, BirdRoute, CniResult, Echo, Fact, Hop, Ledger, Link, PodInterface, Route,
        RouteKind, Rule, Sample,
    },
};

const TUNNEL: u32 = 3;
const POD: u32 = 7;
const BIRD: u8 = 12;

fn route(destination: &str, link: u32, gateway: Option<&str>) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        kind: RouteKind::Unicast,
        table: 254,
        protocol: BIRD,
        hops: vec![Hop {
            link: Some(link),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            weight: 1,
            ..Hop::default()
        }],
        ..Route::default()
    }
}

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.to_owned(), up: true, carrier: true, ..Link::default() }
}

/// A node with a pod and the block of another node.
fn node() -> Sample {
    Sample {
        links: vec![link(TUNNEL, "tunl0"), link(POD, "cali1")],
        routes: vec![
            route("10.200.55.193/32", POD, None),
            route("10.200.153.64/26", TUNNEL, Some("172.30.10.187")),
        ],
        rules: vec![Rule::for_all(32766, 254)],
        given_pools: vec!["10.200.0.0/16".parse().unwrap()],
        ..Sample::default()
    }
}

/// What the routes alone come to.
fn meanings(after: &Sample) -> Vec<(SubjectKind, Meaning)> {
    let before = node();
    let changes = judge(&Model::new(&before), &Model::new(after), None);
    let of_routes = changes
        .iter()
        .filter(|change| change.finding.is_none() && change.subject.kind != SubjectKind::Interface);
    of_routes.map(|change| (change.subject.kind, change.meaning)).collect()
}

#[test]
fn a_block_that_nothing_leads_to_any_more_is_a_regression() {
    let mut after = node();
    after.routes.pop();
    assert_eq!(meanings(&after).first(), Some(&(SubjectKind::Block, Meaning::Regression)));
}

#[test]
fn a_block_within_a_wider_route_to_its_node_is_still_reached() {
    let mut after = node();
    after.routes[1].destination = "10.200.153.0/24".parse().unwrap();
    assert!(meanings(&after).iter().all(|(_, meaning)| *meaning == Meaning::Harmless));
}

#[test]
fn a_pod_that_ended_is_none_and_one_that_lost_its_route_is_one() {
    let mut after = node();
    after.routes.remove(0);
    assert_eq!(meanings(&after).first(), Some(&(SubjectKind::Pod, Meaning::Regression)));
    after.links.pop();
    assert_eq!(meanings(&after).first(), Some(&(SubjectKind::Pod, Meaning::Harmless)));
}

#[test]
fn a_next_hop_that_changed_is_judged_by_who_announces_the_block() {
    let mut after = node();
    after.routes[1].hops[0].gateway = Some(Ipv4Addr::new(172, 30, 10, 99));
    assert_eq!(meanings(&after), [(SubjectKind::Block, Meaning::Unknown)]);
    after.sets.hosts = Fact::Known(vec!["172.30.10.99/32".parse().unwrap()]);
    assert_eq!(meanings(&after), [(SubjectKind::Block, Meaning::Unknown)]);
    for (announced, meaning) in [(99, Meaning::Harmless), (187, Meaning::Regression)] {
        after.bird = Fact::Known(bird(announced));
        assert_eq!(meanings(&after).last(), Some(&(SubjectKind::Block, meaning)));
    }
}

/// A BIRD that has the block from 172.30.10.N.
fn bird(number: u8) -> Bird {
    let route = BirdRoute {
        destination: "10.200.153.64/26".parse().unwrap(),
        gateway: None,
        next_hop: Some(Ipv4Addr::new(172, 30, 10, number)),
        device: None,
        protocol: "kernel1".to_owned(),
        best: true,
        refused: false,
        unreachable: false,
    };
    Bird { routes: Fact::Known(vec![route]), ..Bird::default() }
}

/// What changed of a thing, but for what `check` says of it.
fn of<'c>(changes: &'c [Change], value: &str) -> Vec<&'c Change> {
    let is_of_it = |change: &&Change| change.subject.value == value && change.finding.is_none();
    changes.iter().filter(is_of_it).collect()
}

fn compared(before: &Sample, after: &Sample, plan: Option<&Plan>) -> Vec<Change> {
    judge(&Model::new(before), &Model::new(after), plan)
}

const BRIDGE: &str = "br-1d6d3edc38f7";

/// The node with an idle bridge and the route to its network.
fn with_bridge(index: u32) -> Sample {
    let mut sample = node();
    sample.links.push(Link {
        kind: Some("bridge".to_owned()),
        hardware_address: Some("02:42:0a:00:00:01".to_owned()),
        carrier: false,
        ..link(index, BRIDGE)
    });
    sample.routes.push(Route { protocol: 2, ..route("172.18.0.0/16", index, None) });
    sample
}

fn plan(sample: &Sample) -> Plan {
    let bridge = sample.links.last().unwrap().clone();
    let route = sample.routes.last().unwrap().clone();
    let step = |action| Step {
        action,
        subject: Subject { kind: SubjectKind::Interface, value: BRIDGE.to_owned() },
        why: String::new(),
        proof: Vec::new(),
        risk: String::new(),
        command: String::new(),
    };
    Plan {
        format_version: FORMAT_VERSION,
        time: String::new(),
        node: String::new(),
        boot_id: String::new(),
        network_namespace: 0,
        steps: vec![
            step(Action::DeleteRoute { route, devices: vec![Some(BRIDGE.to_owned())] }),
            step(Action::SetLinkDown { link: bridge.clone() }),
            step(Action::DeleteLink { link: bridge, addresses: Vec::new() }),
        ],
        kept: Vec::new(),
    }
}

#[test]
fn what_the_plan_takes_away_is_meant_and_what_of_it_is_left_is_said() {
    let before = with_bridge(9);
    let plan = plan(&before);
    let done = compared(&before, &node(), Some(&plan));
    for value in [BRIDGE, "172.18.0.0/16"] {
        assert_eq!(of(&done, value)[0].meaning, Meaning::Meant, "{value}");
    }
    let mut half = before.clone();
    half.routes.pop();
    half.links.last_mut().unwrap().up = false;
    let half = compared(&before, &half, Some(&plan));
    assert_eq!(of(&half, "172.18.0.0/16")[0].meaning, Meaning::Meant);
    assert_eq!(of(&half, BRIDGE)[0].meaning, Meaning::Unfinished);
    let nothing = compared(&before, &before, Some(&plan));
    assert_eq!(nothing.iter().filter(|change| change.meaning == Meaning::Unfinished).count(), 2);
}

#[test]
fn a_loss_is_one_though_a_plan_says_so() {
    let before = node();
    let mut wrong = plan(&with_bridge(9));
    let route = before.routes[1].clone();
    wrong.steps[0].action = Action::DeleteRoute { route, devices: vec![Some("tunl0".to_owned())] };
    let mut after = node();
    after.routes.pop();
    let changes = compared(&before, &after, Some(&wrong));
    assert_eq!(of(&changes, "10.200.153.64/26")[0].meaning, Meaning::Regression);
}

#[test]
fn a_bridge_that_was_made_anew_as_it_was_is_the_same_one() {
    let is_of_it = |change: &&Change| {
        [BRIDGE, "172.18.0.0/16"].contains(&change.subject.value.as_str()) && change.finding.is_none()
    };
    let before = with_bridge(9);
    assert_eq!(compared(&before, &with_bridge(12), None).iter().find(is_of_it), None);
    let mut other = with_bridge(12);
    other.links.last_mut().unwrap().hardware_address = Some("02:42:0a:00:00:02".to_owned());
    let changes = compared(&before, &other, None);
    assert_eq!(changes.iter().filter(is_of_it).count(), 2, "{changes:?}");
    // One without ports has no address, and gets another when it is made anew.
    let mut without = with_bridge(9);
    without.links.last_mut().unwrap().hardware_address = Some("00:00:00:00:00:00".to_owned());
    assert_eq!(compared(&without, &other, None).iter().find(is_of_it), None);
    // The next pod may have the name of the last one.
    let mut next = node();
    let veth = |index| Link { kind: Some("veth".to_owned()), ..link(index, "cali1") };
    next.links[1] = veth(12);
    let mut first = node();
    first.links[1] = veth(POD);
    assert_eq!(of(&compared(&first, &next, None), "cali1").len(), 2);
}

#[test]
fn the_route_to_an_interface_without_a_pod_is_no_loss() {
    let mut before = node();
    before.links.push(link(8, "cali2"));
    let inside = |link, inhabited| PodInterface {
        link,
        name: "eth0".to_owned(),
        up: true,
        carrier: true,
        addresses: Vec::new(),
        inhabited: Some(inhabited),
        checksum_errors: None,
    };
    before.pod_interfaces = vec![inside(POD, false), inside(8, true)];
    before.cni_results = Fact::Known(vec![CniResult {
        namespace: None,
        pod: None,
        container_id: String::new(),
        host_interface: Some("cali2".to_owned()),
        addresses: Vec::new(),
        network_namespace: None,
    }]);
    let mut after = before.clone();
    after.routes.remove(0);
    let changes = compared(&before, &after, None);
    assert_eq!(of(&changes, "10.200.55.193")[0].meaning, Meaning::Harmless, "{changes:?}");
}

fn session(number: u8, established: bool) -> BgpSession {
    BgpSession {
        name: format!("Mesh_172_30_10_{number}"),
        peer: Ipv4Addr::new(172, 30, 10, number),
        kind: crate::sample::PeerKind::NodeToNodeMesh,
        established,
        state: if established { "Established" } else { "Active" }.to_owned(),
        since: "02:28".to_owned(),
        error: String::new(),
        source: None,
        imported: None,
        exported: None,
    }
}

#[test]
fn a_session_that_is_down_or_gone_is_a_regression_and_one_that_was_down_is_not() {
    let with = |sessions: Vec<BgpSession>| {
        let bird = Bird { sessions, ..bird(187) };
        Sample { bird: Fact::Known(bird), ..node() }
    };
    let meaning = |before: &Sample, after: &Sample| {
        let changes = compared(before, after, None);
        let is_of_session = |change: &&Change| {
            let cause = change.finding.as_ref().map(|finding| finding.cause);
            change.subject.value == "172.30.10.187"
                && cause.is_none_or(|cause| cause == Cause::BgpSessionDown)
        };
        changes.iter().find(is_of_session).map(|change| change.meaning)
    };
    let (up, down, none) =
        (with(vec![session(187, true)]), with(vec![session(187, false)]), with(Vec::new()));
    assert_eq!(meaning(&up, &down), Some(Meaning::Regression));
    assert_eq!(meaning(&up, &none), Some(Meaning::Regression));
    assert_eq!(meaning(&down, &down), Some(Meaning::Dark));
    assert_eq!(meaning(&down, &up), Some(Meaning::Healed));
    assert_eq!(meaning(&up, &up), None);
}

/// A ledger of ten seconds, with so many drops in each second.
fn ledger(reason: &str, symbol: &str, each_second: &[u64]) -> Fact<Ledger> {
    let mut sum = 0;
    let last = LastDropped {
        source: Ipv4Addr::new(10, 200, 55, 193),
        destination: Ipv4Addr::new(10, 200, 153, 70),
        outer: None,
        mark: 0,
        protocol: 6,
    };
    let readings = std::iter::once(&0).chain(each_second).enumerate().map(|(second, packets)| {
        sum += packets;
        let drop = DropCounts {
            reason: Some(reason.to_owned()),
            symbol: Some(symbol.to_owned()),
            place: DropPlace::Node,
            device: None,
            ingress_device: None,
            block: None,
            encapsulated: false,
            count: Count { segments: sum, buffers: sum },
            last: Some(last),
        };
        Reading {
            time: format!("2018-06-27T08:12:{second:02}Z"),
            drops: vec![drop],
            drops_counted: true,
            ..Reading::default()
        }
    });
    Fact::Known(Ledger { readings: readings.collect(), black_holes: Vec::new() })
}

#[test]
fn a_kind_of_loss_counts_where_it_is_more_than_before_varied() {
    let meaning = |reason: &str, was: &[u64], is: &[u64]| {
        let with = |counts: &[u64]| Sample { ledger: ledger(reason, "nf_hook_slow", counts), ..node() };
        let (mut before, mut after) = (with(was), with(is));
        for sample in [&mut before, &mut after] {
            sample.rule_sets = Fact::Known(crate::sample::RuleSets::default());
        }
        of(&compared(&before, &after, None), "10.200.153.70").first().map(|change| change.meaning)
    };
    let worse = Some(Meaning::Regression);
    assert_eq!(meaning("NETFILTER_DROP", &[0; 10], &[5; 10]), worse);
    assert_eq!(meaning("NETFILTER_DROP", &[0; 10], &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0]), None, "too few");
    assert_eq!(meaning("NETFILTER_DROP", &[3, 9, 1, 0, 4, 2, 8, 1, 0, 3], &[5; 10]), None, "it varied so");
    assert_eq!(meaning("NETFILTER_DROP", &[3, 9, 1, 0, 4, 2, 8, 1, 0, 3], &[30; 10]), worse);
    assert_eq!(meaning("NO_SOCKET", &[0; 10], &[50; 10]), None, "a socket");
    assert_eq!(meaning("TCP_RESET", &[0; 10], &[50; 10]), None, "a socket");
    assert_eq!(meaning("QDISC_DROP", &[0; 10], &[50; 10]), worse);
}

#[test]
fn what_is_lost_of_a_pod_that_ended_is_no_loss() {
    let mut after = Sample { ledger: ledger("NETFILTER_DROP", "nf_hook_slow", &[50; 10]), ..node() };
    after.rule_sets = Fact::Known(crate::sample::RuleSets::default());
    let mut before = Sample { ledger: ledger("NETFILTER_DROP", "nf_hook_slow", &[0; 10]), ..node() };
    before.rule_sets = after.rule_sets.clone();
    for sample in [&mut before, &mut after] {
        let own =
            Route { kind: RouteKind::Blackhole, hops: Vec::new(), ..route("10.200.55.192/26", 0, None) };
        sample.routes.push(own);
    }
    assert_eq!(of(&compared(&before, &after, None), "10.200.153.70").len(), 1);
    after.routes.remove(0);
    after.links.pop();
    assert_eq!(of(&compared(&before, &after, None), "10.200.153.70").len(), 0);
}

#[test]
fn who_did_not_answer_before_is_not_held_against_now() {
    let with = |answers: Option<[bool; 2]>| {
        let echoes = answers.map_or_else(Fact::default, |answers| {
            let addresses = [Ipv4Addr::new(10, 200, 55, 193), Ipv4Addr::new(10, 200, 55, 194)];
            let echo =
                |(address, answers)| Echo { address, peer: None, rtt_us: bool::then_some(answers, 80) };
            Fact::Known(addresses.into_iter().zip(answers).map(echo).collect())
        });
        Sample { echoes, ..node() }
    };
    let meanings = |before: Option<[bool; 2]>, after: [bool; 2]| -> Vec<Meaning> {
        let changes = compared(&with(before), &with(Some(after)), None);
        let pods = changes.iter().filter(|change| change.subject.kind == SubjectKind::Pod);
        pods.map(|change| change.meaning).collect()
    };
    assert_eq!(meanings(Some([true, true]), [true, true]), []);
    assert_eq!(meanings(Some([true, false]), [false, false]), [Meaning::Regression, Meaning::Dark]);
    assert_eq!(meanings(Some([true, false]), [true, true]), [Meaning::Healed]);
    assert_eq!(meanings(None, [true, false]), [Meaning::Unknown]);
}

proptest! {
    #[test]
    fn a_node_compared_with_itself_has_not_changed(
        destinations in prop::collection::vec((0u32..1 << 16, 16u8..=32, 0u32..3), 0..30),
    ) {
        let mut sample = node();
        sample.routes.extend(destinations.iter().map(|(bits, length, metric)| {
            let network = Ipv4Net::new(Ipv4Addr::from(0x0ac8_0000 | bits), *length).unwrap().trunc();
            let mut row = route(&network.to_string(), POD, None);
            row.metric = *metric;
            row
        }));
        let changes = judge(&Model::new(&sample), &Model::new(&sample), None);
        prop_assert!(changes.iter().all(|change| change.meaning == Meaning::Dark), "{changes:?}");
    }
}
