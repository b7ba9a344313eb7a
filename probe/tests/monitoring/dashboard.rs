//! Every query of the dashboard, asked of a Prometheus that scrapes nodes.

use std::fs;

use serde_json::Value;

use super::{
    node,
    server::{Node, Server},
};

const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana/caliprobe.json");

/// The expressions of all panels, with what Grafana puts in the place of its variables.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(DASHBOARD).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    expressions.map(|it| it.replace("$__rate_interval", "1m").replace("$node", ".*")).collect()
}

#[tokio::test]
async fn every_query_of_the_dashboard_runs_and_shows_something() {
    let nodes = [
        Node::serve(node::state(186, &[(187, 7, 5), (188, 1, 1)])).unwrap(),
        Node::serve(node::state(187, &[(186, 5, 7)])).unwrap(),
    ];
    let Some(server) = Server::start(&nodes, None).await.unwrap() else { return };
    // A rate needs two samples of each page, and the time that a page took is told by the next one.
    server
        .wait_for("min(count_over_time(caliprobe_scrape_duration_seconds{page=\"peers\"}[1m])) > 2")
        .await
        .unwrap();
    server.wait_for("caliprobe:node_name").await.unwrap();
    let expressions = expressions();
    assert!(expressions.len() > 20, "{expressions:?}");
    for expression in &expressions {
        let samples =
            server.api.query(expression).await.unwrap_or_else(|error| panic!("{expression}: {error:#}"));
        // Loss between nodes takes minutes of history to tell.
        let is_recorded = expression.contains("caliprobe:");
        assert!(is_recorded || !samples.is_empty(), "{expression} shows nothing");
    }
}
