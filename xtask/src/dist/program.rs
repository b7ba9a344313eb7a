//! The program itself: linked statically, without a path of this machine in it.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{architecture::Architecture, release::Release};
use crate::{
    binaries::{self, cargo},
    command,
};

pub struct Program {
    pub architecture: Architecture,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// The packages that were compiled for its target, by the identifiers of `cargo metadata`.
    pub linked: BTreeSet<String>,
}

impl Program {
    /// Builds it of the sources in `root`, into that folder's own `target`.
    pub fn build(root: &Path, release: &Release, architecture: Architecture) -> Result<Self> {
        let target = architecture.target();
        ensure_library(target)?;
        eprintln!("dist: building for {target}");
        let mut build = cargo();
        build.current_dir(root).args(["build", "--profile", "dist", "--locked", "--package", "caliprobe"]);
        build.args(["--bin", "caliprobe", "--target", target, "--target-dir"]).arg(root.join("target"));
        build.env("CARGO_ENCODED_RUSTFLAGS", flags(root)?);
        build.env("CALIPROBE_COMMIT", release.commit.as_deref().unwrap_or_default());
        build.env("SOURCE_DATE_EPOCH", release.time.to_string());
        let messages = binaries::messages(&mut build)?;
        let path = binaries::found(&messages, "caliprobe")?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure_static(&bytes, architecture).with_context(|| path.display().to_string())?;
        Ok(Self { architecture, path, bytes, linked: compiled_for(target, &messages) })
    }
}

/// What leaves no folder of this machine in a program, and needs no other linker than the compiler's own.
fn flags(root: &Path) -> Result<OsString> {
    let cargo_home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => {
            PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo")
        }
    };
    let mut places = vec![(root.to_owned(), "/caliprobe")];
    // A folder for each registry, whose name tells where the machine takes its crates from.
    for entry in fs::read_dir(cargo_home.join("registry/src")).into_iter().flatten() {
        places.push((entry?.path(), "/crates"));
    }
    let mut flags = OsString::from("-Clinker=rust-lld");
    for (from, to) in places {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    Ok(flags)
}

/// Sees to it that Rust has its standard library for a target.
fn ensure_library(target: &str) -> Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let folder = || {
        let ask =
            command::output(Command::new(&rustc).args(["--print", "target-libdir", "--target", target]));
        ask.map(|folder| PathBuf::from(folder.trim()))
    };
    let is_there = || folder().is_ok_and(|folder| folder.is_dir());
    if is_there() {
        return Ok(());
    }
    if command::find_program("rustup").is_some() {
        eprintln!("dist: rustup target add {target}");
        command::output(Command::new("rustup").args(["target", "add", target]))?;
    }
    ensure!(
        is_there(),
        "this Rust has no standard library for {target}, and Debian packages none: with rustup it is \
         `rustup target add {target}`"
    );
    Ok(())
}

/// The part of cargo's messages that tells what was compiled, and where it was put.
#[derive(Deserialize)]
struct Artifact {
    package_id: Option<String>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Those packages whose products are in the target's own folder. What runs while building, such as build scripts and
/// macros, is in another one.
fn compiled_for(target: &str, messages: &str) -> BTreeSet<String> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    let of_target = |path: &PathBuf| path.components().any(|part| part.as_os_str() == target);
    artifacts
        .filter(|artifact| artifact.filenames.iter().any(of_target))
        .filter_map(|artifact| artifact.package_id)
        .collect()
}

/// Fails where the kernel would need an interpreter to run the program, which loads libraries (elf(5)).
fn ensure_static(bytes: &[u8], architecture: Architecture) -> Result<()> {
    const PROGRAM_INTERPRETER: u64 = 3;
    let number = |place: usize, length: usize| -> Result<u64> {
        let field = bytes.get(place..place + length).context("it is cut")?;
        Ok(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "it is no 64-bit little-endian ELF program");
    ensure!(number(18, 2)? == u64::from(architecture.elf()), "it is for another machine");
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let header = usize::try_from(start + index * size)?;
        if number(header, 4)? == PROGRAM_INTERPRETER {
            bail!("it is not static: it names an interpreter");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compiled_for_the_target_is_told_from_what_ran_while_building() {
        let messages = r#"{"reason":"compiler-artifact","package_id":"anyhow","filenames":["/t/x86_64-unknown-linux-musl/release/deps/libanyhow.rlib"]}
{"reason":"compiler-artifact","package_id":"anyhow","filenames":["/t/release/deps/libanyhow.rlib"]}
{"reason":"compiler-artifact","package_id":"syn","filenames":["/t/release/deps/libsyn.rlib"]}
{"reason":"build-script-executed","package_id":"libc"}"#;
        let linked = compiled_for("x86_64-unknown-linux-musl", messages);
        assert_eq!(linked.into_iter().collect::<Vec<_>>(), ["anyhow"]);
    }

    #[test]
    fn a_program_that_loads_libraries_is_refused() {
        let ours = fs::read(env::current_exe().unwrap()).unwrap();
        let refused = ensure_static(&ours, Architecture::X86_64).unwrap_err();
        assert!(refused.to_string().contains("not static"), "{refused}");
        assert!(
            ensure_static(&ours, Architecture::Aarch64).unwrap_err().to_string().contains("another machine")
        );
        assert!(ensure_static(b"#!/bin/sh\n", Architecture::X86_64).is_err());
        assert!(ensure_static(&ours[..60], Architecture::X86_64).is_err());
        let Some(busybox) = command::find_program("busybox") else { return };
        let busybox = fs::read(busybox).unwrap();
        if let Err(error) = ensure_static(&busybox, Architecture::X86_64) {
            eprintln!("SKIPPED: busybox is not static here: {error:#}");
        }
    }
}
