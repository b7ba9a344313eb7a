//! What Calico's fork of BIRD adds to BIRD 1.6: routes of pods' blocks lead through `tunl0`.
//!
//! Preloaded into Debian's BIRD, it sits where the fork's change sits, between BIRD and netlink
//! (projectcalico/bird `sysdep/linux/netlink.c`, `krt_tunnel`). To the kernel a route goes by `tunl0`, onlink, to
//! the BGP next hop; to BIRD it is the route by the NIC that it knows, as `show route` of the fork says too.
//! BIRD's configuration names the tunnelled routes: its filter sets `krt_prefsrc` to the BGP next hop, an
//! attribute that Calico does not use.

mod route;

use std::{
    collections::HashMap,
    ffi::CStr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use route::{Destination, NextHop};

const TUNNEL: &CStr = c"tunl0";

/// The next hops as BIRD gave them, of the routes that were sent through the tunnel.
static KNOWN_TO_BIRD: Mutex<Option<HashMap<Destination, NextHop>>> = Mutex::new(None);

fn known_to_bird() -> MutexGuard<'static, Option<HashMap<Destination, NextHop>>> {
    KNOWN_TO_BIRD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tunnel's index. Without a tunnel a route is left to the NIC, as the fork does.
fn tunnel() -> Option<u32> {
    // SAFETY: the name is a C string.
    let index = unsafe { libc::if_nametoindex(TUNNEL.as_ptr()) };
    (index != 0).then_some(index)
}

/// In the place of libc's function of this name.
///
/// # Safety
/// As sendto(2): `buffer` is valid for `length` bytes, `address` for `address_length`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    socket: libc::c_int,
    buffer: *const libc::c_void,
    length: libc::size_t,
    flags: libc::c_int,
    address: *const libc::sockaddr,
    address_length: libc::socklen_t,
) -> libc::ssize_t {
    // SAFETY: the caller's promise.
    let netlink = unsafe { is_netlink(address, address_length) };
    let sent = netlink
        .then(|| {
            // SAFETY: the caller's promise.
            let message = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) };
            route::through_tunnel(message, tunnel())
        })
        .flatten();
    let Some(sent) = sent else {
        // SAFETY: the caller's own arguments.
        return unsafe { call_sendto(socket, buffer, length, flags, address, address_length) };
    };
    known_to_bird().get_or_insert_default().insert(sent.destination, sent.next_hop);
    let message = &sent.message;
    // SAFETY: the caller's own arguments, but for a message of ours.
    let written = unsafe {
        call_sendto(socket, message.as_ptr().cast(), message.len(), flags, address, address_length)
    };
    if written < 0 { written } else { length.cast_signed() }
}

/// In the place of libc's function of this name.
///
/// # Safety
/// As recvmsg(2): `header` and all that it points to are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmsg(
    socket: libc::c_int,
    header: *mut libc::msghdr,
    flags: libc::c_int,
) -> libc::ssize_t {
    // SAFETY: the caller's own arguments.
    let read = returned(unsafe { libc::syscall(libc::SYS_recvmsg, socket, header, flags) });
    // SAFETY: the caller's promise, and the kernel has filled it in where it read anything.
    let header = unsafe { &*header };
    // SAFETY: as above.
    let netlink = read > 0 && unsafe { is_netlink(header.msg_name.cast(), header.msg_namelen) };
    if netlink
        && header.msg_iovlen > 0
        && let Some(tunnel) = tunnel()
    {
        // SAFETY: there is at least one buffer, and it is the caller's to be written to.
        let buffer = unsafe {
            let buffer = &*header.msg_iov;
            let filled = buffer.iov_len.min(usize::try_from(read).unwrap_or_default());
            std::slice::from_raw_parts_mut(buffer.iov_base.cast::<u8>(), filled)
        };
        route::as_bird_knows_them(buffer, tunnel, known_to_bird().get_or_insert_default());
    }
    read
}

/// # Safety
/// As sendto(2).
unsafe fn call_sendto(
    socket: libc::c_int,
    buffer: *const libc::c_void,
    length: libc::size_t,
    flags: libc::c_int,
    address: *const libc::sockaddr,
    address_length: libc::socklen_t,
) -> libc::ssize_t {
    // SAFETY: the caller's promise; the arguments are those of the system call.
    returned(unsafe {
        libc::syscall(libc::SYS_sendto, socket, buffer, length, flags, address, address_length)
    })
}

/// The two types are of the same size wherever the lab runs.
fn returned(value: libc::c_long) -> libc::ssize_t {
    value.try_into().unwrap_or(-1)
}

/// # Safety
/// `address` is valid for `length` bytes.
unsafe fn is_netlink(address: *const libc::sockaddr, length: libc::socklen_t) -> bool {
    let whole = usize::try_from(length).is_ok_and(|length| length >= size_of::<libc::sockaddr_nl>());
    // SAFETY: it is long enough to have a family.
    !address.is_null() && whole && i32::from(unsafe { (*address).sa_family }) == libc::AF_NETLINK
}
