//! The same on a real kernel: a node and its pods as network namespaces, with `tunl0` played by a veth.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use serde_json::Value;

const NODE: [&str; 12] = [
    "link add eth0 type veth peer name wire",
    "link set wire up",
    "link set eth0 up",
    "link set lo up",
    "address add 172.30.10.188/24 dev eth0",
    "route add default via 172.30.10.254 dev eth0",
    "link add tunl0 type veth peer name tunnel",
    "link set tunnel up",
    "link set tunl0 up",
    "route add blackhole 10.200.55.192/26 proto bird",
    "route add 10.200.153.64/26 via 172.30.10.187 dev tunl0 onlink proto bird",
    "route add 10.200.168.128/26 via 172.30.51.95 dev tunl0 onlink proto 80 metric 1024",
];

/// Network namespaces that vanish with this.
struct Namespaces(Vec<String>);

impl Namespaces {
    /// `None`, said loudly, where they cannot be made.
    fn new(test: &str, names: &[&str]) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root can make network namespaces");
            return None;
        }
        let mut namespaces = Self(Vec::new());
        for name in names {
            let name = format!("routes-{}-{test}-{name}", std::process::id());
            ip(&format!("netns add {name}"));
            namespaces.0.push(name);
        }
        Some(namespaces)
    }

    fn ip(&self, namespace: usize, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.0[namespace]))
    }

    /// A pod behind a device of the node.
    fn add_pod(&self, pod: usize, device: &str, address: &str) {
        let name = &self.0[pod];
        self.ip(0, &format!("link add {device} type veth peer name eth0 netns {name}"));
        self.ip(0, &format!("link set {device} up"));
        self.ip(pod, "link set eth0 up");
        self.ip(pod, &format!("address add {address}/32 dev eth0"));
        self.ip(0, &format!("route add {address} dev {device} scope link"));
    }

    fn routes(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.0[0], env!("CARGO_BIN_EXE_caliprobe"), "routes"])
            .args(arguments);
        command.env_remove("CALIPROBE_OUTPUT").output().expect("ip starts")
    }

    fn document(&self) -> Value {
        let output = self.routes(&["-o", "json", "--all-tables"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Destination, device and metric of each row, as `ip` or as caliprobe names them.
fn rows(list: &Value, destination: &str, device: &str) -> BTreeSet<(String, String, u64)> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows = list.as_array().expect("a list");
    rows.iter()
        .map(|row| {
            let destination = text(row.get(destination)).replace("0.0.0.0/0", "default");
            let destination = destination.trim_end_matches("/32").to_owned();
            let metric = row.get("metric").and_then(Value::as_u64).unwrap_or_default();
            (destination, text(row.pointer(device)), metric)
        })
        .collect()
}

fn faults(document: &Value) -> Vec<String> {
    super::strings(&document["findings"], &["/cause", "/subject/value"])
}

#[test]
fn rows_and_faults_are_those_of_the_kernel() {
    let Some(namespaces) = Namespaces::new("rows", &["node", "web", "db"]) else { return };
    for line in NODE {
        namespaces.ip(0, line);
    }
    namespaces.add_pod(1, "calia45f40cd54e", "10.200.55.237");
    namespaces.add_pod(2, "cali6acd5ed56a0", "10.200.55.239");
    namespaces.ip(0, "route add 192.0.2.0/24 via 172.30.10.253 dev eth0 table 100");

    let document = namespaces.document();
    let by_ip = namespaces.ip(0, "-4 -j route show table all");
    let by_ip: Value = serde_json::from_str(&by_ip).expect("JSON");
    let mut by_ip = by_ip.as_array().expect("a list").clone();
    by_ip.retain(|row| row["table"] != "local");
    let expected = rows(&Value::Array(by_ip), "dst", "/dev");
    assert_eq!(rows(&document["routes"], "destination", "/next_hops/0/device"), expected);
    assert_eq!(faults(&document), Vec::<String>::new());

    namespaces.ip(0, "route del 10.200.55.237");
    assert_eq!(faults(&namespaces.document()), ["pod-route-missing 10.200.55.237/32"]);

    namespaces.ip(0, "route add 10.200.55.237 dev cali6acd5ed56a0 scope link");
    assert_eq!(faults(&namespaces.document()), ["stale-pod-route 10.200.55.237/32"]);

    namespaces.ip(0, "route replace 10.200.55.237 dev calia45f40cd54e scope link");
    namespaces.ip(1, "link set eth0 down");
    assert_eq!(faults(&namespaces.document()), ["pod-link-down calia45f40cd54e"]);

    namespaces.ip(1, "link set eth0 up");
    namespaces.ip(0, "link set tunl0 down");
    namespaces.ip(0, "address add 10.200.55.192/32 dev tunl0");
    assert_eq!(faults(&namespaces.document()), ["tunnel-down tunl0"]);
}

#[test]
fn packets_of_a_pod_are_counted_for_its_row() {
    let Some(namespaces) = Namespaces::new("counts", &["node", "web"]) else { return };
    namespaces.ip(0, "link set lo up");
    namespaces.add_pod(1, "calia45f40cd54e", "10.200.55.237");
    namespaces.ip(1, "route add default dev eth0");
    namespaces.ip(0, "address add 169.254.1.1/32 dev calia45f40cd54e");
    let before = namespaces.document();
    let pinged = Command::new("ip")
        .args(["netns", "exec", &namespaces.0[0], "ping", "-q", "-c", "5", "-i", "0.01", "10.200.55.237"])
        .output()
        .expect("ping starts");
    assert!(pinged.status.success(), "{}", String::from_utf8_lossy(&pinged.stdout));
    let after = namespaces.document();
    for (way, field) in [("in", "packets_in"), ("out", "packets_out")] {
        let count = |document: &Value| {
            let rows = document["routes"].as_array().expect("rows");
            let row =
                rows.iter().find(|row| row["destination"] == "10.200.55.237/32").expect("the pod's row");
            row["traffic"][field].as_u64().expect("a count")
        };
        // Beside the echoes there may be ARP and the kernel's own IPv6.
        let rise = count(&after) - count(&before);
        assert!((5..25).contains(&rise), "{rise} packets {way}");
    }
}
