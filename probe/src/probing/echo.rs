//! A raw ICMP socket in one network namespace: the sender's end of the probes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, recv, sendto, socket,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    answer::{Answer, Answers},
    icmp::{self, TunnelError},
    marks::{Cookie, ProbeNumber},
    options,
};

/// What is read of an answer: two headers, an ICMP error, and what it quotes.
const LARGEST_ANSWER: usize = 2048;

/// A socket that was opened in the namespace of the sender; it stays there whoever uses it.
pub struct EchoSocket {
    socket: OwnedFd,
}

impl EchoSocket {
    /// Opens it in the network namespace of the calling thread. `source` is the address to send from; without
    /// it the kernel chooses, as it would for any program.
    pub fn open(source: Option<Ipv4Addr>) -> anyhow::Result<Self> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            SockProtocol::Icmp,
        )
        .context("cannot open a raw ICMP socket (CAP_NET_RAW)")?;
        options::never_fragment(&socket)?;
        if let Some(address) = source {
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0)))
                .with_context(|| format!("cannot send from {address}"))?;
        }
        Ok(Self { socket })
    }

    /// Hands the socket to the runtime that will wait for its answers.
    pub fn register(self, cookie: Cookie) -> anyhow::Result<EchoSender> {
        // SAFETY: AsyncFd owns the descriptor and drops its registration before it closes it.
        let socket = unsafe { AsyncFd::register_with_interest(self.socket, Interest::READABLE) }
            .context("cannot wait on the ICMP socket")?;
        Ok(EchoSender { socket: Arc::new(socket), cookie, identifier: rand::random() })
    }
}

/// What a raw ICMP socket hears that is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Answer(Answer),
    TunnelError(TunnelError),
}

/// Sends echo requests and receives what comes back for them.
#[derive(Clone)]
pub struct EchoSender {
    socket: Arc<AsyncFd<OwnedFd>>,
    cookie: Cookie,
    identifier: u16,
}

impl EchoSender {
    /// Sends one probe, of a size of its own or as large as `ping` makes them. The error is what the kernel's route
    /// look-up or OUTPUT chain said: for a packet of this namespace's own a blackhole is `EINVAL`, and no packet
    /// exists.
    pub fn send(&self, target: Ipv4Addr, number: ProbeNumber, size: Option<u16>) -> Result<(), Errno> {
        let packet = icmp::echo_request(self.cookie, number, self.identifier, size);
        let address = SockaddrIn::from(SocketAddrV4::new(target, 0));
        sendto(self.socket.as_raw_fd(), &packet, &address, MsgFlags::empty()).map(drop)
    }

    /// What comes back for all its probes.
    pub fn answers(&self) -> Answers {
        stream::unfold(self.clone(), async |sender| Some((sender.next_answer().await, sender))).boxed()
    }

    /// Waits for the next packet that answers a probe. Cancel safe.
    pub async fn next_answer(&self) -> io::Result<Answer> {
        loop {
            if let Heard::Answer(answer) = self.next_heard().await? {
                return Ok(answer);
            }
        }
    }

    /// The same, and errors for what others sent through the tunnel. Cancel safe.
    pub async fn next_heard(&self) -> io::Result<Heard> {
        let mut buffer = [0; LARGEST_ANSWER];
        loop {
            let length =
                self.socket.async_io(Interest::READABLE, |socket| receive(socket, &mut buffer)).await?;
            let packet = &buffer[..length];
            if let Some(answer) = icmp::read_answer(self.cookie, packet) {
                return Ok(Heard::Answer(answer));
            }
            if let Some(error) = icmp::read_tunnel_error(packet) {
                return Ok(Heard::TunnelError(error));
            }
        }
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?)
}
