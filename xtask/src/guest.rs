//! A virtual machine with another kernel and this machine's own files.
//!
//! Its root is the host's `/`, read-only by virtiofs, under a layer in the guest's memory: every tool and the
//! fresh build are there, and nothing that a guest does reaches the host. It runs one command and powers off.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{command, kernels::Kernel, tools};

mod initramfs;

const MEMORY_MIB: u32 = 2048;
/// Where the host's files are served, and what the server says.
const FILES_SOCKET: &str = "files.socket";
const FILES_LOG: &str = "files.log";
/// Lines of the guest's console that a failed run shows.
const CONSOLE_LINES: usize = 40;

/// A guest that has yet to be started.
pub struct Guest<'a> {
    pub kernel: &'a Kernel,
    /// From power-on; a guest that is still there then is taken down, and the run has failed.
    pub time_limit: Duration,
}

impl Guest<'_> {
    /// Runs the command in a fresh guest and returns its exit code. Its standard output goes to `stdout` as it
    /// comes, its standard error to ours. A crash of the kernel and a passed time limit are errors.
    pub fn run(&self, command: &[OsString], stdout: &mut (dyn Write + Send)) -> Result<i32> {
        if !command::is_root() {
            let mut running = Running::start(self.by_root(&[], command)?.stdout(Stdio::piped()))?;
            copy(running.child.stdout.take(), stdout)?;
            return exit_code_of_root(running.child.wait()?);
        }
        let machine = Machine::prepare(self.kernel, command)?;
        let mut qemu = machine.qemu(self.kernel);
        for name in ["stdout", "stderr"] {
            qemu.args(["-chardev", &format!("file,id={name},path=/dev/{name}")]);
            qemu.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
        }
        let mut running =
            Running::start(qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let (guest_stdout, guest_stderr) = (running.child.stdout.take(), running.child.stderr.take());
        let ended = thread::scope(|scope| {
            let copies = [
                scope.spawn(move || copy(guest_stdout, stdout)),
                scope.spawn(move || copy(guest_stderr, &mut io::stderr())),
            ];
            let ended = running.wait(self.time_limit);
            for copy in copies {
                copy.join().map_err(|_| io::Error::other("a copying thread panicked"))??;
            }
            ended
        });
        machine.exit_code(self.kernel, ended?)
    }

    /// Runs the command with this terminal as its own.
    pub fn run_on_terminal(&self, command: &[OsString]) -> Result<i32> {
        if !command::is_root() {
            return exit_code_of_root(self.by_root(&["--terminal"], command)?.status()?);
        }
        let machine = Machine::prepare(self.kernel, command)?;
        let mut qemu = machine.qemu(self.kernel);
        qemu.args(["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"]);
        let ended = Running::start(&mut qemu)?.wait(self.time_limit)?;
        machine.exit_code(self.kernel, ended)
    }

    /// This very program as root, who alone can serve all of the host's files to a guest.
    fn by_root(&self, options: &[&str], command: &[OsString]) -> Result<Command> {
        let mut root = command::as_root("env");
        let cache = tools::cache().map(|cache| ("CALIPROBE_CACHE", cache.into_os_string()));
        for (name, value) in environment()?.into_iter().chain(cache) {
            root.arg(joined(&format!("{name}="), value));
        }
        root.arg(env::current_exe()?).args(["guest", "--kernel", self.kernel.series.name()]);
        root.args(["--time-limit", &self.time_limit.as_secs().to_string()]).args(options);
        root.arg("--").args(command).stdin(Stdio::inherit());
        Ok(root)
    }
}

fn exit_code_of_root(status: ExitStatus) -> Result<i32> {
    status.code().with_context(|| format!("the guest was ended ({status})"))
}

/// Copies to the end. What `to` does not take is thrown away, so that the guest never waits for a reader.
fn copy(from: Option<impl Read>, to: &mut dyn Write) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = [0; 8192];
    let mut written = Ok(());
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return written;
        }
        if written.is_ok() {
            written = to.write_all(&buffer[..read]).and_then(|()| to.flush());
        }
    }
}

/// The files and the file server that one guest needs; both go with this value.
struct Machine {
    folder: tempfile::TempDir,
    _file_server: Running,
}

impl Machine {
    fn prepare(kernel: &Kernel, command: &[OsString]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("caliprobe-guest-").tempdir()?;
        let environment = environment()?;
        let here = env::current_dir().context("the current folder is gone")?;
        let start = initramfs::Start { folder: &here, environment: &environment, command };
        fs::write(folder.path().join("initramfs"), initramfs::initramfs(kernel, &start)?)?;
        let file_server = serve_root(folder.path())?;
        Ok(Self { folder, _file_server: file_server })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// QEMU with the kernel, its console and the port for the exit code; without the command's own channels.
    fn qemu(&self, kernel: &Kernel) -> Command {
        let mut qemu = tethered("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        // KVM is left alone: nested, it does not start every kernel. Without cmpxchg16b because QEMU 7.2's
        // emulation of it corrupts the slab allocator of kernels from 6.12 on. Its processors take turns, because a
        // jump label that one patches while another runs it ends in an int3 that the kernel does not expect: opening
        // a packet socket switches the one of time stamps (net/core/dev.c).
        qemu.args([
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "qemu64,-cx16",
            "-smp",
            "2",
            "-m",
            &format!("{MEMORY_MIB}M"),
        ]);
        qemu.args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on")]);
        qemu.args(["-numa", "node,memdev=memory"]);
        qemu.arg("-chardev").arg(joined("socket,id=host,path=", self.file(FILES_SOCKET)));
        qemu.args(["-device", "vhost-user-fs-pci,chardev=host,tag=host"]);
        qemu.arg("-kernel").arg(kernel.image());
        qemu.arg("-initrd").arg(self.file("initramfs"));
        // An oops is a panic and a panic a reboot, which ends QEMU: a crash is seen at once.
        qemu.args(["-append", "console=ttyS0 quiet oops=panic panic=-1"]);
        qemu.arg("-serial").arg(joined("file:", self.file("console")));
        qemu.args(["-device", "virtio-serial-pci"]);
        qemu.arg("-chardev").arg(joined("file,id=exit,path=", self.file("exit")));
        qemu.args(["-device", "virtserialport,chardev=exit,name=exit"]);
        qemu
    }

    fn exit_code(&self, kernel: &Kernel, ended: Ended) -> Result<i32> {
        let guest = format!("the guest with kernel {}", kernel.release);
        let what = match ended {
            Ended::ByItself(status) if !status.success() => {
                let files = self.text(FILES_LOG);
                bail!(
                    "{guest}: QEMU failed ({status}). The server of the host's files says:\n{}",
                    files.trim_end()
                );
            }
            Ended::ByItself(_) => match self.text("exit").trim().parse() {
                Ok(code) => return Ok(code),
                Err(_) => "ended before its command did".to_owned(),
            },
            Ended::AtTimeLimit(limit) => format!("was not done after {} s", limit.as_secs()),
        };
        bail!("{guest} {what}; its console:\n{}", excerpt(&self.text("console")))
    }

    /// What is in a file of this guest, if it has come to be.
    fn text(&self, name: &str) -> String {
        let content = fs::read(self.file(name)).unwrap_or_default();
        String::from_utf8_lossy(&content).into_owned()
    }
}

/// The console from the kernel's first complaint on, or else its end.
fn excerpt(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let crash = |line: &&str| {
        ["BUG: ", "Oops: ", "Kernel panic", "general protection"].iter().any(|sign| line.contains(sign))
    };
    let start = lines.iter().position(crash).unwrap_or(lines.len().saturating_sub(CONSOLE_LINES));
    lines[start..].iter().take(CONSOLE_LINES).copied().collect::<Vec<_>>().join("\n")
}

fn joined(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut joined = OsString::from(name);
    joined.push(value);
    joined
}

/// What a command in the guest finds in its environment: as on the host, but with the system's programs on PATH.
fn environment() -> Result<Vec<(&'static str, OsString)>> {
    let path = env::join_paths(command::search_path()).context("PATH has an odd folder")?;
    let mut environment = vec![("PATH", path)];
    for name in ["HOME", "TERM", "LANG", "NO_COLOR", "RUST_BACKTRACE", "RUST_LOG"] {
        environment.extend(env::var_os(name).map(|value| (name, value)));
    }
    Ok(environment)
}

/// Starts virtiofsd on the host's root, with a socket that can be connected to at once.
fn serve_root(folder: &Path) -> Result<Running> {
    let program = find_virtiofsd().context("virtiofsd is missing: run cargo xtask setup")?;
    let socket = UnixListener::bind(folder.join(FILES_SOCKET))?;
    let said = fs::File::create(folder.join(FILES_LOG))?;
    let mut server = tethered(program);
    server.args(["--fd=0", "-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always"]);
    server.stdin(OwnedFd::from(socket)).stdout(said.try_clone()?).stderr(said);
    Running::start(&mut server)
}

/// virtiofsd is not meant to be typed, so it is not on PATH; its place is the distribution's choice.
pub fn find_virtiofsd() -> Option<PathBuf> {
    let places = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"];
    command::find_program("virtiofsd")
        .or_else(|| places.map(PathBuf::from).into_iter().find(|path| command::is_program(path)))
}

/// A command that is killed when the thread that started it ends, however that happens.
fn tethered(program: impl Into<OsString>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program.into());
    command
}

/// How often a process is looked at that has no other way to tell of its end.
const POLL: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
enum Ended {
    ByItself(ExitStatus),
    AtTimeLimit(Duration),
}

/// A process that does not outlive this value.
struct Running {
    child: Child,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {}", command::line(command)))?;
        Ok(Self { child })
    }

    fn wait(&mut self, limit: Duration) -> Result<Ended> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Ended::ByItself(status));
            }
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                return Ok(Ended::AtTimeLimit(limit));
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
