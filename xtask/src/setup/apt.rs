//! Debian's and Ubuntu's packages, installed as root or through sudo.

use std::{cell::OnceCell, process::Command};

use anyhow::Result;

use crate::command::{self, untranslated};

/// The packages of this machine's releases. Their lists are read anew before the first question.
#[derive(Default)]
pub struct Packages {
    ours_to_install: OnceCell<bool>,
}

impl Packages {
    /// The version that would be installed; nothing where apt does not know the package, where there is no apt,
    /// and where we may neither use it nor ask sudo to.
    pub fn version(&self, package: &str) -> Result<Option<String>> {
        if !self.ours_to_install.get_or_init(update) {
            return Ok(None);
        }
        let policy = command::output(untranslated("apt-cache").args(["policy", package]))?;
        Ok(candidate(&policy).map(str::to_owned))
    }
}

/// Installs packages that have a version.
pub fn install(packages: &[String]) -> Result<()> {
    let by = if command::is_root() { "" } else { "sudo " };
    eprintln!("setup: {by}apt-get install {}", packages.join(" "));
    let mut install = get();
    install.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    if let Some(removed) = removed(&command::output(&mut install)?) {
        eprintln!("setup: these took the place of {removed}");
    }
    Ok(())
}

fn update() -> bool {
    let sudo = if command::is_root() { None } else { Some("sudo") };
    if sudo.into_iter().chain(["apt-get"]).any(|program| command::find_program(program).is_none()) {
        return false;
    }
    // One broken source among many must not be in the way of all others.
    if let Err(error) = command::output(get().arg("update")) {
        eprintln!("setup: {error:#}");
    }
    true
}

fn get() -> Command {
    let mut get = command::as_root("env");
    get.args(["LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]);
    // Another apt may be at work, as it often is on a machine that has just been started.
    get.args(["-o", "DPkg::Lock::Timeout=300"]);
    get
}

/// The version after `Candidate:` in what `apt-cache policy` says of one package.
fn candidate(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    Some(version).filter(|version| *version != "(none)")
}

/// The packages that `apt-get install` says have to make room; busybox, say, for its static build.
fn removed(said: &str) -> Option<String> {
    let (_, list) = said.split_once("The following packages will be REMOVED:\n")?;
    let names: Vec<&str> =
        list.lines().take_while(|line| line.starts_with(' ')).flat_map(str::split_whitespace).collect();
    Some(names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_cannot_be_installed_has_no_version() {
        let policy =
            |version| format!("kmod:\n  Installed: (none)\n  Candidate: {version}\n  Version table:\n");
        assert_eq!(candidate(&policy("30+20221128-1")), Some("30+20221128-1"));
        assert_eq!(candidate(&policy("(none)")), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn packages_that_made_room_are_named() {
        let said = "Reading package lists...\nThe following packages will be REMOVED:\n  busybox rustc\n  cargo\n\
            The following NEW packages will be installed:\n  busybox-static\n";
        assert_eq!(removed(said).as_deref(), Some("busybox rustc cargo"));
        assert_eq!(removed("The following NEW packages will be installed:\n  kmod\n"), None);
    }
}
