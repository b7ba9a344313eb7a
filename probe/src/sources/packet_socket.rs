//! Packet sockets on one device. They see what comes in and what leaves, take nothing away, and vanish with
//! their descriptors.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockType, SockaddrLike as _, bind, socket},
};

/// A socket that receives nothing until it is bound, so that a filter can be attached before. It begins each
/// packet at its network header.
pub fn open() -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Packet, SockType::Datagram, flags, None)
        .context("cannot open a packet socket (CAP_NET_RAW)")
}

/// Binds it to a device, for every protocol: only then does it see what leaves. `false` where the device has
/// vanished.
pub fn bind_to_link(socket: &OwnedFd, link: u32) -> anyhow::Result<bool> {
    let address = link_address(link, u16::try_from(libc::ETH_P_ALL)?)?;
    match bind(socket.as_raw_fd(), &address) {
        Ok(()) => Ok(true),
        Err(Errno::ENODEV | Errno::ENXIO) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot tap device {link}")),
    }
}

/// The address of a device, for an Ethernet protocol in host byte order.
pub fn link_address(link: u32, protocol: u16) -> anyhow::Result<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: protocol.to_be(),
        sll_ifindex: link.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: the pointer is to a whole sockaddr_ll, whose size is given.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    address.context("the address of the device is refused")
}
