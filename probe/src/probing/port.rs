//! Probes of one port: ordinary TCP handshakes and datagrams, as the sender's own kernel makes them, each from a
//! source port of its own.
//!
//! A handshake begins with a sequence number that marks it, ends with a reset as soon as it is accepted, and is
//! abandoned when its socket is closed: no connection stays behind.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, getsockopt,
        recv, send, socket, sockopt::SocketError,
    },
};
use probe_common::trace::initial_sequence;
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    answer::{Answer, Answered, Answers},
    marks::{Cookie, ProbeNumber, mark},
    options,
};
use crate::observation::Traffic;

/// Attempts to find a source port that no other sender of this diagnosis has.
const ATTEMPTS: usize = 64;

/// Sockets that were opened in the namespace of the sender; they stay there whoever uses them.
pub struct PortSockets {
    traffic: Traffic,
    sockets: Vec<(u16, OwnedFd)>,
}

impl PortSockets {
    /// Opens so many in the network namespace of the calling thread. `source` is the address to send from; without
    /// it the kernel chooses. No socket gets a port of `taken`.
    pub fn open(
        traffic: Traffic,
        source: Option<Ipv4Addr>,
        count: usize,
        taken: &BTreeSet<u16>,
    ) -> anyhow::Result<Self> {
        let mut sockets = Vec::with_capacity(count);
        // Sockets whose port is taken keep it until the others have one.
        let mut aside = Vec::new();
        while sockets.len() < count && aside.len() < ATTEMPTS {
            let (port, socket) = open(traffic, source)?;
            if taken.contains(&port) { aside.push(socket) } else { sockets.push((port, socket)) }
        }
        Ok(Self { traffic, sockets })
    }

    /// The source ports, in the order in which they will be used.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.sockets.iter().map(|(port, _)| *port)
    }

    pub fn with_cookie(self, cookie: Cookie) -> PortSender {
        PortSender { traffic: self.traffic, cookie, sockets: self.sockets.into_iter() }
    }
}

fn open(traffic: Traffic, source: Option<Ipv4Addr>) -> anyhow::Result<(u16, OwnedFd)> {
    let kind = if matches!(traffic, Traffic::Udp(_)) { SockType::Datagram } else { SockType::Stream };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, kind, flags, None).context("cannot open a socket")?;
    let address = source.unwrap_or(Ipv4Addr::UNSPECIFIED);
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0)))
        .with_context(|| format!("cannot send from {address}"))?;
    let bound: SockaddrIn = getsockname(socket.as_raw_fd()).context("cannot read the source port")?;
    Ok((bound.port(), socket))
}

/// Sends probes to one port.
pub struct PortSender {
    traffic: Traffic,
    cookie: Cookie,
    sockets: std::vec::IntoIter<(u16, OwnedFd)>,
}

/// A probe that was sent, and where its answer will come.
pub struct Sent {
    pub source_port: u16,
    pub answers: Answers,
}

impl PortSender {
    /// How many more it can send.
    pub fn left(&self) -> usize {
        self.sockets.len()
    }

    /// Sends one probe. The error is the sender's own kernel's, and no packet exists then.
    pub fn send(&mut self, target: Ipv4Addr, number: ProbeNumber) -> Result<Sent, Errno> {
        let (source_port, socket) = self.sockets.next().ok_or(Errno::EMFILE)?;
        let port = self.traffic.port().ok_or(Errno::EINVAL)?;
        let address = SockaddrIn::from(SocketAddrV4::new(target, port));
        let interest = match self.traffic {
            Traffic::Udp(_) => {
                connect(socket.as_raw_fd(), &address)?;
                send(socket.as_raw_fd(), &mark(self.cookie, number), MsgFlags::empty())?;
                // A refusal is an error of the socket, and nothing to read.
                Interest::READABLE | Interest::ERROR
            }
            Traffic::Tcp(_) | Traffic::Echo => {
                let sequence = u8::try_from(number.sequence).map_err(|_| Errno::EOVERFLOW)?;
                options::leave_nothing(&socket).map_err(|error| errno(&error))?;
                options::begin_with_sequence(&socket, initial_sequence(self.cookie.0, number.flow, sequence))
                    .map_err(|error| errno(&error))?;
                match connect(socket.as_raw_fd(), &address) {
                    Ok(()) | Err(Errno::EINPROGRESS) => Interest::WRITABLE,
                    Err(error) => return Err(error),
                }
            }
        };
        let answer = stream::once(wait(socket, interest, number));
        Ok(Sent { source_port, answers: answer.boxed() })
    }
}

fn errno(error: &anyhow::Error) -> Errno {
    let os = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    os.map_or(Errno::UnknownErrno, Errno::from_raw)
}

async fn wait(socket: OwnedFd, interest: Interest, number: ProbeNumber) -> io::Result<Answer> {
    // SAFETY: AsyncFd owns the descriptor and drops its registration before it closes it.
    let socket = unsafe { AsyncFd::register_with_interest(socket, interest) }?;
    let ended =
        socket.async_io(
            interest,
            |socket| if interest.is_readable() { received(socket) } else { connected(socket) },
        );
    let what = match ended.await {
        Ok(()) => Answered::Reply,
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNREFUSED) => Answered::Refused,
            Some(errno) => Answered::Failed(errno),
            None => return Err(error),
        },
    };
    Ok(Answer { number, what })
}

/// Any datagram is an answer, whatever it says.
fn received(socket: &OwnedFd) -> io::Result<()> {
    Ok(recv(socket.as_raw_fd(), &mut [0; 1], MsgFlags::empty()).map(drop)?)
}

fn connected(socket: &OwnedFd) -> io::Result<()> {
    match getsockopt(socket, SocketError)? {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}
