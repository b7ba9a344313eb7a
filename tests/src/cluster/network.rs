//! Links, addresses and routes of the cluster, as text for `ip -batch`; and the sysctls of its interfaces.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::topology::{NODES, Node, POD_MTU, Pod, Variant};

/// The switch of the first subnet and the router to the second. Run in the router's network, where the
/// nodes' namespaces have names.
pub fn underlay() -> String {
    let mut batch = "link set lo up\n\
        link add lan type bridge\n\
        link set lan up\n\
        address add 172.30.10.254/24 dev lan\n"
        .to_owned();
    for node in &NODES {
        let Node { name, number, .. } = node;
        let _ = writeln!(
            batch,
            "link add {name} type veth peer name eth0 address 00:50:56:81:47:{number:02x} netns {name}"
        );
        if node.shares_subnet_with(&NODES[0]) {
            let _ = writeln!(batch, "link set {name} master lan");
        } else {
            let _ = writeln!(batch, "address add {}/24 dev {name}", node.gateway);
        }
        let _ = writeln!(batch, "link set {name} up");
    }
    batch
}

/// A node's own network: the NIC, Docker's idle bridge as in the article's table, `tunl0` and its pods' links.
pub fn node(node: &Node, variant: Variant) -> String {
    let Node { address, gateway, block, tunnel_address, .. } = node;
    let protocol = variant.protocol();
    let mut batch = format!(
        "link set lo up\n\
        address add {address}/24 brd + dev eth0\n\
        link set eth0 up\n\
        route add default via {gateway} dev eth0\n\
        link add docker0 address 02:42:75:de:e3:41 type bridge\n\
        address add 172.17.0.1/16 brd + dev docker0\n\
        link set docker0 up\n\
        link set tunl0 mtu {POD_MTU} up\n\
        address add {tunnel_address}/32 dev tunl0\n"
    );
    if !variant.has_daemons() {
        let _ = writeln!(batch, "route add blackhole {block} proto {protocol}");
        for other in node.others() {
            let _ = writeln!(batch, "route add {}", block_route(node, other, variant));
        }
    }
    for pod in &node.pods {
        let _ = writeln!(
            batch,
            "link add {interface} address ee:ee:ee:ee:ee:ee mtu {POD_MTU} type veth \
             peer name eth0 mtu {POD_MTU} netns {binding}\n\
             link set {interface} up",
            interface = pod.interface(),
            binding = pod.namespace_binding(),
        );
    }
    batch
}

/// The route from one node to another node's block.
fn block_route(from: &Node, to: &Node, variant: Variant) -> String {
    let (block, next_hop, protocol) = (to.block, to.address, variant.protocol());
    if variant.tunnels(from, to) {
        let suffix = variant.tunnel_route_suffix();
        format!("{block} via {next_hop} dev tunl0 proto {protocol} {suffix}")
    } else {
        format!("{block} via {next_hop} dev eth0 proto {protocol}")
    }
}

/// The routes to a node's own pods, which the CNI plug-in adds when the pod's end is up.
pub fn pod_routes(node: &Node, variant: Variant) -> String {
    let suffix = variant.pod_route_suffix();
    node.pods.iter().fold(String::new(), |mut batch, pod| {
        let _ = writeln!(batch, "route add {} dev {} scope link{suffix}", pod.address, pod.interface());
        batch
    })
}

/// The pod's side. The gateway's hardware address is not given: the node answers for it by proxy ARP.
pub fn pod(pod: &Pod) -> String {
    format!(
        "link set lo up\n\
        link set eth0 up\n\
        route add 169.254.1.1 dev eth0 scope link\n\
        route add default via 169.254.1.1 dev eth0\n\
        address add {}/32 dev eth0\n",
        pod.address
    )
}

/// Turns the calling thread's machine into one that forwards, with loose reverse-path filters as systemd
/// sets them. Run before its links are made, which inherit the default.
pub fn forward() -> Result<()> {
    for (key, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "2")] {
        set(key, value)?;
    }
    Ok(())
}

/// What the kernel made together with the namespace does not inherit the default.
pub fn filter_tunnel() -> Result<()> {
    set("conf/tunl0/rp_filter", "2")
}

/// The settings of a pod's interface, in the order of Calico's CNI plug-in: `dataplane_linux.go`.
pub fn serve_pod(pod: &Pod) -> Result<()> {
    let interface = pod.interface();
    for (key, value) in [
        ("conf/INTERFACE/route_localnet", "1"),
        ("neigh/INTERFACE/proxy_delay", "0"),
        ("conf/INTERFACE/proxy_arp", "1"),
        ("conf/INTERFACE/forwarding", "1"),
    ] {
        set(&key.replace("INTERFACE", &interface), value)?;
    }
    Ok(())
}

fn set(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/{key}");
    std::fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
}
