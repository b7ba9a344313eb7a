//! The address from which the person at this terminal is connected.

use std::{fs, net::Ipv4Addr, path::PathBuf};

/// `sudo` and the like take the variable away, their parents have it.
const MOST_PARENTS: usize = 10;
const VARIABLE: &str = "SSH_CONNECTION=";

/// The peer of the SSH connection in which this process runs; `None` where there is none, or where it is IPv6.
pub fn read() -> Option<Ipv4Addr> {
    let mut process = std::process::id();
    for _ in 0..MOST_PARENTS {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        if let Some(address) = connection(&environment) {
            return Some(address);
        }
        process = parent(&fs::read_to_string(folder.join("stat")).ok()?)?;
    }
    None
}

/// `SSH_CONNECTION` of an environment: the peer's address and port, then this machine's.
fn connection(environment: &[u8]) -> Option<Ipv4Addr> {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(VARIABLE.as_bytes()))?;
    std::str::from_utf8(value).ok()?.split(' ').next()?.parse().ok()
}

/// The fourth field of `/proc/PID/stat`; the second, a name in parentheses, may hold anything.
fn parent(stat: &str) -> Option<u32> {
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    (parent > 1).then_some(parent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_peer_of_a_connection_is_found() {
        let environment = b"HOME=/root\0SSH_CONNECTION=172.30.10.1 50000 172.30.10.188 22\0";
        assert_eq!(connection(environment), Some(Ipv4Addr::new(172, 30, 10, 1)));
        assert_eq!(connection(b"SSH_CONNECTION=fe80::1 50000 fe80::2 22\0"), None);
        assert_eq!(connection(b"HOME=/root\0"), None);
        assert_eq!(parent("77 (a) b) S 12 77 77 0"), Some(12));
        assert_eq!(parent("1 (init) S 0 1 1 0"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), text in "\\PC{0,60}") {
            let _ = (connection(&bytes), parent(&text));
        }
    }
}
