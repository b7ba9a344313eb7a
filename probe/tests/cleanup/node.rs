//! A node as a network namespace, with bridges that nothing uses, and what was planned for it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use caliprobe::{
    changing::run::{self, Applied, Boundary, Settings, Surroundings},
    model::Model,
    plan::{Action, FORMAT_VERSION, Plan, Step},
    report::document::{Subject, SubjectKind},
    sample::{Link, Route, Sample},
    sources::{self, GatherOptions, namespace::NetworkNamespace},
};
use serde_json::Value;
use tempfile::TempDir;

/// A node, with the block of another node and two networks of bridges without ports.
const NODE: &[&str] = &[
    "link set lo up",
    "link add eth0 type veth peer name wire",
    "link set eth0 addrgenmode none",
    "link set wire addrgenmode none",
    "link set wire up",
    "link set eth0 up",
    "address add 172.30.10.188/24 dev eth0",
    "route add default via 172.30.10.254 dev eth0",
    "link add tunl0 type veth peer name tunnel",
    "link set tunl0 addrgenmode none",
    "link set tunnel addrgenmode none",
    "link set tunnel up",
    "link set tunl0 up",
    "route add 10.200.153.64/26 via 172.30.10.187 dev tunl0 onlink proto bird",
    "link add br-1d6d3edc38f7 address 02:42:0a:00:00:01 mtu 1450 type bridge ageing_time 20000 mcast_snooping 0",
    "address add 172.18.0.1/16 broadcast 172.18.255.255 dev br-1d6d3edc38f7",
    "address add 172.18.0.2/16 dev br-1d6d3edc38f7",
    "link set br-1d6d3edc38f7 up",
    "link add br-1691e1aaa0bf address 02:42:0a:00:00:02 type bridge",
    "address add 172.19.0.1/16 dev br-1691e1aaa0bf",
    "address add fd00:19::1/64 dev br-1691e1aaa0bf nodad",
    "link set br-1691e1aaa0bf up",
    "route add fd00:77::/64 via fd00:19::9 dev br-1691e1aaa0bf",
    "route add 10.77.0.0/16 via 172.18.0.9 dev br-1d6d3edc38f7 proto static metric 50 tos 0x10 src 172.18.0.2 mtu 1400 advmss 1300",
    "route add 10.78.0.0/16 nexthop via 172.18.0.9 dev br-1d6d3edc38f7 weight 3 nexthop via 172.19.0.9 dev br-1691e1aaa0bf onlink",
    "nexthop add id 7 via 172.30.10.253 dev eth0",
    "route add 10.79.0.0/16 nhid 7 table 100",
    "route add blackhole 10.80.0.0/16 proto static",
];

pub const FIRST_BRIDGE: &str = "br-1d6d3edc38f7";
pub const SECOND_BRIDGE: &str = "br-1691e1aaa0bf";

/// It vanishes with this.
pub struct Node {
    name: String,
    /// The host's files.
    pub root: TempDir,
}

impl Node {
    /// `None`, said loudly, where it cannot be made.
    pub fn new(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root can make network namespaces");
            return None;
        }
        let name = format!("cleanup-{}-{test}", std::process::id());
        ip(&format!("netns add {name}"));
        let node = Self { name, root: tempfile::tempdir().expect("a folder") };
        for line in NODE {
            node.ip(line);
        }
        Some(node)
    }

    pub fn ip(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.name))
    }

    pub fn folder(&self) -> PathBuf {
        self.root.path().join("var/lib/caliprobe/cleanup")
    }

    /// A command that runs inside.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command.env_remove("CALIPROBE_OUTPUT").env_remove("SSH_CONNECTION");
        command
    }

    pub fn caliprobe(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_caliprobe"));
        command.arg("--root").arg(self.root.path()).args(["--pool", "10.200.0.0/16"]).args(arguments);
        command.output().expect("ip starts")
    }

    pub fn write_plan(&self, plan: &Plan) -> String {
        std::fs::write(self.plan_path(), serde_json::to_vec(plan).expect("JSON")).expect("a file");
        self.plan_path()
    }

    /// Where plans are written.
    pub fn plan_path(&self) -> String {
        self.root.path().join("plan.json").display().to_string()
    }

    /// Runs inside, on a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace =
            NetworkNamespace::open(&Path::new("/run/netns").join(&self.name)).expect("a namespace");
        namespace.enter(work).expect("the namespace is entered")
    }

    pub fn sample(&self) -> Sample {
        self.inside(|| block_on(look(self.root.path())))
    }

    /// Everything that a clean-up may touch, without what is new with every device.
    pub fn dump(&self) -> Value {
        let mut dump = serde_json::json!({
            "links": self.json("-d link show"),
            "addresses": self.json("address show"),
            "routes": self.json("-4 route show table all"),
            "ipv6 routes": self.json("-6 route show table all"),
            "next hops": self.json("nexthop show"),
        });
        forget(&mut dump);
        dump
    }

    /// Fails with the parts that differ. The kernel finds out a moment later that a new bridge has no carrier.
    pub fn ensure_is(&self, before: &Value) {
        let end = Instant::now() + Duration::from_secs(5);
        while self.dump() != *before && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_same(before, &self.dump());
    }

    fn json(&self, arguments: &str) -> Value {
        let mut value: Value = serde_json::from_str(&self.ip(&format!("-j {arguments}"))).unwrap_or_default();
        // A device that was made anew is the last.
        if let Some(list) = value.as_array_mut() {
            list.sort_by_key(|entry| {
                ["ifname", "dst", "dev", "table", "type"].map(|field| entry[field].to_string())
            });
        }
        value
    }

    /// Ten steps that take both bridges away, with all that leads to them.
    pub fn plan(&self) -> Plan {
        let sample = self.sample();
        let mut steps: Vec<Step> = ["10.77.0.0/16", "10.78.0.0/16", "10.79.0.0/16", "10.80.0.0/16"]
            .iter()
            .chain(&["172.18.0.0/16", "172.19.0.0/16"])
            .map(|destination| delete_route(&sample, destination))
            .collect();
        for name in [FIRST_BRIDGE, SECOND_BRIDGE] {
            let link = link(&sample, name);
            steps.push(step(Action::SetLinkDown { link: link.clone() }, name));
        }
        for name in [FIRST_BRIDGE, SECOND_BRIDGE] {
            let link = link(&sample, name);
            let addresses =
                sample.addresses.iter().filter(|address| address.link == link.index).cloned().collect();
            steps.push(step(Action::DeleteLink { link, addresses }, name));
        }
        plan_of(&sample, steps)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

pub fn plan_of(sample: &Sample, steps: Vec<Step>) -> Plan {
    Plan {
        format_version: FORMAT_VERSION,
        time: sample.time.clone(),
        node: Model::new(sample).node_name(),
        boot_id: sample.node.boot_id.clone(),
        network_namespace: sample.node.network_namespace,
        steps,
        kept: Vec::new(),
    }
}

pub fn delete_route(sample: &Sample, destination: &str) -> Step {
    let is_it = |route: &&Route| route.destination.to_string() == destination && route.table != 255;
    let route = sample.routes.iter().find(is_it).unwrap_or_else(|| panic!("no route to {destination}"));
    let device =
        |index: u32| sample.links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let devices = route.hops.iter().map(|hop| hop.link.and_then(device)).collect();
    step(Action::DeleteRoute { route: route.clone(), devices }, destination)
}

pub fn link(sample: &Sample, name: &str) -> Link {
    sample.links.iter().find(|link| link.name == name).expect(name).clone()
}

pub fn step(action: Action, value: &str) -> Step {
    let subject = Subject { kind: SubjectKind::Route, value: value.to_owned() };
    let command = format!("ip … {value}");
    let text = String::new;
    Step { action, subject, why: text(), proof: Vec::new(), risk: text(), command }
}

/// What `ip` prints that is of the device of today alone, or of the moment.
fn forget(value: &mut Value) {
    const MOMENTARY: &[&str] = &[
        "ifindex",
        "link_index",
        "stats",
        "stats64",
        "hello_timer",
        "tcn_timer",
        "topology_change_timer",
        "gc_timer",
        "expires",
        "valid_life_time",
        "preferred_life_time",
        "bridge_id",
        "root_id",
        "phys_port",
        // A bridge keeps what the least of its former ports could do.
        "tso_max_size",
    ];
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !MOMENTARY.contains(&name.as_str()));
            fields.values_mut().for_each(forget);
        }
        Value::Array(values) => values.iter_mut().for_each(forget),
        _ => {}
    }
}

pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

pub async fn look(root: &Path) -> Sample {
    let pools = vec!["10.200.0.0/16".parse().expect("a pool")];
    let options = GatherOptions { root: root.to_owned(), pools, facts: None };
    sources::gather(&options).await.expect("the node is read")
}

/// The node around a clean-up, with what a test does at each boundary.
pub struct Around<'a> {
    pub root: &'a Path,
    pub at: &'a mut (dyn FnMut(Boundary) + Send),
}

impl Surroundings for Around<'_> {
    async fn look(&mut self) -> anyhow::Result<Sample> {
        Ok(look(self.root).await)
    }

    fn at(&mut self, boundary: Boundary) {
        (self.at)(boundary);
    }
}

/// What there is to say of a clean-up but for what a test is about.
pub fn settings(folder: PathBuf) -> Settings {
    Settings {
        folder,
        settle: Duration::ZERO,
        include_irreversible: false,
        caller: None,
        confirmation: None,
        despite_refusals: false,
    }
}

/// Carries a plan out in the namespace of the calling thread.
pub fn apply(plan: &Plan, settings: Settings, mut around: Around<'_>) -> anyhow::Result<Applied> {
    block_on(async {
        let prepared = run::prepare(plan, &settings, &mut around).await?;
        run::apply(plan, prepared, settings, &mut around).await
    })
}

/// Fails with the parts that differ.
fn assert_same(before: &Value, after: &Value) {
    let parts = before.as_object().expect("parts");
    for (part, before) in parts {
        let (before, after) = (before.as_array().expect("a list"), after[part].as_array().expect("a list"));
        let missing: Vec<&Value> = before.iter().filter(|entry| !after.contains(entry)).collect();
        let new: Vec<&Value> = after.iter().filter(|entry| !before.contains(entry)).collect();
        assert!(missing.is_empty() && new.is_empty(), "{part}: missing {missing:?}, new {new:?}");
        // Their order tells which of several routes to one place is taken.
        assert_eq!(before, after, "{part}");
    }
}
