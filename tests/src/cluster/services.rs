//! Kubernetes Services as kube-proxy writes them in its iptables mode: one Service for each pod, on port 80
//! of its address and on a port of every node, 30000 + the node's number, + 1000 for the node's second pod.

use data_encoding::BASE32;
use sha2::{Digest as _, Sha256};

use super::{
    rules::{Chain, Table},
    topology::{NAMESPACE, NODES, POOL, service_address},
};

/// The port that every pod serves, and that its Service has.
pub const PORT: u16 = 80;

const MASQUERADE_MARK: &str = "0x4000/0x4000";

/// kube-proxy's rules in one of the kernel's own chains.
pub fn hooks(table: Table, name: &str) -> Vec<String> {
    let rules: &[&str] = match (table, name) {
        (Table::Nat, "PREROUTING" | "OUTPUT") => {
            &["-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"]
        }
        (Table::Nat, "POSTROUTING") => {
            &["-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING"]
        }
        (Table::Filter, "FORWARD") => {
            &["-m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD"]
        }
        _ => &[],
    };
    rules.iter().map(|rule| (*rule).to_owned()).collect()
}

/// kube-proxy's own chains.
pub fn chains() -> Vec<Chain> {
    let services: Vec<Service> = services();
    let mut chains = vec![
        chain(
            Table::Filter,
            "KUBE-FORWARD",
            vec![
                "-m conntrack --ctstate INVALID -j DROP".to_owned(),
                format!(
                    "-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {MASQUERADE_MARK} \
                     -j ACCEPT"
                ),
                "-m comment --comment \"kubernetes forwarding conntrack rule\" \
                 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
                    .to_owned(),
            ],
        ),
        chain(
            Table::Nat,
            "KUBE-MARK-MASQ",
            vec![format!("-j MARK --set-xmark {MASQUERADE_MARK}")],
        ),
        chain(
            Table::Nat,
            "KUBE-POSTROUTING",
            vec![
                format!("-m mark ! --mark {MASQUERADE_MARK} -j RETURN"),
                "-j MARK --set-xmark 0x4000/0x0".to_owned(),
                "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully"
                    .to_owned(),
            ],
        ),
        chain(Table::Nat, "KUBE-SERVICES", portals(&services)),
        chain(
            Table::Nat,
            "KUBE-NODEPORTS",
            services
                .iter()
                .map(|service| {
                    format!(
                        "-p tcp -m comment --comment {} -m tcp --dport {} -j {}",
                        service.name, service.node_port, service.external_chain
                    )
                })
                .collect(),
        ),
    ];
    chains.extend(services.iter().flat_map(Service::chains));
    chains
}

fn chain(table: Table, name: &str, rules: Vec<String>) -> Chain {
    Chain { table, name: name.to_owned(), rules }
}

fn portals(services: &[Service]) -> Vec<String> {
    let mut rules: Vec<String> = services
        .iter()
        .map(|service| {
            format!(
                "-d {}/32 -p tcp -m comment --comment \"{} cluster IP\" -m tcp --dport {PORT} -j {}",
                service.address, service.name, service.chain
            )
        })
        .collect();
    rules.push(
        "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" \
         -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
            .to_owned(),
    );
    rules
}

/// A Service with one endpoint.
struct Service {
    /// `namespace/name:port`, as it stands in comments.
    name: String,
    address: std::net::Ipv4Addr,
    node_port: u16,
    endpoint: std::net::Ipv4Addr,
    chain: String,
    external_chain: String,
    endpoint_chain: String,
}

fn services() -> Vec<Service> {
    let mut services = Vec::new();
    for node in &NODES {
        for ((index, pod), base) in node.pods.iter().enumerate().zip([30_000, 31_000]) {
            let name = format!("{NAMESPACE}/{}:http", pod.name);
            let key = format!("{name}tcp");
            services.push(Service {
                address: service_address(node, index),
                node_port: base + u16::from(node.number),
                endpoint: pod.address,
                chain: format!("KUBE-SVC-{}", hash(&key)),
                external_chain: format!("KUBE-EXT-{}", hash(&key)),
                endpoint_chain: format!("KUBE-SEP-{}", hash(&format!("{key}{}:{PORT}", pod.address))),
                name,
            });
        }
    }
    services
}

/// kube-proxy's way to fit long names into a chain's name.
fn hash(key: &str) -> String {
    BASE32.encode(&Sha256::digest(key))[..16].to_owned()
}

impl Service {
    fn chains(&self) -> [Chain; 3] {
        let Self { name, address, endpoint, .. } = self;
        [
            chain(
                Table::Nat,
                &self.external_chain,
                vec![
                    format!(
                        "-m comment --comment \"masquerade traffic for {name} external destinations\" \
                         -j KUBE-MARK-MASQ"
                    ),
                    format!("-j {}", self.chain),
                ],
            ),
            chain(
                Table::Nat,
                &self.chain,
                vec![
                    format!(
                        "! -s {POOL} -d {address}/32 -p tcp -m comment --comment \"{name} cluster IP\" \
                         -m tcp --dport {PORT} -j KUBE-MARK-MASQ"
                    ),
                    format!(
                        "-m comment --comment \"{name} -> {endpoint}:{PORT}\" -j {}",
                        self.endpoint_chain
                    ),
                ],
            ),
            chain(
                Table::Nat,
                &self.endpoint_chain,
                vec![
                    format!("-s {endpoint}/32 -m comment --comment {name} -j KUBE-MARK-MASQ"),
                    format!(
                        "-p tcp -m comment --comment {name} -m tcp -j DNAT --to-destination {endpoint}:{PORT}"
                    ),
                ],
            ),
        ]
    }
}
