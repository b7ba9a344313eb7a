//! The unit for systemd.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use caliprobe::cli::Cli;
use clap::Parser as _;

/// Where the unit expects the program.
const INSTALLED: &str = "/usr/local/bin/caliprobe";

fn unit() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/caliprobe.service");
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn setting<'a>(unit: &'a str, name: &str) -> Result<&'a str> {
    let value = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.with_context(|| format!("no {name}"))
}

#[test]
fn systemd_understands_every_line() -> Result<()> {
    let Some(systemd) = systemd() else {
        eprintln!("SKIPPED: there is no systemd-analyze");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("caliprobe.service");
    fs::write(&path, unit()?.replace(INSTALLED, env!("CARGO_BIN_EXE_caliprobe")))?;
    let output = Command::new(systemd).args(["verify", "--man=no"]).arg(&path).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It warns of what it does not know, and succeeds all the same.
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("caliprobe.service")).collect();
    assert!(output.status.success() && of_ours.is_empty(), "{said}");
    Ok(())
}

fn systemd() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("systemd-analyze"))
        .find(|program| program.is_file())
}

#[test]
fn it_starts_the_daemon_with_its_capabilities_alone() -> Result<()> {
    let unit = unit()?;
    let words = setting(&unit, "ExecStart")?.split(' ');
    assert_eq!(words.clone().next(), Some(INSTALLED));
    assert!(matches!(Cli::try_parse_from(words)?.command, caliprobe::cli::Command::Run(_)));
    let wanted = ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYSLOG", "CAP_SYS_RESOURCE"];
    for name in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        let has: BTreeSet<&str> = setting(&unit, name)?.split(' ').collect();
        assert_eq!(has, BTreeSet::from(wanted), "{name}");
    }
    assert_eq!(setting(&unit, "Type")?, "notify");
    for hardening in ["NoNewPrivileges", "ProtectHome", "PrivateTmp", "MemoryDenyWriteExecute"] {
        assert_eq!(setting(&unit, hardening)?, "yes");
    }
    assert_eq!(setting(&unit, "ProtectSystem")?, "strict");
    Ok(())
}
