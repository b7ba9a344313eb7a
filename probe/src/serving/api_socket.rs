//! The unix socket of the local API: for its owner and group alone, never taken from a living daemon, never in the
//! way of the next one.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::{
        fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::BACKLOG;

/// For owner and group.
const MODE: u32 = 0o660;

/// Removed when dropped.
#[derive(Debug)]
pub(super) struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Held as long as the socket is ours; the kernel lets go of it however this process ends.
    _lock: File,
}

impl ApiSocket {
    pub(super) fn bind(path: &Path) -> anyhow::Result<Self> {
        Self::try_bind(path).with_context(|| {
            format!(
                "cannot serve the local API at {}; choose another place with --api-socket, or --no-api",
                path.display()
            )
        })
    }

    fn try_bind(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let lock = lock(&with_suffix(path, ".lock"))?;
        refuse_living(path)?;
        // Under a name of its own until it is ready; then it takes the place of a stale one at once, so that no client
        // meets a path without a socket.
        let fresh = with_suffix(path, ".new");
        remove(&fresh)?;
        let socket = UnixSocket::new_stream()?;
        // The file is made with the mode of the socket without what the umask takes; that is given back then.
        fchmod(&socket, Mode::from_bits_truncate(MODE))?;
        socket.bind(&fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(MODE))?;
        let listener = socket.listen(BACKLOG)?;
        fs::rename(&fresh, path)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        // The lock is still held, so this is no other daemon's.
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = options.with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another caliprobe serves it"),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock it"),
    }
}

/// A socket is stale if nobody accepts connections there; anything else at its path is not ours to remove.
fn refuse_living(path: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        bail!("a file that is no socket is there");
    }
    match StdStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error).context("the socket that is there does not tell whether it is in use"),
        Ok(_) => bail!("another program serves it"),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
