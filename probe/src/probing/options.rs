//! Options of the probes' sockets.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::Context as _;
use libc::{c_int, socklen_t};

/// `linux/tcp.h`
const TCP_REPAIR_ON: c_int = 1;
const TCP_REPAIR_OFF: c_int = 0;
const TCP_SEND_QUEUE: c_int = 2;

/// Its packets carry DF and are as large as they are asked to be, whatever MTU of the path was learned before.
pub fn never_fragment(socket: &OwnedFd) -> anyhow::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_PROBE)
        .context("cannot forbid fragments")
}

/// The connection that the socket will open begins with this number.
pub fn begin_with_sequence(socket: &OwnedFd, sequence: u32) -> anyhow::Result<()> {
    let set = |option, value| set(socket, libc::IPPROTO_TCP, option, &value);
    set(libc::TCP_REPAIR, TCP_REPAIR_ON)
        .and_then(|()| set(libc::TCP_REPAIR_QUEUE, TCP_SEND_QUEUE))
        .and_then(|()| set(libc::TCP_QUEUE_SEQ, sequence.cast_signed()))
        .and_then(|()| set(libc::TCP_REPAIR, TCP_REPAIR_OFF))
        .context("cannot choose a TCP sequence number (CAP_NET_ADMIN)")
}

/// Its SYN is repeated once at most, and its end resets what was opened: nothing stays half open or waits.
pub fn leave_nothing(socket: &OwnedFd) -> anyhow::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, &1)
        .and_then(|()| {
            set(socket, libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
        })
        .context("cannot set up a TCP socket")
}

fn set<T>(socket: &OwnedFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let length = socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer is to a value of the given length, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
