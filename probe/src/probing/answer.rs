//! What came back to a probe's own socket.

use std::{io, net::Ipv4Addr};

use futures_util::stream::BoxStream;
use nix::errno::Errno;

use super::marks::ProbeNumber;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub number: ProbeNumber,
    pub what: Answered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// An echo reply, a connection, or a datagram.
    Reply,
    /// A reset, or ICMP port or protocol unreachable.
    Refused,
    /// The socket failed otherwise.
    Failed(Errno),
    /// An ICMP error that quotes the probe, with who sent it, and the MTU where it tells one.
    Error { from: Ipv4Addr, icmp_type: u8, code: u8, told_mtu: Option<u16> },
}

/// Answers as they come.
pub type Answers = BoxStream<'static, io::Result<Answer>>;
