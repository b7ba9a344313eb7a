//! Addresses that a node is registered by at times, and that no other node reaches it by.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Where Docker takes the networks of its bridges from by default, 16 bits each, the first address for the bridge.
const DOCKER: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12);
/// Shared address space of providers (RFC 6598).
const SHARED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
/// Addresses that every machine with such a program has alike.
const DEFAULTS: [(Ipv4Addr, &str); 4] = [
    (Ipv4Addr::new(192, 168, 122, 1), "what libvirt gives its bridge"),
    (Ipv4Addr::new(10, 0, 3, 1), "what LXC gives its bridge"),
    (Ipv4Addr::new(10, 88, 0, 1), "what Podman gives its bridge"),
    (Ipv4Addr::new(10, 0, 2, 15), "what VirtualBox gives every machine behind its NAT"),
];

/// Whose address it is by default, on any machine; `None` where it may well be a node's.
pub fn of_any_machine(address: Ipv4Addr) -> Option<&'static str> {
    let [_, second, third, fourth] = address.octets();
    if DOCKER.contains(&address) && second >= 17 && third == 0 && fourth == 1 {
        return Some("what Docker gives its bridges");
    }
    DEFAULTS.iter().find(|(default, _)| *default == address).map(|(_, words)| *words)
}

pub fn is_public(address: Ipv4Addr) -> bool {
    !(address.is_private()
        || address.is_link_local()
        || address.is_loopback()
        || address.is_documentation()
        || SHARED.contains(&address)
        || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_told_from_addresses_of_nodes() {
        let whose = |text: &str| of_any_machine(text.parse().unwrap()).is_some();
        for address in ["172.17.0.1", "172.18.0.1", "172.31.0.1", "192.168.122.1", "10.0.2.15"] {
            assert!(whose(address), "{address}");
        }
        for address in ["172.16.0.1", "172.17.0.2", "172.18.1.1", "192.168.122.2", "10.0.0.1"] {
            assert!(!whose(address), "{address}");
        }
        assert!(is_public([47, 93, 161, 177].into()) && !is_public([100, 64, 0, 1].into()));
    }
}
