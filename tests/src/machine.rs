//! A machine of the lab: a set of Linux namespaces with a process that keeps them alive.
//!
//! A node has its own network, mounts, host name and processes. A pod shares its node's mounts and
//! processes. Whatever runs on a machine ends when the machine is dropped.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Child, Command},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, sethostname},
};

/// Folders that every node has for itself; the rest of the file system is shared by all.
const OWN_FOLDERS: [&str; 5] = ["/run", "/etc/cni", "/var/lib/calico", "/var/lib/cni", "/var/log"];

/// What `ip netns exec` would hide: file systems below `/sys` that a probe may need.
const BELOW_SYS: [(&str, &str); 3] =
    [("bpf", "/sys/fs/bpf"), ("tracefs", "/sys/kernel/tracing"), ("cgroup2", "/sys/fs/cgroup")];

/// Where `ip` looks for namespaces by name.
const NAMES: &str = "/run/netns";

#[derive(Debug)]
pub struct Machine {
    name: String,
    namespaces: Namespaces,
    _resident: Resident,
}

impl Machine {
    /// A machine with everything of its own: a node, or the router between nodes.
    pub fn boot(name: &str) -> Result<Self> {
        let resident = on_a_thread(|| {
            unshare(
                CloneFlags::CLONE_NEWNS
                    | CloneFlags::CLONE_NEWNET
                    | CloneFlags::CLONE_NEWUTS
                    | CloneFlags::CLONE_NEWPID,
            )?;
            sethostname(name)?;
            give_own_mounts()?;
            Resident::fork(c"init", || mount_quietly(c"proc", c"/proc", c"proc", MsFlags::empty()))
        })
        .with_context(|| format!("cannot make namespaces for {name}"))?;
        Self::kept_by(name, resident)
    }

    /// A pod on this node: a network and a host name of its own. Its network namespace is bound to
    /// `/run/netns/BINDING` on the node, as a container runtime does.
    pub fn boot_pod(&self, name: &str, binding: &str) -> Result<Self> {
        let path = Path::new(NAMES).join(binding);
        let resident = self
            .run(|| {
                std::fs::create_dir_all(NAMES)?;
                File::create(&path)?;
                unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)?;
                sethostname(name)?;
                let path = CString::new(path.to_string_lossy().as_bytes())?;
                Resident::fork(c"pause", || {
                    mount_quietly(c"/proc/self/ns/net", &path, c"none", MsFlags::MS_BIND)
                })
            })
            .with_context(|| format!("cannot make namespaces for pod {name}"))?;
        Self::kept_by(name, resident)
    }

    fn kept_by(name: &str, resident: Resident) -> Result<Self> {
        let namespaces = Namespaces::of(resident.process.as_raw())?;
        std::fs::create_dir_all(NAMES)?;
        let link = Path::new(NAMES).join(name);
        std::os::unix::fs::symlink(format!("/proc/{}/ns/net", resident.process), &link)
            .with_context(|| format!("cannot make {}: is another lab running?", link.display()))?;
        Ok(Self { name: name.to_owned(), namespaces, _resident: resident })
    }

    /// Runs `work` on a thread that has entered the machine; processes that it starts are the machine's.
    /// It cannot start threads, because a thread cannot be of another PID namespace than its process.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            self.namespaces.enter().with_context(|| format!("cannot enter {}", self.name))?;
            work()
        })
        .with_context(|| format!("on {}", self.name))
    }

    /// Runs `work` with the machine's network, and the lab's own files and processes.
    pub fn run_in_network<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            setns(&*self.namespaces.network, CloneFlags::CLONE_NEWNET)?;
            work()
        })
        .with_context(|| format!("in the network of {}", self.name))
    }

    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.run(|| {
            command
                .spawn()
                .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may be gone already; the next lab says so if it is in its way.
        let _ = std::fs::remove_file(Path::new(NAMES).join(&self.name));
    }
}

/// Open handles of a process' namespaces.
#[derive(Clone, Debug)]
struct Namespaces {
    network: Arc<OwnedFd>,
    mounts: Arc<OwnedFd>,
    host_name: Arc<OwnedFd>,
    processes: Arc<OwnedFd>,
}

impl Namespaces {
    fn of(process: libc::pid_t) -> Result<Self> {
        let open = |kind| {
            let path = format!("/proc/{process}/ns/{kind}");
            File::open(&path).map(|file| Arc::new(file.into())).with_context(|| path)
        };
        Ok(Self {
            network: open("net")?,
            mounts: open("mnt")?,
            host_name: open("uts")?,
            processes: open("pid")?,
        })
    }

    /// Moves the calling thread in, and the processes that it starts.
    fn enter(&self) -> Result<()> {
        // A thread that shares its working directory with others may not change its mounts.
        unshare(CloneFlags::CLONE_FS)?;
        setns(&*self.processes, CloneFlags::CLONE_NEWPID)?;
        setns(&*self.network, CloneFlags::CLONE_NEWNET)?;
        setns(&*self.host_name, CloneFlags::CLONE_NEWUTS)?;
        setns(&*self.mounts, CloneFlags::CLONE_NEWNS)?;
        Ok(())
    }
}

/// A process without a program that ends as soon as this value is dropped, or as the lab ends in any way.
#[derive(Debug)]
struct Resident {
    process: Pid,
    /// The process reads from the other end and ends when this end closes.
    lifeline: Option<UnixStream>,
}

impl Resident {
    /// `prepare` runs in the new process, where only system calls are allowed: no allocation, no locks.
    fn fork(name: &CStr, prepare: impl FnOnce() -> nix::Result<()>) -> Result<Self> {
        let (mut ours, theirs) = UnixStream::pair()?;
        // SAFETY: the child makes system calls only, until it ends by `_exit`.
        let process = match unsafe { fork() }? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                // SAFETY: as above.
                unsafe { reside(theirs.as_raw_fd(), name, prepare) }
            }
        };
        drop(theirs);
        let resident = |ours| Self { process, lifeline: Some(ours) };
        let mut answer = [0; 4];
        let answered = ours.read_exact(&mut answer);
        let resident = resident(ours);
        answered.context("the new process died at once")?;
        let code = i32::from_ne_bytes(answer);
        ensure!(code == 0, "the new process could not be prepared: {}", Errno::from_raw(code));
        Ok(resident)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The kernel has ended every process of the namespace before its first one can be reaped.
        let _ = waitpid(self.process, None);
    }
}

/// The life of a resident process: prepares, says how that went, and waits for the end of the lifeline.
///
/// # Safety
/// To be called in a child of a forked process with several threads: nothing here may allocate or lock.
unsafe fn reside(lifeline: libc::c_int, name: &CStr, prepare: impl FnOnce() -> nix::Result<()>) -> ! {
    let code = prepare().err().map_or(0, |errno| errno as i32);
    let answer = code.to_ne_bytes();
    let mut byte = 0_u8;
    // SAFETY: system calls with valid pointers; closing the inherited descriptors harms nobody, because
    // this process never returns to code that owns them.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        // Orphans of the namespace are reaped by the kernel.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::dup2(lifeline, 0);
        libc::close_range(1, libc::c_uint::MAX, 0);
        libc::write(0, answer.as_ptr().cast(), answer.len());
        while libc::read(0, (&raw mut byte).cast(), 1) > 0 {}
        libc::_exit(0)
    }
}

/// A mount whose arguments are ready-made, as a forked child needs it.
fn mount_quietly(source: &CStr, target: &CStr, kind: &CStr, flags: MsFlags) -> nix::Result<()> {
    mount(Some(source), target, Some(kind), flags, None::<&CStr>)
}

/// Takes the calling thread's new mount namespace apart from the lab's.
fn give_own_mounts() -> Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).context("mount /sys")?;
    for (kind, target) in BELOW_SYS {
        if Path::new(target).is_dir() {
            // A kernel without one of them is a kernel that caliprobe has to cope with.
            let _ = mount(Some(kind), target, Some(kind), MsFlags::empty(), none);
        }
    }
    for folder in OWN_FOLDERS {
        std::fs::create_dir_all(folder).with_context(|| folder)?;
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .with_context(|| format!("mount {folder}"))?;
    }
    Ok(())
}

/// Runs `work` on a thread of its own, so that the namespaces that it enters stay its own.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Starts a program on the current thread's machine, feeds it `input`, and fails with what it said.
pub fn feed(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let written = child.stdin.take().context("no standard input")?.write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    written.with_context(|| format!("cannot write to {program}"))
}
