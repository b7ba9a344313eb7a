//! How many packets for pods leave bare by the default route while a clean-up goes on: what a lost block route costs
//! where another route takes its packets. Counted by packet sockets that keep nothing.

use std::{
    mem,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, ensure};
use ipnet::Ipv4Net;

use crate::{
    model::{
        Model,
        rows::{self, Role, Tables},
    },
    sources::packet_socket,
};

/// Instructions jump over at most so many others.
const MOST_POOLS: usize = 64;
/// `SKF_AD_OFF` and what follows it, `SKF_NET_OFF` (`linux/filter.h`).
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const PROTOCOL: u32 = 0xffff_f000;
const NETWORK_HEADER: u32 = 0xfff0_0000;
/// Of the destination in an IPv4 header.
const DESTINATION: u32 = NETWORK_HEADER + 16;
/// `PACKET_OUTGOING`, `ETH_P_IP`.
const OUTGOING: u32 = 4;
const IPV4: u32 = 0x0800;
/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_ALU | BPF_AND | BPF_K`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// It counts from when it was made.
#[derive(Debug)]
pub struct BarePackets {
    sockets: Vec<OwnedFd>,
    sum: u64,
}

impl BarePackets {
    /// Fails where packets to pods leave bare by law, and where sockets cannot be had.
    pub fn count(model: &Model<'_>) -> anyhow::Result<Self> {
        ensure!(
            model.remote_blocks().iter().all(|block| block.tunnelled),
            "some blocks are reached without encapsulation"
        );
        let (rows, _) = rows::read(model, Tables::Main);
        let defaults = rows.iter().filter(|row| row.role == Role::DefaultRoute);
        let mut links: Vec<u32> =
            defaults.flat_map(|row| &row.route.hops).filter_map(|hop| hop.link).collect();
        links.sort_unstable();
        links.dedup();
        let pools: Vec<Ipv4Net> = model.pools.iter().map(|pool| pool.cidr).take(MOST_POOLS).collect();
        let sockets = links.into_iter().map(|link| tap(link, &pools)).collect::<anyhow::Result<_>>()?;
        Ok(Self { sockets, sum: 0 })
    }

    /// Until now.
    pub fn so_far(&mut self) -> u64 {
        self.sum += self.sockets.iter().map(|socket| since_asked(socket).unwrap_or(0)).sum::<u64>();
        self.sum
    }
}

fn tap(link: u32, pools: &[Ipv4Net]) -> anyhow::Result<OwnedFd> {
    let socket = packet_socket::open()?;
    let mut program = program(pools);
    let filter = libc::sock_fprog { len: u16::try_from(program.len())?, filter: program.as_mut_ptr() };
    let length = libc::socklen_t::try_from(size_of_val(&filter))?;
    // SAFETY: the kernel copies the program, whose length is given, before the call returns.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            length,
        )
    };
    nix::errno::Errno::result(outcome).context("the kernel refuses a socket's filter")?;
    packet_socket::bind_to_link(&socket, link)?;
    Ok(socket)
}

/// Accepts outgoing IPv4 packets to one of the networks, and of these a byte.
fn program(networks: &[Ipv4Net]) -> Vec<libc::sock_filter> {
    let does = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // How far a jump from here to the two last instructions is, refusal before acceptance.
    let networks_length = 3 * networks.len();
    let length = 4 + networks_length + 2;
    let jump = |from: usize, to: usize| u8::try_from(to - from - 1).unwrap_or(u8::MAX);
    let (refuse, accept) = (length - 2, length - 1);
    let unless = |at: usize, k| libc::sock_filter { code: IF_EQUAL, jt: 0, jf: jump(at, refuse), k };
    let mut program =
        vec![does(LOAD, PACKET_TYPE), unless(1, OUTGOING), does(LOAD, PROTOCOL), unless(3, IPV4)];
    for network in networks {
        program.push(does(LOAD, DESTINATION));
        program.push(does(AND, network.netmask().to_bits()));
        let at = program.len();
        let found =
            libc::sock_filter { code: IF_EQUAL, jt: jump(at, accept), jf: 0, k: network.network().to_bits() };
        program.push(found);
    }
    program.extend([does(RETURN, 0), does(RETURN, 1)]);
    program
}

/// Packets that passed the filter since the call before, those without room among them (`PACKET_STATISTICS`).
fn since_asked(socket: &OwnedFd) -> Option<u64> {
    // SAFETY: all zeros is a value of this structure of two numbers.
    let mut statistics: libc::tpacket_stats = unsafe { mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&statistics)).ok()?;
    // SAFETY: the kernel writes at most the given length of a structure that outlives the call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    (outcome == 0).then(|| u64::from(statistics.tp_packets))
}
