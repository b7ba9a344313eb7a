//! TCP handshakes, for targets that do not answer echo requests: a policy may deny ICMP alone.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
use tokio::{net::TcpSocket, time::timeout};

/// Ports that pods often serve.
pub const PORTS: [u16; 3] = [80, 443, 8080];
/// A refused or lost handshake would be repeated after a second.
const PATIENCE: Duration = Duration::from_millis(900);

/// A socket that was opened in the namespace of the sender; it stays there whoever uses it.
pub struct HandshakeSocket {
    stream: TcpStream,
}

impl HandshakeSocket {
    /// Opens it in the network namespace of the calling thread.
    pub fn open(source: Option<Ipv4Addr>) -> anyhow::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket =
            socket(AddressFamily::Inet, SockType::Stream, flags, None).context("cannot open a TCP socket")?;
        if let Some(address) = source {
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0)))
                .with_context(|| format!("cannot send from {address}"))?;
        }
        Ok(Self { stream: socket.into() })
    }

    /// Whether the target accepts a connection. A refusal proves nothing: a firewall's REJECT looks like it. The
    /// connection is closed at once, and nothing is sent over it.
    pub async fn is_accepted(self, target: Ipv4Addr, port: u16) -> bool {
        let address = SocketAddr::from((target, port));
        let connect = TcpSocket::from_std_stream(self.stream).connect(address);
        matches!(timeout(PATIENCE, connect).await, Ok(Ok(_)))
    }
}
