//! The container `calico-node` on a node: BIRD itself, and stand-ins for Felix and confd, with Calico's command
//! lines, in a mount namespace that alone has `/etc/calico`, and with their output in the log that the kubelet
//! keeps. runit, which would start a process again that ends, is left out.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{
    bird,
    topology::{NODES, Node},
};
use crate::{machine::Machine, stand_in};

/// The longest that all sessions of all nodes may take until their routes are in the kernels.
const SESSIONS: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(100);

/// The library `bird_tunnel` of this package lies beside this program.
const TUNNEL_PATCH: &str = "libbird_tunnel.so";

/// What is in the container's image.
struct Image<'a> {
    bird: &'a Path,
    tunnel_patch: PathBuf,
    /// This program, which has the stand-ins.
    lab: PathBuf,
}

/// Starts it on every node and waits until each has the routes to all others' blocks.
pub fn start_everywhere(nodes: &[Machine], bird: &Path) -> Result<()> {
    let lab = std::env::current_exe()?;
    let image = Image { bird, tunnel_patch: lab.with_file_name(TUNNEL_PATCH), lab };
    let patch = &image.tunnel_patch;
    ensure!(patch.is_file(), "{} is missing: build the whole package caliprobe-tests", patch.display());
    for (node, machine) in NODES.iter().zip(nodes) {
        start(node, machine, &image).with_context(|| format!("cannot start calico-node on {}", node.name))?;
    }
    let deadline = Instant::now() + SESSIONS;
    for (node, machine) in NODES.iter().zip(nodes) {
        while machine.run(routes_of_peers)? < node.others().count() {
            ensure!(Instant::now() < deadline, "BIRD's sessions of {} do not come up", node.name);
            thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// A route is there once the session is up on both sides and BIRD's graceful restart is over.
fn routes_of_peers() -> Result<usize> {
    let mut ip = Command::new("ip");
    let output = ip.args(["route", "show", "proto", "bird", "dev", "tunl0"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().count())
}

fn start(node: &Node, machine: &Machine, image: &Image) -> Result<()> {
    let (output, into_log) = io::pipe()?;
    let (log, processes) = machine.run(|| {
        let log = log_file()?;
        enter_container(node)?;
        fs::create_dir_all(Path::new(bird::SOCKET).parent().context("a socket in no folder")?)?;
        let processes = [image.stand_in("-felix"), image.stand_in("-confd"), image.routing_daemon()];
        let start = |command| run(command, &into_log);
        Ok((log, processes.into_iter().map(start).collect::<Result<Vec<_>>>()?))
    })?;
    drop(into_log);
    thread::spawn(move || keep_log(output, log));
    for mut process in processes {
        // It is killed with its node's namespaces, or by the scenario; nobody is to see it as a zombie.
        thread::spawn(move || process.wait());
    }
    Ok(())
}

fn run(mut command: Command, into_log: &PipeWriter) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(into_log.try_clone()?).stderr(into_log.try_clone()?);
    command.spawn().with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}

/// Gives the calling thread the container's view of the file system.
fn enter_container(node: &Node) -> Result<()> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    fs::create_dir_all("/etc/calico")?;
    mount(Some("tmpfs"), "/etc/calico", Some("tmpfs"), MsFlags::empty(), nothing)?;
    fs::create_dir_all(bird::FOLDER)?;
    for (name, text) in bird::files(node) {
        fs::write(Path::new(bird::FOLDER).join(name), text).with_context(|| name)?;
    }
    Ok(())
}

impl Image<'_> {
    fn stand_in(&self, role: &str) -> Command {
        let mut command = Command::new(&self.lab);
        command.arg0(stand_in::NAME).arg(role);
        command
    }

    fn routing_daemon(&self) -> Command {
        let mut command = Command::new(self.bird);
        command.arg0("bird").args(["-R", "-s", bird::SOCKET, "-d", "-c"]);
        command.arg(Path::new(bird::FOLDER).join("bird.cfg")).env("LD_PRELOAD", &self.tunnel_patch);
        command
    }
}

fn log_file() -> Result<File> {
    let folder =
        "/var/log/pods/kube-system_calico-node-2wtkj_5e0f3c1c-7a55-4bd0-9d0f-c1a6f4c0de01/calico-node";
    fs::create_dir_all(folder)?;
    Ok(OpenOptions::new().create(true).append(true).open(Path::new(folder).join("0.log"))?)
}

/// Writes each line as a container runtime does: time, stream, whether the line is whole, text.
fn keep_log(output: PipeReader, mut log: File) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let mut entry = format!("{:.9} stdout F ", jiff::Timestamp::now()).into_bytes();
        entry.extend(line);
        entry.push(b'\n');
        if log.write_all(&entry).is_err() {
            return;
        }
    }
}
