//! `cargo xtask setup`: finds what it takes to build caliprobe and to run its lab, and installs what is missing.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{
    bird,
    cache::Cache,
    command,
    kernels::{Kernel, Series},
    unpacked,
};

mod apt;
mod compiler;
mod programs;

pub fn run() -> Result<ExitCode> {
    let kernels = ensure(&Series::ALL)?;
    let cache = Cache::open()?;
    bird::obtain(&cache)?;
    unpacked::PROMETHEUS.obtain(&cache)?;
    unpacked::KUSTOMIZE.obtain(&cache)?;
    let releases: Vec<&str> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    println!("setup: nothing is missing; the lab's kernels are {}", releases.join(" and "));
    Ok(ExitCode::SUCCESS)
}

/// Sees to it that programs are there that Debian packages under their own names.
pub fn ensure_programs(names: &[&str]) -> Result<()> {
    let absent = || names.iter().filter(|name| command::find_program(name).is_none());
    let packages = apt::Packages::default();
    let mut wanted = Vec::new();
    for name in absent() {
        if packages.version(name)?.is_some() {
            wanted.push((*name).to_owned());
        }
    }
    if !wanted.is_empty() {
        apt::install(&wanted)?;
    }
    let missing: Vec<&str> = absent().copied().collect();
    if !missing.is_empty() {
        bail!(
            "these have to be installed by hand; Debian has packages of these names: {}",
            missing.join(", ")
        );
    }
    Ok(())
}

/// Sees to it that everything is there, and returns the kernels. Says nothing where nothing was missing.
pub fn ensure(series: &[Series]) -> Result<Vec<Kernel>> {
    let cache = Cache::open()?;
    let packages = apt::Packages::default();
    let mut missing = programs::ensure(&packages)?;
    missing.extend(compiler::ensure(&packages, &cache)?);
    let mut kernels = Vec::new();
    for &series in series {
        match Kernel::obtain(&cache, series) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => missing.push(format!("{error:#}")),
        }
    }
    if !missing.is_empty() {
        bail!("these have to be installed by hand:\n- {}", missing.join("\n- "));
    }
    Ok(kernels)
}
