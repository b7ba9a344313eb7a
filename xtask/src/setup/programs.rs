//! The programs that a guest and the lab in it are made of, and the terminal of the screen's tests.

use std::process::Command;

use anyhow::Result;

use super::apt::{self, Packages};
use crate::{
    command::{self, find_program},
    guest,
};

struct Program {
    name: &'static str,
    /// Debian's packages that have it; which of them a release knows differs.
    packages: &'static [&'static str],
    is_there: fn(&str) -> bool,
}

const PROGRAMS: [Program; 14] = [
    Program {
        is_there: |_| guest::find_virtiofsd().is_some(),
        ..on_path("virtiofsd", &["virtiofsd", "qemu-system-common"])
    },
    // It runs before any library can be seen.
    Program { is_there: is_static, ..on_path("busybox", &["busybox-static"]) },
    on_path("qemu-system-x86_64", &["qemu-system-x86"]),
    on_path("setpriv", &["util-linux"]),
    on_path("depmod", &["kmod"]),
    on_path("xz", &["xz-utils"]),
    on_path("zstd", &["zstd"]),
    on_path("ip", &["iproute2"]),
    on_path("ping", &["iputils-ping"]),
    on_path("iptables", &["iptables"]),
    on_path("nft", &["nftables"]),
    on_path("ipset", &["ipset"]),
    on_path("sysctl", &["procps"]),
    on_path("tmux", &["tmux"]),
];

const fn on_path(name: &'static str, packages: &'static [&'static str]) -> Program {
    Program { name, packages, is_there: |name| find_program(name).is_some() }
}

fn is_static(name: &str) -> bool {
    // ldd fails on a program without an interpreter.
    find_program(name).is_some_and(|path| !command::succeeds(Command::new("ldd").arg(path)))
}

/// Installs what is missing. Returns what is still missing then, each with what to do about it.
pub fn ensure(packages: &Packages) -> Result<Vec<String>> {
    let absent = || PROGRAMS.iter().filter(|program| !(program.is_there)(program.name));
    let mut wanted = Vec::new();
    for program in absent() {
        wanted.extend(first_known(packages, program.packages)?);
    }
    if !wanted.is_empty() {
        apt::install(&wanted)?;
    }
    Ok(absent()
        .map(|program| {
            format!("{}: Debian has it in the package {}", program.name, program.packages.join(" or "))
        })
        .collect())
}

fn first_known(packages: &Packages, names: &[&str]) -> Result<Option<String>> {
    for name in names {
        if packages.version(name)?.is_some() {
            return Ok(Some((*name).to_owned()));
        }
    }
    Ok(None)
}
