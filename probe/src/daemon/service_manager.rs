//! What systemd is told of a service of `Type=notify` (`sd_notify(3)`): nothing where nobody asked by `NOTIFY_SOCKET`.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Where to tell it.
pub(super) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl ServiceManager {
    pub(super) fn of_environment() -> Self {
        let socket = env::var("NOTIFY_SOCKET").ok().and_then(|path| match open(&path) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("cannot tell systemd anything at {path}: {error}");
                None
            }
        });
        Self { socket }
    }

    /// Every device is covered.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// One more reading; the text is what `systemctl status` shows.
    pub(super) fn alive(&self, status: &str) {
        self.tell(&format!("WATCHDOG=1\nSTATUS={}", status.replace('\n', " ")));
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// A manager that is away misses nothing that it could use.
    fn tell(&self, message: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::debug!("systemd was not told {message}: {error}");
        }
    }
}

fn open(path: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let told = ServiceManager { socket: Some(open(path.to_str().unwrap()).unwrap()) };
        told.ready();
        told.alive("2 open\nblack holes");
        let mut heard = [0; 100];
        let length = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
        let length = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"WATCHDOG=1\nSTATUS=2 open black holes");
    }
}
