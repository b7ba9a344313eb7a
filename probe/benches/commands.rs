//! What a person waits for on a large node: the start of the program, and `check` where there are 1,000 pods, each in a
//! network namespace of its own. Needs root: the node is made of namespaces, and its kernel is this machine's. `tunl0` and
//! the NIC are veth pairs, because no packet is sent.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

const PODS: u32 = 1_000;
const BLOCKS: u32 = 500;
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
    make_node()?;
    let folder = tempfile::tempdir()?;
    let sample = folder.path().join("sample.json");
    println!("{:<52} {:>10} {:>10}", "commands on a node of 1,000 pods", "measured", "budget");
    row("`--help`, ms", quickest(&["--help".into()])?, "20");
    // What looks wrong is looked at twice, 0.7 s apart, and this node has no Calico: so the parts are measured.
    let look = quickest(&["snapshot".into(), "save".into(), "-".into()])?;
    save(&sample)?;
    let judgement = quickest(&["check".into(), "--input".into(), sample.into()])?;
    row("`check`: the look at the node, ms", look, "");
    row("`check`: its judgement, ms", judgement, "");
    row("`check`, ms", look + judgement, "300");
    row("`routes`, ms", quickest(&["routes".into()])?, "");
    Ok(())
}

/// The program that is measured: that of this build, or another one, such as one that is to be handed out.
fn program() -> OsString {
    env::var_os("CALIPROBE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_caliprobe").into())
}

/// Milliseconds from start to end.
fn quickest(arguments: &[OsString]) -> Result<f64> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let output = Command::new(program()).args(arguments).stdout(Stdio::null()).output()?;
        best = best.min(start.elapsed());
        ensure!(output.status.code() != Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(best.as_secs_f64() * 1e3)
}

fn save(sample: &Path) -> Result<()> {
    let output = Command::new(program()).args(["snapshot", "save", "-"]).output()?;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).context("a sample")?;
    let pods = value["pod_interfaces"].as_array().map_or(0, Vec::len);
    ensure!(pods == PODS as usize, "{pods} pods were looked into");
    Ok(fs::write(sample, output.stdout)?)
}

fn row(what: &str, measured: f64, budget: &str) {
    println!("{what:<52} {measured:>10.2} {budget:>10}");
}

/// Everything is in namespaces of this process, and ends with it.
fn make_node() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("namespaces need root")?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    fs::create_dir_all("/run/netns")?;
    mount(Some("tmpfs"), "/run/netns", Some("tmpfs"), MsFlags::empty(), nothing)?;
    let mut lines = String::from(
        "link set lo up\n\
         link add eth0 type veth peer name wire0\n\
         address add 172.30.0.1/16 dev eth0\n\
         link set eth0 up\n\
         link set wire0 up\n\
         link add tunl0 type veth peer name wire1\n\
         address add 10.200.0.0/32 dev tunl0\n\
         link set tunl0 up\n\
         link set wire1 up\n\
         route add default via 172.30.255.254\n",
    );
    for pod in 0..PODS {
        let (device, address) = (format!("cali{pod:011x}"), Ipv4Addr::from_bits(0x0ac8_0001 + pod));
        let _ = write!(
            lines,
            "netns add pod{pod}\n\
             link add {device} type veth peer name eth0 netns pod{pod}\n\
             link set {device} up\n\
             route add {address} dev {device} scope link\n"
        );
    }
    for block in 0..BLOCKS {
        let peer = Ipv4Addr::from_bits(0xac1e_0002 + block);
        let base = Ipv4Addr::from_bits(0x0a80_0000 + block * 64);
        let _ = writeln!(lines, "route add {base}/26 via {peer} dev tunl0 proto bird onlink");
    }
    let mut ip =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("cannot start ip")?;
    ip.stdin.take().context("no input")?.write_all(lines.as_bytes())?;
    ensure!(ip.wait()?.success(), "ip -batch fails");
    Ok(())
}
