//! Checks of what `dist` made, by the programs that will take it: dpkg with systemd in a fresh Debian, rpm, skopeo and
//! umoci, and a node of the lab that has nothing but the archive.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use super::{
    architecture::Architecture,
    contents::{Contents, OfProgram},
    deb, make,
    release::Release,
};
use crate::{
    binaries::Binaries,
    bird,
    cache::Cache,
    command::{self, line, output},
    debian,
    guest::Guest,
    kernels::{Kernel, Series},
    setup,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// The archive alone, on nodes with the oldest and the newest kernel
    Archive,
    /// Installed, upgraded, removed and purged in a fresh Debian that systemd runs
    Debian,
    /// What rpm says of the package, and a database of its own into which it is installed
    Rpm,
    /// What skopeo and umoci read of the image, and what is in it, run by nobody
    Image,
    /// Made once more in another folder: the same bytes
    Again,
}

/// What there is to check. All of it is for this machine's architecture.
pub struct Made<'a> {
    pub root: &'a Path,
    pub folder: &'a Path,
    pub release: &'a Release,
}

/// Debian's packages with the programs that judge.
const JUDGES: [&str; 6] = ["cpio", "debootstrap", "rpm", "rpm2cpio", "skopeo", "umoci"];
const ARCHITECTURE: Architecture = Architecture::X86_64;
/// Guests are emulated.
const TIME_LIMIT: Duration = Duration::from_mins(20);
/// Debian's release that the package is installed in.
const SUITE: &str = "bookworm";

/// Runs them, all without any that is named; the first one that fails is an error.
pub fn run(wanted: &[Check], made: &Made<'_>) -> Result<()> {
    let wanted = if wanted.is_empty() { Check::value_variants() } else { wanted };
    ensure!(command::is_root(), "the checks install packages and start guests: run them as root");
    setup::ensure_programs(&JUDGES)?;
    for check in wanted {
        match check {
            Check::Archive => archive(made),
            Check::Debian => debian(made),
            Check::Rpm => rpm(made),
            Check::Image => image(made),
            Check::Again => again(made),
        }
        .with_context(|| format!("the check `{check:?}` failed"))?;
        println!("good  {check:?}");
    }
    Ok(())
}

impl Made<'_> {
    /// The file that has this ending.
    fn file(&self, ending: &str) -> Result<PathBuf> {
        for entry in fs::read_dir(self.folder)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(ending) {
                return Ok(path);
            }
        }
        bail!("there is no *{ending} in {}", self.folder.display())
    }
}

/// The notes of the archive are followed as they are written, in a guest without a network, and the scenarios of the lab
/// are run by the program that they installed.
fn archive(made: &Made<'_>) -> Result<()> {
    let cache = Cache::open()?;
    let (lab, bird) = (Binaries::build()?.lab, bird::obtain(&cache)?);
    let archive = made.file(&format!("linux-{}.tar.gz", ARCHITECTURE.rpm()))?;
    for (series, preflight) in [(Series::V5_10, "preflight-old-kernel"), (Series::Newest, "preflight")] {
        let mut script: Vec<OsString> = vec!["bash".into(), scripts(made).join("archive.sh").into()];
        script.extend([
            archive.clone().into(),
            lab.clone().into(),
            bird.clone().into(),
            series.name().into(),
        ]);
        for scenario in [preflight, "check-healthy-bgp", "block-route-missing"] {
            script.push(made.root.join("tests/scenarios").join(format!("{scenario}.toml")).into());
        }
        in_guest(&cache, series, &script)?;
    }
    Ok(())
}

/// In a guest, whose kernel a fresh Debian with its own systemd shares. There is no older release: the same contents with
/// a lower version stand for one.
fn debian(made: &Made<'_>) -> Result<()> {
    let cache = Cache::open()?;
    let folder = tempfile::tempdir()?;
    let older = folder.path().join("older.deb");
    fs::write(&older, older_package(made)?)?;
    let script: Vec<OsString> = vec![
        "bash".into(),
        scripts(made).join("debian.sh").into(),
        debian_root(&cache)?.into(),
        older.into(),
        made.file(&format!("_{}.deb", ARCHITECTURE.debian()))?.into(),
        scripts(made).join("debian-inside.sh").into(),
    ];
    in_guest(&cache, Series::V6_12, &script)
}

fn older_package(made: &Made<'_>) -> Result<Vec<u8>> {
    let program = made.root.join("target").join(ARCHITECTURE.target()).join("dist/caliprobe");
    let bytes = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let contents = Contents::gather(made.root, &program)?;
    let older = Release { version: "0.0.9".to_owned(), ..made.release.clone() };
    deb::package(&contents.debian(&OfProgram { program: &bytes, materials: b"{}" })?, &older, ARCHITECTURE)
}

/// A fresh Debian with systemd, kept in the cache: nothing changes it, for guests write to their own memory.
fn debian_root(cache: &Cache) -> Result<PathBuf> {
    let place = cache.debian(SUITE);
    if !place.exists() {
        let _lock = cache.lock()?;
        let workspace = cache.workspace()?;
        let root = workspace.path().join("root");
        eprintln!("dist: debootstrap {SUITE}");
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", "--include=systemd,systemd-sysv", SUITE]).arg(&root);
        output(debootstrap.arg(debian::mirror()?))?;
        fs::rename(&root, &place).with_context(|| format!("cannot put it into {}", place.display()))?;
    }
    Ok(place)
}

fn rpm(made: &Made<'_>) -> Result<()> {
    let package = made.file(&format!(".{}.rpm", ARCHITECTURE.rpm()))?;
    let folder = tempfile::tempdir()?;
    let mut script = Command::new("bash");
    script.arg(scripts(made).join("rpm.sh")).arg(&package).arg(&made.release.version);
    print!("{}", output(script.current_dir(folder.path()))?);
    Ok(())
}

fn image(made: &Made<'_>) -> Result<()> {
    let image = made.file(&format!("image-{}.tar", ARCHITECTURE.debian()))?;
    let folder = tempfile::tempdir()?;
    let mut script = Command::new("bash");
    script.arg(scripts(made).join("image.sh")).arg(&image).arg(&made.release.version);
    print!("{}", output(script.current_dir(folder.path()))?);
    Ok(())
}

/// Clones the commit into another folder and makes everything there.
fn again(made: &Made<'_>) -> Result<()> {
    ensure!(made.release.commit.is_some(), "only what is committed can be made again: commit first");
    let folder = tempfile::Builder::new().prefix("caliprobe-made-again-").tempdir()?;
    let root = folder.path().canonicalize()?.join("a/deeper/folder");
    output(Command::new("git").args(["clone", "--quiet"]).arg(made.root).arg(&root))?;
    let second = root.join("target/dist");
    make(&root, &second, &Release::of(&root)?, &[ARCHITECTURE])?;
    for entry in fs::read_dir(&second)? {
        let name = entry?.file_name();
        let [first, second] = [made.folder, &second].map(|folder| fs::read(folder.join(&name)));
        if name == "SHA256SUMS" {
            print!("{}", String::from_utf8_lossy(&second?));
            continue;
        }
        ensure!(first? == second?, "{} is not the same", name.display());
    }
    Ok(())
}

fn scripts(made: &Made<'_>) -> PathBuf {
    made.root.join("xtask/src/dist/checks")
}

fn in_guest(cache: &Cache, series: Series, command: &[OsString]) -> Result<()> {
    let kernel = Kernel::obtain(cache, series)?;
    println!("on Linux {}:", kernel.release);
    let code = Guest { kernel: &kernel, time_limit: TIME_LIMIT }.run(command, &mut io::stdout())?;
    let typed = line(Command::new(&command[0]).args(&command[1..]));
    ensure!(code == 0, "exit code {code} of {typed} in {}", env::current_dir()?.display());
    Ok(())
}
