//! The compiler and the linker of the kernel programs: one rule for the build script, which uses them, and for
//! `cargo xtask setup`, which sees to it that they are there.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Under this name rustup knows the compiler that the distribution has as a package.
pub const DISTRIBUTION: &str = "debian";

/// A Rust compiler that is new enough and has the source of `core`, of which no compiled form exists for BPF.
#[derive(Debug)]
pub struct Toolchain {
    /// As `rustup run` takes it; without rustup the compiler is the one on PATH.
    pub name: Option<String>,
}

impl Toolchain {
    /// The toolchain of this very build if it will do, else the distribution's, else a nightly.
    pub fn find() -> Option<Self> {
        if answer(Command::new("rustup").arg("--version")).is_none() {
            return Some(Self { name: None }).filter(Self::will_do);
        }
        // rustup's cargo tells the programs that it runs which toolchain it belongs to.
        let active = env::var("RUSTUP_TOOLCHAIN").ok();
        let others = [DISTRIBUTION, "nightly"].map(str::to_owned);
        active.into_iter().chain(others).map(|name| Self { name: Some(name) }).find(Self::will_do)
    }

    /// `rustc`, `cargo` and what else belongs to the compiler.
    pub fn program(&self, program: &str) -> Command {
        let Some(name) = &self.name else { return Command::new(program) };
        let mut rustup = Command::new("rustup");
        rustup.args(["run", name, program]);
        rustup
    }

    fn will_do(&self) -> bool {
        let new_enough = answer(self.program("rustc").arg("--version")).is_some_and(|version| {
            let wanted = numbers(env!("CARGO_PKG_RUST_VERSION"));
            version.split(' ').nth(1).is_some_and(|version| numbers(version) >= wanted)
        });
        let has_core =
            |sysroot: String| Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir();
        new_enough && answer(self.program("rustc").args(["--print", "sysroot"])).is_some_and(has_core)
    }
}

/// The standard output of a command that ends well.
fn answer(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// A version as it is compared: `1.97.0-nightly` is 1, 97, 0.
pub fn numbers(version: &str) -> Vec<u32> {
    let release = version.split(['-', '+', '~']).next().unwrap_or_default();
    release.split('.').map_while(|number| number.parse().ok()).collect()
}

/// The bpf-linker that a build takes.
pub fn linker() -> Option<PathBuf> {
    linker_folders().into_iter().map(|folder| folder.join("bpf-linker")).find(|path| path.is_file())
}

/// Where bpf-linker is looked for: in the place that setup builds it into, then on PATH.
pub fn linker_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let ours = cache().map(|cache| cache.join("tools/bin"));
    ours.into_iter().chain(env::split_paths(&path)).collect()
}

/// The folder of downloads and of built tools, outside the tree that git tracks and shared by all checkouts of a
/// user: `$CALIPROBE_CACHE`, else `$XDG_CACHE_HOME/caliprobe`, else `~/.cache/caliprobe`.
pub fn cache() -> Option<PathBuf> {
    let caches = || folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
    folder("CALIPROBE_CACHE").or_else(|| caches().map(|caches| caches.join("caliprobe")))
}

/// The environment's path of that name; a relative one is as good as none, as the XDG specification has it.
fn folder(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(numbers("1.97.0-nightly"), [1, 97, 0]);
        assert!(numbers("1.96.0+dfsg1") >= numbers("1.95"));
        assert!(numbers("1.95.0") >= numbers("1.95"));
        assert!(numbers("1.100.0") > numbers("1.95"));
        assert!(numbers("1.85.0~rc") < numbers("1.95"));
    }
}
