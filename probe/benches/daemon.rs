//! The daemon on a large node: 1,000 pods, 10,000 blocks; and what it costs to read 100,000 routes. Needs root: the node
//! is a network namespace of its own, and its kernel this machine's. `tunl0` and the NIC are veth pairs, because no packet
//! is sent: what packets cost, `programs` measures.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use caliprobe::{
    model::Model,
    sources::{self, GatherOptions, netlink::Netlink},
};
use nix::sched::{CloneFlags, unshare};

const PODS: u32 = 1_000;
const BLOCKS: u32 = 10_000;
const ROUTES: u32 = 100_000;
/// How long the daemon is watched while nothing happens but its own readings.
const WATCHED: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_mins(2);
/// A budget's line is the best of so many.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace needs root")?;
    let pods = Pods::start()?;
    ip(&node(&pods))?;
    pods.set_up((0..PODS).map(|number| format!("eth{number}")).chain(["wire0", "wire1"].map(str::to_owned)))?;
    println!(
        "{:<52} {:>10} {:>10}",
        "the daemon on a node of 1,000 pods, 10,000 blocks", "measured", "budget"
    );
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(folder.path())?;
    let start = Instant::now();
    Daemon::wait_for(|page| value(page, "caliprobe_devices_covered") >= 2.0)?;
    row("first page with tunl0 and the NIC covered, s", start.elapsed().as_secs_f64(), "");
    Daemon::wait_for(|page| value(page, "caliprobe_devices_covered") >= f64::from(PODS + 2))?;
    row("all 1,000 cali* covered, s", start.elapsed().as_secs_f64(), "60");
    let (busy, clock) = (daemon.busy()?, Instant::now());
    thread::sleep(WATCHED);
    let share = (daemon.busy()? - busy) / clock.elapsed().as_secs_f64();
    row("of a core while nothing happens, %", share * 100.0, "1");
    row("one reading of the ledger, ms", value(&Daemon::page()?, "caliprobe_ledger_read_seconds") * 1e3, "");
    row("resident, MiB", daemon.status("VmRSS")? / 1024.0, "32");
    row("resident at most, MiB", daemon.status("VmHWM")? / 1024.0, "");
    row("kernel memory of its maps and programs, MiB", daemon.locked()? / 1_048_576.0, "");
    let mut slowest = Duration::ZERO;
    for number in PODS..PODS + 10 {
        ip(&pod(&pods, number))?;
        pods.set_up([format!("eth{number}")])?;
        let start = Instant::now();
        while !has_program(number)? {
            ensure!(start.elapsed() < DEADLINE, "a new device gets no program");
            thread::sleep(Duration::from_millis(1));
        }
        slowest = slowest.max(start.elapsed());
    }
    row("a new cali* covered, of ten the slowest, ms", slowest.as_secs_f64() * 1e3, "100");
    drop(daemon);
    read_routes()
}

/// The full read of a route table, by turns with what it must not be slower than.
fn read_routes() -> Result<()> {
    let mut more = String::new();
    for number in 0..ROUTES - BLOCKS {
        let _ = writeln!(
            more,
            "route add {}/32 via 172.30.0.2 dev tunl0 proto bird onlink",
            address(0x0b00_0000 + number)
        );
    }
    ip(&more)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = GatherOptions { root: "/".into(), pools: Vec::new(), facts: None };
    let mut sample = runtime.block_on(sources::gather(&options))?;
    let netlink = {
        let _context = runtime.enter();
        Netlink::open()?
    };
    let (mut ours, mut others) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        sample.routes = runtime.block_on(netlink.routes())?;
        std::hint::black_box(&Model::new(&sample));
        ours = ours.min(start.elapsed());
        ensure!(sample.routes.len() >= ROUTES as usize, "{} routes were read", sample.routes.len());
        let start = Instant::now();
        let output = Command::new("ip").args(["-j", "route"]).stdout(Stdio::null()).status()?;
        ensure!(output.success(), "ip -j route fails");
        others = others.min(start.elapsed());
    }
    row("100,000 routes read into the model, ms", ours.as_secs_f64() * 1e3, "");
    row("the same over `ip -j route`, ratio", ours.as_secs_f64() / others.as_secs_f64(), "1");
    Ok(())
}

fn row(what: &str, measured: f64, budget: &str) {
    println!("{what:<52} {measured:>10.2} {budget:>10}");
}

fn address(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits)
}

/// The network namespace of all pods; it ends with this value.
struct Pods(Child);

impl Pods {
    fn start() -> Result<Self> {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec sleep infinity"])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare")?;
        let mut line = [0];
        child.stdout.take().context("no output")?.read_exact(&mut line)?;
        Ok(Self(child))
    }

    /// Their ends of the pairs, so that the node's have a carrier.
    fn set_up(&self, devices: impl IntoIterator<Item = String>) -> Result<()> {
        let lines: String =
            devices.into_iter().fold(String::new(), |lines, device| lines + "link set " + &device + " up\n");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).args(["ip", "-batch", "-"]);
        feed(command, &lines)
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The node: its devices, pods, and the blocks of 2,000 others.
fn node(pods: &Pods) -> String {
    let mut lines = String::from(
        "link set lo up\n\
         link add eth0 type veth peer name wire0 netns PEERS\n\
         address add 172.30.0.1/16 dev eth0\n\
         link set eth0 up\n\
         link add tunl0 type veth peer name wire1 netns PEERS\n\
         address add 10.200.0.0/32 dev tunl0\n\
         link set tunl0 up\n\
         route add default via 172.30.255.254\n",
    )
    .replace("PEERS", &pods.0.id().to_string());
    for number in 0..PODS {
        lines += &pod(pods, number);
    }
    for block in 0..BLOCKS {
        let peer = address(0xac1e_0002 + block % 2_000);
        let base = address(0x0a80_0000 + block * 64);
        let _ = writeln!(lines, "route add {base}/26 via {peer} dev tunl0 proto bird onlink");
    }
    lines
}

fn pod(pods: &Pods, number: u32) -> String {
    let name = device(number);
    let address = address(0x0ac8_0001 + number);
    format!(
        "link add {name} type veth peer name eth{number} netns {}\nlink set {name} up\nroute add {address} dev {name} scope link\n",
        pods.0.id()
    )
}

/// Whether the program that counts what a pod is given, which is attached last, is there.
fn has_program(number: u32) -> Result<bool> {
    let (_, programs) = SchedClassifier::query_tcx(&device(number), TcAttachType::Egress)?;
    Ok(!programs.is_empty())
}

fn device(pod: u32) -> String {
    format!("cali{pod:011x}")
}

fn ip(lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]);
    feed(command, lines)
}

fn feed(mut command: Command, lines: &str) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).spawn().context("cannot start ip")?;
    child.stdin.take().context("no input")?.write_all(lines.as_bytes())?;
    ensure!(child.wait()?.success(), "ip -batch fails");
    Ok(())
}

/// The daemon; it ends with this value.
struct Daemon(Child);

impl Daemon {
    fn start(folder: &Path) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caliprobe"));
        command.args(["run", "-q", "--no-api", "--pool", "10.128.0.0/12", "--pool", "10.200.0.0/16"]);
        command.arg("--events-dir").arg(folder).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    /// What it answers a scraper.
    fn page() -> Result<String> {
        let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 10475)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }

    fn wait_for(is_so: impl Fn(&str) -> bool) -> Result<()> {
        let start = Instant::now();
        while !Self::page().is_ok_and(|page| is_so(&page)) {
            if start.elapsed() > DEADLINE {
                bail!("not within {} s: {:?}", DEADLINE.as_secs(), Self::page());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Seconds of user and system time so far (`proc_pid_stat(5)`, fields 14 and 15).
    fn busy(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, fields) = text.rsplit_once(") ").context("no command")?;
        let ticks: u32 =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock")?;
        Ok(f64::from(ticks) / f64::from(i32::try_from(per_second)?))
    }

    /// KiB.
    fn status(&self, name: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
    }

    /// Bytes that the kernel holds for its maps and programs (`memlock` of their descriptors).
    fn locked(&self) -> Result<f64> {
        let mut bytes = 0.0;
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.0.id()))? {
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
            bytes += line.and_then(|line| line.trim().parse::<f64>().ok()).unwrap_or_default();
        }
        Ok(bytes)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let process = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A metric without labels; negative where it is not there.
fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|line| line.trim().parse().ok()).unwrap_or(-1.0)
}
