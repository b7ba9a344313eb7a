//! Who says while somebody watches that an address is his: the senders of ARP requests. Nothing is asked, because an
//! answer could move this node's own neighbour entries.
//!
//! A machine with two NICs on one segment answers on both, and a router may answer for others; only who has an address
//! sends requests from it.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::socket::{LinkAddr, bind, recvfrom};
use tokio::io::{Interest, unix::AsyncFd};

use super::packet_socket;
use crate::sample::{ArpClaim, ArpWatch};

/// Of more only the first are remembered.
const MOST_CLAIMS: usize = 10_000;
/// Ethernet hardware addresses and IPv4: RFC 826.
const LENGTH: usize = 28;
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];

type HardwareAddress = [u8; 6];

/// Listens on every device for a while.
pub async fn watch(duration: Duration) -> anyhow::Result<ArpWatch> {
    let socket = packet_socket::open()?;
    let every_device = packet_socket::link_address(0, u16::try_from(libc::ETH_P_ARP)?)?;
    bind(socket.as_raw_fd(), &every_device).context("cannot listen to ARP")?;
    // SAFETY: AsyncFd owns the socket, so its descriptor stays open as long as it is registered.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
        .context("cannot wait on a packet socket")?;
    let mut claims = Claims::default();
    let deadline = tokio::time::sleep(duration);
    tokio::pin!(deadline);
    while claims.list.len() < MOST_CLAIMS {
        let (link, packet) = tokio::select! {
            () = &mut deadline => break,
            received = receive(&socket) => received.context("cannot listen to ARP any more")?,
        };
        if let Some((address, hardware_address)) = parse(&packet) {
            claims.enter(link, address, hardware_address);
        }
    }
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ok(ArpWatch { milliseconds, claims: claims.list })
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<(u32, Vec<u8>)> {
    let mut buffer = [0; LENGTH];
    let (length, address) = socket
        .async_io(Interest::READABLE, |socket| Ok(recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?))
        .await?;
    let link = address.and_then(|address| u32::try_from(address.ifindex()).ok()).unwrap_or_default();
    Ok((link, buffer[..length.min(LENGTH)].to_vec()))
}

/// The sender of a request; a machine that only asks whether an address is free has none yet (RFC 5227).
fn parse(packet: &[u8]) -> Option<(Ipv4Addr, HardwareAddress)> {
    let (kinds, rest) = packet.split_first_chunk::<6>()?;
    let (operation, rest) = rest.split_first_chunk::<2>()?;
    let (hardware_address, rest) = rest.split_first_chunk::<6>()?;
    let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    let is_claim = *kinds == ETHERNET_IPV4 && *operation == REQUEST && !address.is_unspecified();
    is_claim.then_some((address, *hardware_address))
}

/// Claims in their order, each once as long as nobody else has come between.
#[derive(Default)]
struct Claims {
    list: Vec<ArpClaim>,
    last: HashMap<(u32, Ipv4Addr), HardwareAddress>,
}

impl Claims {
    fn enter(&mut self, link: u32, address: Ipv4Addr, hardware_address: HardwareAddress) {
        if self.last.insert((link, address), hardware_address) == Some(hardware_address) {
            return;
        }
        let words: Vec<String> = hardware_address.iter().map(|byte| format!("{byte:02x}")).collect();
        self.list.push(ArpClaim { link, address, hardware_address: words.join(":") });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);

    fn packet(operation: u8, sender: Ipv4Addr) -> Vec<u8> {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation, 0, 0x50, 0x56, 0x81, 0x47, 0xbb];
        packet.extend(sender.octets());
        packet.resize(LENGTH, 0);
        packet
    }

    #[test]
    fn only_who_asks_from_an_address_claims_it() {
        assert_eq!(parse(&packet(1, NODE)), Some((NODE, [0, 0x50, 0x56, 0x81, 0x47, 0xbb])));
        assert_eq!(parse(&packet(2, NODE)), None);
        assert_eq!(parse(&packet(1, Ipv4Addr::UNSPECIFIED)), None);
        assert_eq!(parse(&packet(1, NODE)[..17]), None);
    }

    #[test]
    fn a_claim_that_is_repeated_is_there_once() {
        let mut claims = Claims::default();
        for last in [1, 1, 2, 2, 1] {
            claims.enter(3, NODE, [0, 0, 0, 0, 0, last]);
        }
        let heard: Vec<&str> = claims.list.iter().map(|claim| claim.hardware_address.as_str()).collect();
        assert_eq!(heard, ["00:00:00:00:00:01", "00:00:00:00:00:02", "00:00:00:00:00:01"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }
}
