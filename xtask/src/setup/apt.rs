//! Debian's and Ubuntu's packages, installed as root or through sudo.

use std::{cell::OnceCell, process::Command};

use anyhow::Result;

use crate::command::{self, untranslated};

/// The system's packages, of which nothing is asked until something is missing.
#[derive(Default)]
pub struct Packages {
    apt: OnceCell<Option<Apt>>,
}

impl Packages {
    /// Nothing where the system has no apt-get, or where we may neither use it nor ask sudo to.
    pub fn apt(&self) -> Option<&Apt> {
        self.apt.get_or_init(Apt::open).as_ref()
    }
}

/// The package manager of this machine, with lists that have just been read anew.
pub struct Apt {
    privileges: Privileges,
}

#[derive(Clone, Copy)]
enum Privileges {
    Own,
    Sudo,
}

impl Apt {
    fn open() -> Option<Self> {
        command::find_program("apt-get")?;
        let privileges = if command::is_root() {
            Privileges::Own
        } else {
            command::find_program("sudo").map(|_| Privileges::Sudo)?
        };
        let apt = Self { privileges };
        // One broken source among many must not be in the way of all others.
        if let Err(error) = command::output(apt.get().arg("update")) {
            eprintln!("setup: {error:#}");
        }
        Some(apt)
    }

    /// The version that would be installed.
    #[expect(clippy::unused_self, reason = "the lists that it looks into are new only once an Apt is there")]
    pub fn version(&self, package: &str) -> Result<Option<String>> {
        let policy = command::output(untranslated("apt-cache").args(["policy", package]))?;
        Ok(candidate(&policy).map(str::to_owned))
    }

    pub fn install(&self, packages: &[String]) -> Result<()> {
        let sudo = match self.privileges {
            Privileges::Own => "",
            Privileges::Sudo => "sudo ",
        };
        eprintln!("setup: {sudo}apt-get install {}", packages.join(" "));
        command::output(self.get().args(["install", "--yes", "--no-install-recommends"]).args(packages))?;
        Ok(())
    }

    fn get(&self) -> Command {
        let mut command = match self.privileges {
            Privileges::Own => Command::new("env"),
            Privileges::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.arg("env");
                sudo
            }
        };
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]);
        // Another apt may be at work, as it often is on a machine that has just been started.
        command.args(["-o", "DPkg::Lock::Timeout=300"]);
        command
    }
}

/// The version after `Candidate:` in what `apt-cache policy` says of one package.
fn candidate(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    Some(version).filter(|version| *version != "(none)")
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
}
