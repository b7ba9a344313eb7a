//! Which alerts fire, and which do not, by promtool. The rules' own tests: each is an hour of a small cluster.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use super::{
    history::{AFTER, BEFORE, FAULT, History, Rate, address},
    programs::promtool,
};

pub const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/caliprobe.rules.yml");
const NODES: [u32; 5] = [1, 2, 3, 4, 5];

/// Exactly these alerts fire at a minute: by name, severity and other labels.
struct Firing<'a> {
    minute: u32,
    alerts: &'a [Alert<'a>],
}

struct Alert<'a> {
    name: &'a str,
    severity: &'a str,
    labels: &'a [(&'a str, String)],
}

impl Alert<'_> {
    fn series(&self) -> String {
        let labels: Vec<String> =
            [("alertname", self.name), ("alertstate", "firing"), ("severity", self.severity)]
                .into_iter()
                .chain(self.labels.iter().map(|(name, value)| (*name, value.as_str())))
                .map(|(name, value)| format!("{name}=\"{value}\""))
                .collect();
        format!("ALERTS{{{}}}", labels.join(","))
    }
}

fn critical<'a>(name: &'a str, labels: &'a [(&'a str, String)]) -> Alert<'a> {
    Alert { name, severity: "critical", labels }
}

fn assert_fires(history: &History, moments: &[Firing<'_>]) {
    let expressions: Vec<Value> = moments.iter().map(expression).collect();
    judge(&json!({ "interval": "30s", "input_series": history.series(), "promql_expr_test": expressions }));
}

fn expression(firing: &Firing<'_>) -> Value {
    let samples: Vec<Value> =
        firing.alerts.iter().map(|alert| json!({ "labels": alert.series(), "value": 1 })).collect();
    json!({
        "expr": "ALERTS{alertstate=\"firing\"}",
        "eval_time": format!("{}m", firing.minute),
        "exp_samples": samples,
    })
}

fn judge(test: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.json");
    let tests = json!({ "rule_files": [RULES], "evaluation_interval": "30s", "tests": [test] });
    fs::write(&file, tests.to_string()).unwrap();
    promtool(&["test", "rules", file.to_str().unwrap()], "").unwrap();
}

#[test]
fn the_rules_and_the_example_of_a_configuration_are_valid() {
    promtool(&["check", "rules", RULES], "").unwrap();
    let scrape = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/scrape.yml");
    promtool(&["check", "config", scrape], "").unwrap();
}

#[test]
fn a_healthy_cluster_fires_nothing() {
    let moments = [10, FAULT, 50].map(|minute| Firing { minute, alerts: &[] });
    assert_fires(&History::mesh(&NODES), &moments);
}

#[test]
fn what_is_lost_one_way_between_two_nodes_fires_for_that_directed_pair_alone() {
    let mut history = History::mesh(&NODES);
    history.pair(1, 2, Rate::steady(100), Rate { before: 100, after: Some(0) });
    let labels = [("source", address(1)), ("destination", address(2))];
    let alerts = [critical("CaliprobePairLoss", &labels)];
    assert_fires(
        &history,
        &[Firing { minute: FAULT, alerts: &[] }, Firing { minute: FAULT + 10, alerts: &alerts }],
    );
}

#[test]
fn the_text_of_a_lossy_pair_names_both_nodes_and_what_to_type() {
    let mut history = History::mesh(&NODES);
    history.pair(1, 2, Rate::steady(100), Rate { before: 100, after: Some(75) });
    let (source, destination) = (address(1), address(2));
    let description = format!(
        "Both ends count: it left the one's wire encapsulated and did not reach the other's. On the sender run \
         `caliprobe diagnose ADDRESS-OF-A-POD-THERE --from host`; on the receiver `tcpdump -ni any 'ip proto 4 and src \
         host {source}'`. What drops protocol 4 (IPIP) from {source} to {destination} lies between: a security group, a \
         firewall, a route of the underlay, its MTU."
    );
    let summary =
        format!("25% of what node-1 ({source}) sends to node-2 ({destination}) is lost between the two");
    let alert = json!({
        "eval_time": format!("{}m", FAULT + 15),
        "alertname": "CaliprobePairLoss",
        "exp_alerts": [{
            "exp_labels": { "severity": "critical", "source": source, "destination": destination },
            "exp_annotations": { "summary": summary, "description": description },
        }],
    });
    judge(&json!({ "interval": "30s", "input_series": history.series(), "alert_rule_test": [alert] }));
}

#[test]
fn few_packets_and_small_losses_prove_nothing() {
    let mut history = History::mesh(&NODES);
    history.pair(1, 2, Rate::steady(9), Rate { before: 9, after: Some(0) });
    history.pair(3, 4, Rate::steady(1000), Rate { before: 1000, after: Some(960) });
    assert_fires(&history, &[Firing { minute: FAULT + 15, alerts: &[] }]);
}

#[test]
fn an_end_that_restarted_is_blind() {
    let mut history = History::mesh(&NODES);
    let instance = format!("instance=\"{}:10475\"", address(2));
    let start = format!("1000+0x{} 2800+0x{AFTER}", BEFORE - 1);
    history.set(format!("caliprobe_start_time_seconds{{{instance}}}"), start);
    for node in [1, 3, 4, 5] {
        // Two minutes went uncounted, and the counter begins at zero.
        let labels = format!("{instance},job=\"caliprobe-peers\",peer=\"{}\"", address(node));
        let values = format!("0+100x{} _x4 0+100x{}", BEFORE - 1, AFTER - 4);
        history.set(format!("caliprobe_peer_decapsulated_packets_total{{{labels}}}"), values);
    }
    let moments = (1..12).map(|minutes| Firing { minute: FAULT + minutes, alerts: &[] }).collect::<Vec<_>>();
    assert_fires(&history, &moments);
}

#[test]
fn a_probe_that_is_away_while_its_node_lives_is_blind_and_accuses_nobody() {
    let mut history = History::mesh(&NODES);
    history.node(2, Some(0));
    for node in [1, 3, 4, 5] {
        history.pair(2, node, Rate { before: 100, after: None }, Rate::steady(100));
        history.pair(node, 2, Rate::steady(100), Rate { before: 100, after: None });
    }
    let instance = format!("{}:10475", address(2));
    let labels = [("instance", instance), ("node", "node-2".to_owned()), ("address", address(2))];
    let alerts = [Alert { name: "CaliprobeProbeBlind", severity: "warning", labels: &labels }];
    assert_fires(
        &history,
        &[Firing { minute: FAULT + 8, alerts: &[] }, Firing { minute: FAULT + 15, alerts: &alerts }],
    );
}

#[test]
fn a_node_that_hears_nobody_is_deaf_and_its_pairs_are_silent() {
    let mut history = History::mesh(&NODES);
    for node in [1, 3, 4, 5] {
        history.pair(node, 2, Rate::steady(100), Rate { before: 100, after: Some(0) });
    }
    let labels = [("address", address(2))];
    let alerts = [critical("CaliprobeNodeDeaf", &labels)];
    assert_fires(&history, &[Firing { minute: FAULT + 15, alerts: &alerts }]);
}

#[test]
fn a_node_that_nobody_hears_is_mute() {
    let mut history = History::mesh(&NODES);
    for node in [1, 3, 4, 5] {
        history.pair(2, node, Rate::steady(100), Rate { before: 100, after: Some(0) });
    }
    let labels = [("address", address(2))];
    let alerts = [critical("CaliprobeNodeMute", &labels)];
    assert_fires(&history, &[Firing { minute: FAULT + 15, alerts: &alerts }]);
}

#[test]
fn a_node_cut_off_both_ways_is_dark_though_prometheus_reaches_it() {
    let mut history = History::mesh(&NODES);
    for node in [1, 3, 4, 5] {
        history.pair(node, 2, Rate::steady(100), Rate { before: 100, after: Some(0) });
        history.pair(2, node, Rate::steady(100), Rate { before: 100, after: Some(0) });
    }
    let labels = [("address", address(2))];
    let alerts = [critical("CaliprobeNodeDark", &labels)];
    assert_fires(&history, &[Firing { minute: FAULT + 15, alerts: &alerts }]);
}

#[test]
fn one_of_500_nodes_that_dies_is_one_alert() {
    let others: Vec<u32> = (1..500).collect();
    let mut history = History::default();
    for (place, node) in others.iter().enumerate() {
        history.node(*node, Some(1));
        let next = others[(place + 1) % others.len()];
        history.pair(*node, next, Rate::steady(100), Rate::steady(100));
        history.session(*node, next, Some(1));
    }
    history.kill(0, &others);
    // What is lost names the node that it was for.
    let opened = format!("_x{} 1+0x{AFTER}", BEFORE + 4);
    for node in &others {
        history.black_hole(*node, &address(0), &opened);
    }
    let pairs = history
        .series()
        .iter()
        .filter(|series| series["values"].as_str().unwrap().ends_with("stale"))
        .count();
    assert!(pairs >= 998, "each of its pairs has an end that is absent: {pairs}");
    let labels = [("address", address(0))];
    let alerts = [critical("CaliprobeNodeDark", &labels)];
    assert_fires(
        &history,
        &[
            Firing { minute: FAULT, alerts: &[] },
            Firing { minute: FAULT + 7, alerts: &alerts },
            Firing { minute: FAULT + 25, alerts: &alerts },
        ],
    );
}

#[test]
fn a_node_that_is_drained_before_it_goes_is_not_dark() {
    let mut history = History::mesh(&NODES);
    history.node(2, Some(0));
    for node in [1, 3, 4, 5] {
        history.pair(node, 2, Rate { before: 100, after: Some(0) }, Rate { before: 100, after: None });
        history.pair(2, node, Rate { before: 100, after: None }, Rate { before: 100, after: Some(0) });
    }
    let moments = (1..9).map(|minutes| Firing { minute: FAULT + minutes, alerts: &[] }).collect::<Vec<_>>();
    assert_fires(&history, &moments);
}

#[test]
fn a_silent_node_is_not_dark_where_silence_is_usual_or_hardly_anybody_speaks_to_it() {
    let gone = Rate { before: 100, after: None };
    let (never_spoke, mut few_packets, mut one_sender) =
        (Rate::steady(0), History::mesh(&NODES), History::mesh(&NODES));
    let mut one_way = History::mesh(&NODES);
    for history in [&mut one_way, &mut few_packets, &mut one_sender] {
        history.kill(2, &[1, 3, 4, 5]);
        for node in [1, 3, 4, 5] {
            history.session(node, 2, Some(1));
        }
    }
    for node in [1, 3, 4, 5] {
        one_way.pair(2, node, never_spoke, never_spoke);
        few_packets.pair(node, 2, Rate { before: 100, after: Some(1) }, gone);
    }
    for node in [3, 4, 5] {
        one_sender.pair(node, 2, Rate { before: 100, after: Some(0) }, gone);
    }
    for history in [one_way, few_packets, one_sender] {
        let moments = [4, 6, 8].map(|minutes| Firing { minute: FAULT + minutes, alerts: &[] });
        assert_fires(&history, &moments);
    }
}

#[test]
fn a_black_hole_is_one_alert_for_all_nodes_that_have_it_until_it_closes() {
    let mut history = History::mesh(&NODES);
    for node in [1, 3] {
        history.black_hole(node, "10.200.153.64/26", &format!("_x{BEFORE} 1+0x20 stale"));
    }
    let labels = [("cause", "block-route-missing".to_owned()), ("subject", "10.200.153.64/26".to_owned())];
    let alerts = [critical("CaliprobeBlackHoleOpen", &labels)];
    assert_fires(
        &history,
        &[Firing { minute: FAULT + 2, alerts: &alerts }, Firing { minute: FAULT + 15, alerts: &[] }],
    );
}

#[test]
fn a_session_that_is_down_fires_only_where_pods_send_there() {
    let mut history = History::mesh(&NODES);
    history.session(1, 2, Some(0));
    history.session(3, 4, Some(0));
    history.pair(3, 4, Rate::steady(0), Rate::steady(0));
    let labels =
        [("instance", format!("{}:10475", address(1))), ("node", "node-1".to_owned()), ("peer", address(2))];
    let alerts = [Alert { name: "CaliprobeBgpDownWithTraffic", severity: "warning", labels: &labels }];
    assert_fires(&history, &[Firing { minute: FAULT + 10, alerts: &alerts }]);
}

#[test]
fn a_peer_whose_sessions_are_all_down_is_one_alert() {
    let mut history = History::mesh(&NODES);
    for node in [1, 3, 4, 5] {
        history.session(node, 2, Some(0));
    }
    let labels = [("peer", address(2))];
    let alerts = [critical("CaliprobeBgpPeerDown", &labels)];
    assert_fires(&history, &[Firing { minute: FAULT + 10, alerts: &alerts }]);
}

/// Every alert of the rules is fired by some test above: its name stands in this file.
#[test]
fn no_alert_is_without_a_test() {
    let rules = fs::read_to_string(RULES).unwrap();
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 8);
    for alert in alerts {
        assert!(include_str!("rules.rs").contains(&format!("\"{alert}\"")), "{alert}");
    }
}
