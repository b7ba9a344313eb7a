//! `caliprobe cluster`, with a real Prometheus whose history holds what the rules record.

use std::{fmt::Write as _, process::Command};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    node,
    server::{Node, Server},
};

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn cluster(url: String) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
    command.args(["cluster", "-o", "json", "--prometheus", &url]);
    // The nodes are served by this thread meanwhile.
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// One sample of each series, as if recorded just now.
fn recorded(series: &[(&str, f64)]) -> String {
    let now = Timestamp::now().as_second() - 1;
    let mut text = String::new();
    for (series, value) in series {
        let _ = writeln!(text, "{series} {value} {now}");
    }
    text + "# EOF\n"
}

#[tokio::test]
async fn a_lossy_pair_is_shown_and_makes_exit_code_one() {
    let pair = "{source=\"172.30.10.186\",destination=\"172.30.10.187\"}";
    let mut history = Vec::new();
    let names =
        ["186", "187"].map(|number| format!("{{node=\"paas-{number}\",address=\"172.30.10.{number}\"}}"));
    let series: Vec<String> = names
        .iter()
        .flat_map(|labels| {
            ["caliprobe:node_name", "caliprobe:node_judged"].map(|name| format!("{name}{labels}"))
        })
        .collect();
    history.extend(series.iter().map(|series| (series.as_str(), 1.0)));
    let (loss, sent) =
        (format!("caliprobe:pair_loss:ratio5m{pair}"), format!("caliprobe:pair_sent:increase5m{pair}"));
    history.extend([(loss.as_str(), 1.0), (sent.as_str(), 1200.0)]);
    let Some(server) = Server::start(&[], Some(&recorded(&history))).await.unwrap() else { return };
    let said = cluster(server.api.to_string()).await;
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(document["verdict"], "problems");
    assert_eq!(document["pairs"][0]["source_node"], "paas-186");
    assert_eq!(document["pairs"][0]["destination_node"], "paas-187");
    assert_eq!(document["pairs"][0]["sent"], 1200);
}

#[tokio::test]
async fn a_prometheus_without_nodes_or_without_rules_is_told_with_what_to_do() {
    let Some(server) = Server::start(&[], None).await.unwrap() else { return };
    let said = cluster(server.api.to_string()).await;
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("has no metrics of caliprobe"), "{}", said.stderr);
    drop(server);

    let nodes = [Node::serve(node::state(186, &[(187, 7, 5)])).unwrap()];
    let Some(server) = Server::start_without_rules(&nodes).await.unwrap() else { return };
    server.wait_for("caliprobe_node_info").await.unwrap();
    let said = cluster(server.api.to_string()).await;
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("caliprobe.rules.yml"), "{}", said.stderr);
}
