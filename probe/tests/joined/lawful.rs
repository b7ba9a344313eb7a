//! What looks like a disagreement and is none.

use caliprobe::sample::{Fact, Hop, Part, Route, Sample};
use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::{
    made_up::{self, Plan, address, block, pod},
    made_up_nodes, said,
};

fn plans() -> impl Strategy<Value = Plan> {
    (1_u32..12, 0_u32..6, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(nodes, pods, cross_subnet, route_reflector, blackholes)| Plan {
            cross_subnet,
            route_reflector,
            blackholes,
            ..Plan::mesh(nodes, pods)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_healthy_cluster_has_nothing_to_report(plan in plans()) {
        let said = said(&made_up_nodes(plan));
        prop_assert!(said.groups.is_empty(), "{plan:?}: {}", said.words());
        prop_assert!(said.not_seen.is_empty(), "{plan:?}: {:?}", said.not_seen);
    }

    /// Whatever is left out of a sample, what is not there accuses nobody.
    #[test]
    fn absent_facts_accuse_nobody(plan in plans(), left_out in prop::collection::vec(0_u8..6, 12)) {
        let mut samples = made_up_nodes(plan);
        for (sample, what) in samples.iter_mut().zip(left_out) {
            leave_out(sample, what);
        }
        let said = said(&samples);
        prop_assert_eq!(said.faults(), [], "{:?}: {}", plan, said.words());
    }
}

fn leave_out(sample: &mut Sample, what: u8) {
    let unshown = || "it was not shown".to_owned();
    match what {
        0 => sample.sets.hosts = Fact::Absent(unshown()),
        1 => sample.bird = Fact::Absent(unshown()),
        2 => {
            // As a selection of `ip route` shows it.
            sample.routes.retain(|route| route.destination.prefix_len() < 25);
            sample.missing.insert(Part::Routes, unshown());
        }
        3 => sample.rule_sets = Fact::Absent(unshown()),
        4 => {
            sample.addresses.clear();
            sample.missing.insert(Part::Addresses, unshown());
        }
        _ => {}
    }
}

#[test]
fn a_borrowed_address_is_lawful_where_its_row_is_there() {
    let mut samples = made_up_nodes(Plan::mesh(4, 2));
    // Node 1 has a pod with an address of node 0's block, which it announces as a single address.
    let borrowed = Ipv4Net::from(pod(0, 100));
    let to_pod = samples[1].links.iter().find(|link| link.name.starts_with("cali")).map(|link| link.index);
    for (at, sample) in samples.iter_mut().enumerate() {
        let hop = if at == 1 {
            Hop { link: to_pod, weight: 1, ..Hop::default() }
        } else {
            Hop { link: Some(3), gateway: Some(address(1)), onlink: true, weight: 1, ..Hop::default() }
        };
        let route =
            Route { destination: borrowed, table: 254, protocol: 12, hops: vec![hop], ..Route::default() };
        sample.routes.push(route);
    }
    let said = said(&samples);
    assert_eq!(said.faults(), [], "{}", said.words());
}

#[test]
fn nodes_of_two_clusters_are_not_held_against_each_other() {
    let mut samples = made_up_nodes(Plan::mesh(3, 2));
    // The same pool, names and tunnel addresses in another network.
    let strangers = serde_json::to_string(&made_up_nodes(Plan::mesh(3, 2))).unwrap();
    let strangers = strangers.replace("172.30.", "192.168.").replace("boot-", "another-");
    let mut strangers: Vec<Sample> = serde_json::from_str(&strangers).unwrap();
    // Their addresses in rules are numbers.
    for sample in &mut strangers {
        sample.rule_sets = Fact::Absent("made up without".to_owned());
    }
    samples.extend(strangers);
    let said = said(&samples);
    assert_eq!(said.faults(), [], "{}", said.words());
    let mixed = said.not_seen.iter().find(|it| it.what.contains("2 groups of nodes")).expect("it is said");
    assert!(mixed.why.contains("node-000, node-001, node-002 | node-000"), "{}", mixed.why);
}

#[test]
fn the_newer_of_two_looks_at_one_node_is_used() {
    let mut samples = made_up_nodes(Plan::mesh(3, 2));
    let mut old = made_up::sample(Plan::mesh(3, 2), 1);
    old.time = "2026-01-02T01:00:00Z".to_owned();
    old.routes.retain(|route| route.destination != block(2));
    samples.push(old);
    let said = said(&samples);
    assert_eq!(said.faults(), [], "{}", said.words());
    let replaced = &said.not_seen[0];
    assert_eq!(replaced.what, "node-001 (172.30.20.1) at 2026-01-02T01:00:00Z");
    assert!(replaced.why.contains("the same machine as node-001 (172.30.20.1) at 2026-01-02T03:04:05Z"));
}

#[test]
fn nodes_that_are_named_and_not_given_are_said() {
    let samples = made_up_nodes(Plan::mesh(5, 1));
    let said = said(&samples[..3]);
    assert_eq!(said.faults(), [], "{}", said.words());
    assert_eq!(said.not_seen[0].what, "2 of 5 nodes that Felix' sets of hosts name");
    assert!(said.not_seen[0].why.contains("172.30.10.3, 172.30.20.2"));
}
