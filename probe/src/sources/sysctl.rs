//! The settings under `/proc/sys/net/ipv4` that decide over forwarding, of the calling thread's network
//! namespace.

use std::path::Path;

use super::files::read_text;
use crate::sample::{InterfaceSysctls, Sysctls};

/// Reads them for `all`, `default` and the named interfaces.
pub fn read<'a>(root: &Path, interfaces: impl Iterator<Item = &'a str>) -> Sysctls {
    let ipv4 = root.join("proc/sys/net/ipv4");
    let names = ["all", "default"].into_iter().chain(interfaces);
    Sysctls {
        ip_forward: number(&ipv4.join("ip_forward")).map(|value| value != 0),
        fib_multipath_hash_policy: number(&ipv4.join("fib_multipath_hash_policy")),
        interfaces: names.map(|name| (name.to_owned(), interface(&ipv4.join("conf").join(name)))).collect(),
    }
}

fn interface(folder: &Path) -> InterfaceSysctls {
    InterfaceSysctls {
        forwarding: number(&folder.join("forwarding")).map(|value| value != 0),
        rp_filter: number(&folder.join("rp_filter")),
        proxy_arp: number(&folder.join("proxy_arp")).map(|value| value != 0),
    }
}

fn number(path: &Path) -> Option<u8> {
    read_text(path).ok()?.trim().parse().ok()
}
