//! Network namespaces: whose a veth's peer is, and work done inside one.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use bytes::BufMut as _;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sched::{CloneFlags, setns};

use super::raw_netlink::{RawNetlink, attribute, put_attribute};

/// `RTM_GETNSID`, linux/rtnetlink.h.
const RTM_GETNSID: u16 = 90;
/// `NETNSA_NSID` and `NETNSA_FD`, `linux/net_namespace.h`.
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// `struct rtgenmsg`, padded.
const GENERIC_HEADER: [u8; 4] = [0; 4];

/// An open network namespace.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
    /// Identifies it on this machine.
    pub inode: u64,
    pub path: PathBuf,
}

impl NetworkNamespace {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode, path: path.to_owned() })
    }

    /// The namespace of the calling thread.
    pub fn own() -> anyhow::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
            .context("cannot open this process's network namespace")
    }

    /// Finds the namespace that has this identity here (`IFLA_LINK_NETNSID`) among the named ones and those of
    /// all processes. `Ok(None)` where none has it.
    pub fn find_by_id(root: &Path, id: i32) -> anyhow::Result<Option<Self>> {
        Self::find_map(root, |found, namespace| (found == id).then_some(namespace))
    }

    /// Looks at each namespace that has an identity here, once, until something is found. An error where nothing
    /// was, and some could not be looked at.
    pub fn find_map<T>(
        root: &Path,
        mut look: impl FnMut(i32, Self) -> Option<T>,
    ) -> anyhow::Result<Option<T>> {
        let netlink = RawNetlink::open(NETLINK_ROUTE)?;
        let mut seen = BTreeSet::new();
        let mut denied = None;
        for path in candidates(root) {
            let namespace = match Self::open(&path) {
                Ok(namespace) => namespace,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    denied = Some(anyhow!("cannot look into {} (CAP_SYS_PTRACE)", path.display()));
                    continue;
                }
                Err(_) => continue,
            };
            if seen.insert(namespace.inode)
                && let Some(id) = namespace.id(&netlink)?
                && let Some(found) = look(id, namespace)
            {
                return Ok(Some(found));
            }
        }
        denied.map_or(Ok(None), Err)
    }

    /// The inodes of the network namespaces that processes are in; `None` where not every process can be looked at.
    pub fn inhabited(root: &Path) -> Option<BTreeSet<u64>> {
        let mut inodes = BTreeSet::new();
        for path in of_processes(root) {
            match fs::metadata(&path) {
                Ok(metadata) => {
                    inodes.insert(metadata.ino());
                }
                // It has ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return None,
            }
        }
        Some(inodes)
    }

    /// This namespace's identity as seen from the socket's own; `None` where it has none.
    fn id(&self, netlink: &RawNetlink) -> anyhow::Result<Option<i32>> {
        let mut request = GENERIC_HEADER.to_vec();
        let mut value = Vec::new();
        value.put_i32_ne(self.file.as_raw_fd());
        put_attribute(&mut request, NETNSA_FD, &value)?;
        let answers = match netlink.request(RTM_GETNSID, 0, &request) {
            Ok(answers) => answers,
            // The file is no network namespace.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
            Err(error) => return Err(error).context("cannot ask for a namespace's identity"),
        };
        let id = answers.iter().find_map(|answer| {
            let value = attribute(answer.payload.get(GENERIC_HEADER.len()..)?, NETNSA_NSID)?;
            Some(i32::from_ne_bytes(*value.first_chunk()?))
        });
        Ok(id.filter(|id| *id >= 0))
    }

    /// Runs something on a thread of its own inside this namespace. Sockets that it opens stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("cannot enter {} (CAP_SYS_ADMIN)", self.path.display()))?;
                Ok(work())
            });
            thread.join().map_err(|_| anyhow!("the work inside {} ended by a panic", self.path.display()))?
        })
    }
}

/// Everywhere that a network namespace may be found.
fn candidates(root: &Path) -> impl Iterator<Item = PathBuf> {
    let named = ["run/netns", "var/run/netns", "run/docker/netns"]
        .into_iter()
        .flat_map(move |folder| entries(&root.join(folder)));
    named.chain(of_processes(root))
}

fn of_processes(root: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let is_number = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes = entries(&root.join("proc")).filter(move |path| path.file_name().is_some_and(is_number));
    processes.map(|path| path.join("ns/net"))
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
