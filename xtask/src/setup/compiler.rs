//! The compiler and the linker of the kernel programs.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::apt::{self, Packages};
use crate::{
    binaries::cargo,
    cache::Cache,
    command::{self, find_program, untranslated},
    tools::{self, Toolchain, numbers},
};

/// The oldest Rust that builds the workspace.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
/// The bpf-linker that is installed, and the oldest that is taken where one is there.
const LINKER: &str = "0.13.0";
/// The versions of LLVM that it can be built with.
const LLVM: RangeInclusive<u32> = 21..=23;

/// Installs what is missing. Returns what is still missing then, each with what to do about it.
pub fn ensure(packages: &Packages, cache: &Cache) -> Result<Vec<String>> {
    if Toolchain::find().is_none() {
        install_core(packages)?;
    }
    let Some(toolchain) = Toolchain::find() else {
        return Ok(vec![format!(
            "Rust {RUST} or newer with the source of its standard library: `rustup component add rust-src`, or \
             the package of it from where rustc is from. And bpf-linker {LINKER}, built with the same LLVM as that Rust"
        )]);
    };
    let version = command::output(toolchain.program("rustc").args(["--version", "--verbose"]))?;
    let llvm = compilers_llvm(&version).context("rustc does not tell which LLVM it has")?;
    if !linker_reads(llvm) {
        install_linker(llvm, packages, cache)?;
    }
    if linker_reads(llvm) {
        return Ok(Vec::new());
    }
    Ok(vec![no_linker(llvm)])
}

fn no_linker(llvm: u32) -> String {
    let newest = LLVM.end();
    if llvm > *newest {
        return format!(
            "a Rust with LLVM {newest}: this one has LLVM {llvm}, which bpf-linker {LINKER} cannot read"
        );
    }
    format!(
        "bpf-linker with LLVM {llvm} or newer, as rustc has LLVM {llvm}. With llvm-{llvm}-dev and libpolly-{llvm}-dev, \
         which the LLVM project packages for releases that are without them, setup builds it. By hand, with LLVM's \
         folder in LLVM_PREFIX: `cargo install bpf-linker --version {LINKER} --locked --no-default-features \
         --features llvm-{llvm}`"
    )
}

/// Installs a compiler with the source of `core`, or that source for the compiler that is there.
fn install_core(packages: &Packages) -> Result<()> {
    let of_distribution = |program: &Path| program.starts_with("/usr/bin");
    let rustup = find_program("rustup");
    // Debian's packages of rustup and of the compiler exclude each other. And where there is no rustup to choose
    // by, the compiler that is first on PATH must be the packaged one.
    let packaged_is_of_use = match &rustup {
        Some(rustup) => !of_distribution(rustup),
        None => find_program("rustc").is_some_and(|rustc| of_distribution(&rustc)),
    };
    if packaged_is_of_use
        && packages.version("rust-web-src")?.is_some_and(|version| numbers(&version) >= numbers(RUST))
    {
        // The compiler that Debian keeps new enough for browsers.
        apt::install(&["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"].map(str::to_owned))?;
        if rustup.is_some() {
            command::output(Command::new("rustup").args(["toolchain", "link", tools::DISTRIBUTION, "/usr"]))?;
        }
    } else if rustup.is_some() {
        eprintln!("setup: rustup component add rust-src");
        command::output(Command::new("rustup").args(["component", "add", "rust-src"]))?;
    }
    Ok(())
}

/// Builds bpf-linker into the cache, with an LLVM that reads what the compiler writes. Without one, does nothing.
fn install_linker(llvm: u32, packages: &Packages, cache: &Cache) -> Result<()> {
    let versions = || LLVM.filter(|version| *version >= llvm);
    if !versions().any(has_libraries) {
        for version in versions() {
            let libraries = [format!("llvm-{version}-dev"), format!("libpolly-{version}-dev")];
            if packages.version(&libraries[0])?.is_some() {
                apt::install(&libraries)?;
                break;
            }
        }
    }
    let Some(version) = versions().find(|version| has_libraries(*version)) else { return Ok(()) };
    eprintln!("setup: building bpf-linker {LINKER} with LLVM {version}");
    let mut install = cargo();
    install.args([
        "install",
        "bpf-linker",
        "--version",
        LINKER,
        "--locked",
        "--force",
        "--no-default-features",
    ]);
    install.args(["--features", &format!("llvm-{version}"), "--root"]).arg(cache.tools());
    command::output(install.env("LLVM_PREFIX", libraries(version)))?;
    Ok(())
}

/// Where Debian has the headers and libraries of an LLVM.
fn libraries(llvm: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{llvm}"))
}

fn has_libraries(llvm: u32) -> bool {
    libraries(llvm).join("bin/llvm-config").exists() && libraries(llvm).join("lib/libPolly.a").exists()
}

/// Whether the bpf-linker that a build takes reads what a compiler with this LLVM writes.
fn linker_reads(llvm: u32) -> bool {
    let Some(linker) = tools::linker() else { return false };
    let Ok(version) = command::output(Command::new(&linker).arg("--version")) else { return false };
    let libraries = command::output(untranslated("ldd").arg(&linker)).unwrap_or_default();
    version.trim().strip_prefix("bpf-linker ").is_some_and(|version| numbers(version) >= numbers(LINKER))
        && linkers_llvm(&libraries).is_none_or(|linked| linked >= llvm)
}

/// `LLVM version: 22.1.8` is 22.
fn compilers_llvm(version: &str) -> Option<u32> {
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    numbers(llvm).first().copied()
}

/// `libLLVM.so.22.1 => …` is 22, and so is `libLLVM-22.so`. One that is linked statically was built for the
/// compiler that built it, and is taken as it is.
fn linkers_llvm(libraries: &str) -> Option<u32> {
    let name = libraries.lines().find_map(|line| line.trim().strip_prefix("libLLVM"))?;
    let digits = name.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_tells_its_llvm() {
        let version = "rustc 1.96.0\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(compilers_llvm(version), Some(22));
        assert_eq!(compilers_llvm("rustc 1.96.0\n"), None);
    }

    #[test]
    fn the_linker_tells_its_llvm_by_the_library_that_it_loads() {
        assert_eq!(
            linkers_llvm("\tlinux-vdso.so.1 (0x7f)\n\tlibLLVM.so.22.1 => /usr/lib/llvm-22 (0x7f)\n"),
            Some(22)
        );
        assert_eq!(linkers_llvm("\tlibLLVM-21.so => /usr/lib/libLLVM-21.so (0x7f)\n"), Some(21));
        assert_eq!(linkers_llvm("\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n"), None);
    }
}
