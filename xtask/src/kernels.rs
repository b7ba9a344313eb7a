//! The kernels that the lab runs on: Debian's cloud images, downloaded and unpacked into the cache, never installed.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context as _, Result, ensure};

use crate::{cache::Cache, command, debian::Packages};

/// A line of kernels; which release of it is taken is asked of the package lists each time that one is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Series {
    V5_10,
    V6_1,
    V6_12,
    /// The newest kernel that Debian builds for a stable release.
    Newest,
}

impl Series {
    pub const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::Newest];

    pub const fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// The Debian suite that has this series if the machine's own suites do not.
    const fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::Newest => "trixie-backports",
        }
    }

    /// Whether `linux-image-RELEASE` belongs to this series. A name that ends after two numbers is a metapackage.
    fn has(self, release: &Release) -> bool {
        release.numbers.len() > 2
            && match self {
                Self::V5_10 => release.numbers.starts_with(&[5, 10]),
                Self::V6_1 => release.numbers.starts_with(&[6, 1]),
                Self::V6_12 => release.numbers.starts_with(&[6, 12]),
                Self::Newest => true,
            }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What `--kernel` takes: a series, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    One(Series),
    All,
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        Series::ALL
            .into_iter()
            .find(|series| series.name() == text)
            .map(Self::One)
            .ok_or_else(|| "the lab's kernels are 5.10, 6.1, 6.12, newest and all".to_owned())
    }
}

/// The selected kernels, oldest first and each once; `otherwise` if none was selected.
pub fn selected(selections: &[Selection], otherwise: &[Series]) -> Vec<Series> {
    let mut series: Vec<Series> = selections
        .iter()
        .flat_map(|selection| match selection {
            Selection::One(series) => vec![*series],
            Selection::All => Series::ALL.to_vec(),
        })
        .collect();
    if series.is_empty() {
        series.extend(otherwise);
    }
    series.sort_unstable();
    series.dedup();
    series
}

/// An unpacked kernel: `FOLDER/vmlinuz` and `FOLDER/lib/modules/RELEASE` with its `modules.dep`.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub series: Series,
    /// As `uname -r` prints it.
    pub release: String,
    folder: PathBuf,
}

impl Kernel {
    /// The kernel of this series in the cache.
    pub fn cached(cache: &Cache, series: Series) -> Option<Self> {
        let folder = cache.kernel(series.name());
        let release = only_entry(&folder.join("lib/modules")).ok()?;
        Some(Self { series, release, folder })
    }

    /// The kernel of this series; it is downloaded if the cache has none.
    pub fn obtain(cache: &Cache, series: Series) -> Result<Self> {
        if let Some(kernel) = Self::cached(cache, series) {
            return Ok(kernel);
        }
        let _lock = cache.lock()?;
        if let Some(kernel) = Self::cached(cache, series) {
            return Ok(kernel);
        }
        fetch(cache, series).with_context(|| format!("cannot get a {series} kernel for the lab"))?;
        Self::cached(cache, series).with_context(|| format!("the package of kernel {series} has no modules"))
    }

    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }
}

fn fetch(cache: &Cache, series: Series) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the lab's guests share the host's programs and are built for x86_64 only"
    );
    ensure!(
        command::find_program("apt-get").is_some(),
        "there is no apt here; the kernels are Debian's linux-image-*-cloud-amd64 packages. \
         Unpacked as {0}/vmlinuz and {0}/lib/modules/RELEASE (with depmod run) one is used as it is",
        cache.kernel(series.name()).display()
    );
    let machine = Packages::of_this_machine();
    if series != Series::Newest
        && let Some(image) = newest_image(&machine, series)?
    {
        // Lists of a machine that was not updated for long name packages that are gone: then the suite is asked.
        match unpack(cache, series, &machine, &image) {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("kernel {series}: {error:#}"),
        }
    }
    let suite = Packages::of_suite(cache, series.suite())?;
    let image = newest_image(&suite, series)?
        .with_context(|| format!("{} has no linux-image-{series}*-cloud-amd64", series.suite()))?;
    unpack(cache, series, &suite, &image)
}

/// Downloads and unpacks beside the cache's folder and renames it into place, so that there is never half a kernel.
fn unpack(cache: &Cache, series: Series, packages: &Packages, image: &str) -> Result<()> {
    eprintln!("kernel {series}: fetching {image}");
    let workspace = cache.workspace()?;
    let tree = workspace.path().join("tree");
    let mut names = parts_of(packages, image)?;
    names.push(image.to_owned());
    packages.unpack(&names, workspace.path(), &tree)?;

    let modules = ["lib/modules", "usr/lib/modules"].map(|place| tree.join(place));
    let modules = modules.iter().find(|place| place.is_dir()).context("the package has no modules")?;
    let release = only_entry(modules)?;
    let images =
        [tree.join("boot").join(format!("vmlinuz-{release}")), modules.join(&release).join("vmlinuz")];
    let image = images.iter().find(|path| path.is_file()).context("the package has no vmlinuz")?;

    let kernel = workspace.path().join("kernel");
    fs::create_dir_all(kernel.join("lib"))?;
    fs::rename(image, kernel.join("vmlinuz"))?;
    fs::rename(modules, kernel.join("lib/modules"))?;
    let depmod = command::find_program("depmod").context("depmod is missing (package kmod)")?;
    command::output(Command::new(depmod).arg("-b").arg(&kernel).arg(&release))?;

    let place = cache.kernel(series.name());
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(&kernel, &place).with_context(|| format!("cannot put the kernel into {}", place.display()))
}

fn only_entry(folder: &Path) -> Result<String> {
    let mut entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let entry = entries.next().with_context(|| format!("{} is empty", folder.display()))??;
    entry.file_name().into_string().ok().with_context(|| format!("odd name in {}", folder.display()))
}

fn newest_image(packages: &Packages, series: Series) -> Result<Option<String>> {
    let names = command::output(packages.command("apt-cache").args(["pkgnames", "linux-image-"]))?;
    Ok(newest(names.lines(), series))
}

/// From 7.0 on an image is a metapackage of `linux-binary-RELEASE` and `linux-modules-RELEASE`.
fn parts_of(packages: &Packages, image: &str) -> Result<Vec<String>> {
    let depends = command::output(packages.command("apt-cache").args(["depends", "--important", image]))?;
    Ok(depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"))
        .map(str::to_owned)
        .collect())
}

fn newest<'a>(names: impl Iterator<Item = &'a str>, series: Series) -> Option<String> {
    names
        .filter_map(|name| Some((Release::of_image(name)?, name)))
        .filter(|(release, _)| series.has(release))
        .max()
        .map(|(_, name)| name.to_owned())
}

/// The numbers of a release in order: `6.12.117+deb12` is 6, 12, 117, 12.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Release {
    numbers: Vec<u64>,
}

impl Release {
    fn of_image(package: &str) -> Option<Self> {
        let release = package.strip_prefix("linux-image-")?.strip_suffix("-cloud-amd64")?;
        let digits = release.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
        Some(Self { numbers: digits.map(|digits| digits.parse().ok()).collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 10] = [
        "linux-image-6.1.0-50-cloud-amd64",
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.12.117+deb12-cloud-amd64",
        "linux-image-6.12.99+deb12-cloud-amd64",
        "linux-image-6.12-cloud-amd64",
        "linux-image-cloud-amd64",
        "linux-image-7.3.4+deb13-cloud-amd64",
        "linux-image-7.3.4+deb13-amd64",
        "linux-image-7.9.4+deb13-cloud-amd64-unsigned",
        "linux-image-7.3.4+deb13-cloud-amd64-dbg",
    ];

    #[test]
    fn the_newest_release_of_a_series_is_taken() {
        let newest = |series| newest(NAMES.into_iter(), series);
        assert_eq!(newest(Series::V6_1).as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(newest(Series::V6_12).as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(newest(Series::Newest).as_deref(), Some("linux-image-7.3.4+deb13-cloud-amd64"));
        assert_eq!(newest(Series::V5_10), None);
    }

    #[test]
    fn kernels_are_named_once_and_oldest_first() {
        let chosen = ["6.12", "6.1", "6.12"].map(|text| text.parse().unwrap());
        assert_eq!(selected(&chosen, &[]), [Series::V6_1, Series::V6_12]);
        assert_eq!(selected(&[Selection::All], &[]), Series::ALL);
        assert_eq!(selected(&[], &[Series::V6_12]), [Series::V6_12]);
        assert!("6.2".parse::<Selection>().unwrap_err().contains("newest"));
    }
}
