//! What tells the filters of a living probe from those that a killed one left: each instance holds an abstract
//! unix socket, named by the handle of its filters, in the network namespace of its filters.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use anyhow::{Context as _, bail};

/// The names of our programs begin so, and of their filters.
pub const PROGRAM_PREFIX: &str = "caliprobe_";
/// How often a free handle is sought.
const ATTEMPTS: u32 = 16;

/// A running probe that attaches filters.
#[derive(Debug)]
pub struct Instance {
    handle: u32,
    _socket: UnixDatagram,
}

impl Instance {
    pub fn new() -> anyhow::Result<Self> {
        for _ in 0..ATTEMPTS {
            let handle = rand::random_range(1..=i32::MAX.cast_unsigned());
            match bind(handle) {
                Ok(socket) => return Ok(Self { handle, _socket: socket }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error).context("cannot open the socket of this instance"),
            }
        }
        bail!("no free name for this instance")
    }

    /// The handle of all its filters.
    pub fn handle(&self) -> u32 {
        self.handle
    }
}

/// Whether an instance lives. A name that cannot be tried counts as living: nothing of it is touched then.
pub fn lives(handle: u32) -> bool {
    bind(handle).is_err()
}

fn bind(handle: u32) -> io::Result<UnixDatagram> {
    let name = format!("caliprobe-{handle:08x}");
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_lives_as_long_as_it_is_held() {
        let instance = Instance::new().unwrap();
        let handle = instance.handle();
        assert!(lives(handle));
        drop(instance);
        assert!(!lives(handle));
    }
}
