//! The article's black hole, made, found, repaired and proven to be gone.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cluster::{
        Cluster,
        topology::{self, Variant},
    },
    machine::Machine,
};

const NODE: &str = "paas-188";
const TARGET: &str = "10.200.153.70";

/// Fails where caliprobe's verdict is not the expected one.
pub fn run(caliprobe: &Path) -> Result<()> {
    say(
        "building the article's cluster: 4 nodes with 2 pods each, 2 subnets, a router; IPIP by a real tunl0",
    );
    let cluster = Cluster::build(Variant::Bird, None)?;
    let node = cluster.machine(NODE)?;
    show(node, "ip route")?;
    say("what the probe may see here");
    preflight(caliprobe, node)?;
    say("healthy: a pod of paas-188 asks a pod of paas-187");
    diagnose(caliprobe, node, 0)?;
    say("breaking it as in the article: the route to paas-187's block is lost");
    show(node, "ip route del $BLOCK_187")?;
    say("the pod's IP does not answer any more; caliprobe says where its packets go");
    diagnose(caliprobe, node, 1)?;
    say("repairing it");
    show(node, "ip route add $BLOCK_187 via $NODE_187 dev tunl0 proto bird onlink")?;
    diagnose(caliprobe, node, 0)?;
    say("done: healthy, broken and found, repaired, healthy");
    Ok(())
}

fn say(text: &str) {
    println!("\n# {text}");
}

fn show(node: &Machine, script: &str) -> Result<()> {
    println!("[{NODE}]$ {script}");
    let mut command = Command::new("bash");
    command.args(["-c", script]).envs(topology::variables()).stdin(Stdio::null());
    let output = node.run(|| Ok(command.output()?))?;
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "`{script}` failed");
    Ok(())
}

fn preflight(caliprobe: &Path, node: &Machine) -> Result<()> {
    println!("[{NODE}]$ caliprobe preflight -q");
    let mut command = Command::new(caliprobe);
    command.args(["preflight", "-q"]).stdin(Stdio::null());
    let output = node.run(|| command.output().context("cannot start caliprobe"))?;
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "caliprobe cannot tell what it may see");
    Ok(())
}

fn diagnose(caliprobe: &Path, node: &Machine, expected: i32) -> Result<()> {
    println!("[{NODE}]$ caliprobe diagnose {TARGET}");
    let mut command = Command::new(caliprobe);
    command.args(["diagnose", TARGET]).stdin(Stdio::null());
    let start = Instant::now();
    let output = node.run(|| command.output().context("cannot start caliprobe"))?;
    let time = start.elapsed();
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("(exit code {}, {:.2} s)", output.status.code().unwrap_or(-1), time.as_secs_f64());
    ensure!(output.status.code() == Some(expected), "the exit code should have been {expected}");
    Ok(())
}
