//! 500 snapshots of a cluster of 500 nodes, each with 500 blocks and 110 pods, joined by `caliprobe cluster`.

#[path = "../tests/joined/made_up.rs"]
mod made_up;

use std::{
    fs,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use made_up::{Plan, sample};
use nix::sys::resource::{UsageWho, getrusage};

/// Some 25 rules for each pod: its policies, its profile, and what kube-proxy has for it.
const PLAN: Plan = Plan { rules: 25, ..Plan::mesh(500, 110) };
const ROUNDS: usize = 3;

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
    let folder = tempfile::tempdir()?;
    let mut bytes = 0;
    for node in 0..PLAN.nodes {
        let text = serde_json::to_vec(&sample(PLAN, node))?;
        bytes += text.len();
        fs::write(folder.path().join(format!("{node}.json")), text)?;
    }
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_caliprobe"))
            .args(["cluster", "-q"])
            .arg(folder.path())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start caliprobe")?;
        fastest = fastest.min(start.elapsed());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(said.starts_with("HEALTHY  500 nodes"), "it says: {said}");
    }
    println!(
        "{:<52} {:>10} {:>10}",
        "500 snapshots of 500 blocks and 110 pods, joined", "measured", "budget"
    );
    row("snapshots, MiB together", megabytes(bytes), "");
    row("read, checked and joined, s", fastest.as_secs_f64(), "10");
    let kibibytes = usize::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())?;
    row("resident at most, MiB", megabytes(kibibytes * 1024), "");
    Ok(())
}

fn row(what: &str, measured: f64, budget: &str) {
    println!("{what:<52} {measured:>10.2} {budget:>10}");
}

#[expect(clippy::cast_precision_loss, reason = "for a person to read")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
