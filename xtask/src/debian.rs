//! Debian's packages, downloaded and unpacked, never installed: from this machine's own package lists, or from
//! those of a suite that the machine does not use.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cache::Cache, command};

/// One set of package lists: the machine's own, or a Debian suite's that is kept in the cache.
pub struct Packages {
    options: Vec<OsString>,
}

/// Ships with Debian and, as a package, with its derivatives.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Packages {
    pub fn of_this_machine() -> Self {
        Self { options: Vec::new() }
    }

    pub fn of_suite(cache: &Cache, suite: &str) -> Result<Self> {
        let mirror = mirror()?;
        ensure!(
            Path::new(DEBIAN_KEYRING).is_file(),
            "{DEBIAN_KEYRING} is missing: apt-get install debian-archive-keyring"
        );
        let folder = cache.suite(suite);
        let (lists, archives, sources) =
            (folder.join("lists"), folder.join("cache"), folder.join("sources.list"));
        fs::create_dir_all(lists.join("partial"))?;
        fs::create_dir_all(archives.join("archives/partial"))?;
        fs::write(&sources, format!("deb [signed-by={DEBIAN_KEYRING}] {mirror} {suite} main\n"))?;

        let option = |name: &str, value: &Path| {
            let mut option = OsString::from(format!("{name}="));
            option.push(value);
            option
        };
        let options = [
            option("Dir::Etc::sourcelist", &sources),
            option("Dir::Etc::sourceparts", Path::new("-")),
            option("Dir::State::lists", &lists),
            option("Dir::Cache", &archives),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        ];
        let packages = Self { options: options.to_vec() };
        eprintln!("packages: reading the package lists of {suite}");
        command::output(packages.command("apt-get").arg("update"))?;
        Ok(packages)
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = command::untranslated(program);
        // The cache may lie in a home that apt's own user cannot enter.
        command.args(["-o", "APT::Sandbox::User=root"]);
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        command
    }

    /// Whether this package can be had in a version that begins so.
    pub fn has(&self, package: &str, version: &str) -> Result<bool> {
        let policy = command::output(self.command("apt-cache").args(["policy", package]))?;
        let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        Ok(candidate.is_some_and(|candidate| candidate.starts_with(version)))
    }

    /// Downloads these packages into a folder and unpacks them into `tree`; none is installed.
    pub fn unpack(&self, names: &[String], folder: &Path, tree: &Path) -> Result<()> {
        for archive in self.download(names, folder)? {
            command::output(Command::new("dpkg-deb").arg("-x").args([archive.as_path(), tree]))?;
        }
        Ok(())
    }

    fn download(&self, names: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
        command::output(self.command("apt-get").arg("download").args(names).current_dir(folder))?;
        let mut archives = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                archives.push(path);
            }
        }
        if archives.len() != names.len() {
            bail!("apt-get download left {} of {} packages", archives.len(), names.len());
        }
        Ok(archives)
    }
}

/// The mirror that this machine takes Debian from, as its own package lists tell, or `$CALIPROBE_DEBIAN_MIRROR`.
pub fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("CALIPROBE_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let format = "$(ORIGIN)|$(LABEL)|$(REPO_URI)";
    let targets = command::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))?;
    targets.lines().find_map(|line| line.strip_prefix("Debian|Debian|")).map(str::to_owned).context(
        "this machine's apt has no Debian sources to take the kernel from. \
             Name a Debian mirror in CALIPROBE_DEBIAN_MIRROR, and have the package debian-archive-keyring",
    )
}
