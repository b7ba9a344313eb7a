//! The addresses that something on this node uses right now: the ends of its TCP connections, the addresses that its
//! sockets are bound to, and the API server. A clean-up that cut one of them off could not be called back.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::Path,
};

use anyhow::{Context as _, ensure};

use super::super::{caller, files::read_text};
use crate::sample::Lifeline;

/// More than a node has sockets.
const MOST_SOCKETS: usize = 1 << 20;
const MOST_ADDRESSES: usize = 1 << 16;
/// `TCP_ESTABLISHED` as `/proc/net/tcp` writes it.
const ESTABLISHED: &str = "01";
/// Where the node's own programs and Calico's plug-in read whom to ask.
const KUBECONFIG_FOLDERS: [&str; 2] = ["etc/kubernetes", "etc/cni/net.d"];
const KUBECONFIGS: [&str; 2] = ["var/lib/kubelet/kubeconfig", "etc/rancher/k3s/k3s.yaml"];

pub fn read(root: &Path) -> anyhow::Result<Vec<Lifeline>> {
    let mut addresses: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
    for address in api_servers(root) {
        addresses.insert(address, "the API server".to_owned());
    }
    if let Some(peer) = caller::read() {
        addresses.entry(peer).or_insert_with(|| "the other end of this SSH session".to_owned());
    }
    for protocol in ["tcp", "tcp6", "udp", "udp6"] {
        let path = root.join("proc/net").join(protocol);
        if !protocol.ends_with('6') || path.exists() {
            sockets(&path, protocol.starts_with("tcp"), &mut addresses)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
        ensure!(addresses.len() <= MOST_ADDRESSES, "more than {MOST_ADDRESSES} addresses are in use");
    }
    let used = addresses.into_iter().filter(|(address, _)| !address.is_loopback());
    Ok(used.map(|(address, what)| Lifeline { address, what }).collect())
}

fn sockets(path: &Path, is_tcp: bool, addresses: &mut BTreeMap<Ipv4Addr, String>) -> anyhow::Result<()> {
    for line in BufReader::new(File::open(path)?).lines().skip(1).take(MOST_SOCKETS) {
        let Some(socket) = socket(&line?) else { continue };
        if let Some((address, port)) = socket.remote
            && (!is_tcp || socket.state == ESTABLISHED)
        {
            let what = if is_tcp { "a TCP connection" } else { "a connected UDP socket" };
            addresses.entry(address).or_insert_with(|| format!("the other end of {what} (port {port})"));
        }
        if let Some((address, port)) = socket.local {
            addresses
                .entry(address)
                .or_insert_with(|| format!("an address that a program here uses (port {port})"));
        }
    }
    Ok(())
}

struct Socket {
    local: Option<(Ipv4Addr, u16)>,
    remote: Option<(Ipv4Addr, u16)>,
    state: String,
}

/// One line of `/proc/net/tcp` and its like (`get_tcp4_sock`); addresses that are not set are left out.
fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (end(words.next()?)?, end(words.next()?)?);
    let set =
        |end: (Option<Ipv4Addr>, u16)| Some((end.0.filter(|address| !address.is_unspecified())?, end.1));
    Some(Socket { local: set(local), remote: set(remote), state: words.next()?.to_owned() })
}

/// Words of 32 bits in host byte order, then the port; IPv6 addresses that stand for IPv4 ones are those.
fn end(word: &str) -> Option<(Option<Ipv4Addr>, u16)> {
    let (address, port) = word.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let bits_at = |place: usize| u32::from_str_radix(address.get(place * 8..place * 8 + 8)?, 16).ok();
    let address = match address.len() {
        8 => Some(bits_at(0)?),
        32 => {
            let is_mapped =
                bits_at(0)? == 0 && bits_at(1)? == 0 && bits_at(2)?.to_ne_bytes() == [0, 0, 0xFF, 0xFF];
            bits_at(3).filter(|_| is_mapped)
        }
        _ => return None,
    };
    Some((address.map(|bits| Ipv4Addr::from(bits.to_ne_bytes())), port))
}

/// By kubeconfigs, where they name an address; a name's address shows by the connection to it.
fn api_servers(root: &Path) -> Vec<Ipv4Addr> {
    let in_folders = KUBECONFIG_FOLDERS
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).into_iter().flatten().flatten())
        .map(|entry| entry.path());
    let files = in_folders.take(100).chain(KUBECONFIGS.iter().map(|file| root.join(file)));
    let hosts = read_text(&root.join("etc/hosts")).unwrap_or_default();
    let texts = files.filter_map(|file| read_text(&file).ok());
    let mut servers: Vec<Ipv4Addr> = texts.flat_map(|text| servers(&text, &hosts)).collect();
    // In a pod.
    let service = std::env::var("KUBERNETES_SERVICE_HOST").unwrap_or_default();
    servers.extend(service.parse::<Ipv4Addr>());
    servers
}

fn servers(text: &str, hosts: &str) -> Vec<Ipv4Addr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("server:"));
    lines
        .filter_map(|url| {
            let url = url.trim().trim_matches(['"', '\'']);
            let host = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', ':']).next()?;
            host.parse().ok().or_else(|| named(host, hosts))
        })
        .collect()
}

/// What `/etc/hosts` says of a name.
fn named(host: &str, hosts: &str) -> Option<Ipv4Addr> {
    hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name == host).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sockets_are_read_as_the_kernel_writes_them() {
        let hex = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let (own, peer) = (hex([172, 30, 10, 188]), hex([172, 30, 10, 1]));
        let line = format!("   0: {own}:0016 {peer}:C350 01 00000000:00000000 02:000A 00000000 0 0 1 2");
        let read = socket(&line).unwrap();
        assert_eq!(read.local, Some((Ipv4Addr::new(172, 30, 10, 188), 22)));
        assert_eq!(read.remote, Some((Ipv4Addr::new(172, 30, 10, 1), 50000)));
        let prefix = format!("0000000000000000{}", hex([0, 0, 0xFF, 0xFF]));
        let mapped = format!("0: {prefix}{own}:0016 {prefix}{peer}:C350 01 0");
        assert_eq!(socket(&mapped).unwrap().remote, read.remote);
        let listening = socket("0: 00000000:1F90 00000000:0000 0A 0").unwrap();
        assert!(listening.local.is_none() && listening.remote.is_none());
    }

    #[test]
    fn the_api_server_is_told_by_address_or_by_a_name_of_the_hosts_file() {
        let hosts = "127.0.0.1 localhost\n172.30.10.5 api.lab api   # ours\n";
        let of = |url: &str| servers(&format!("clusters:\n- cluster:\n    server: {url}\n"), hosts);
        assert_eq!(of("https://172.30.10.9:6443"), [Ipv4Addr::new(172, 30, 10, 9)]);
        assert_eq!(of("\"https://api.lab:6443/x\""), [Ipv4Addr::new(172, 30, 10, 5)]);
        assert!(of("https://elsewhere:6443").is_empty());
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in "\\PC{0,120}", hex in "[0-9A-F:]{0,50}") {
            let _ = (socket(&line), end(&hex), servers(&line, &hex), named(&hex, &line));
        }
    }
}
