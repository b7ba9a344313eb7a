//! A package for Fedora, Enterprise Linux, openSUSE and their like.

use anyhow::Result;
use rpm::{BuildConfig, CompressionType, FileOptions, PackageBuilder};

use super::{
    architecture::Architecture,
    files::{Entry, Files},
    release::Release,
};

/// What a package is: its files, and what rpm runs.
pub struct Package {
    pub files: Files,
    /// Files that belong to the administrator once they are there, as paths of `files`.
    pub configuration: Vec<String>,
    pub after_install: String,
    pub before_removal: String,
    pub after_removal: String,
}

/// Folders that other packages own.
const OF_OTHERS: [&str; 14] = [
    "etc",
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/lib/systemd",
    "usr/lib/systemd/system",
    "usr/share",
    "usr/share/bash-completion",
    "usr/share/bash-completion/completions",
    "usr/share/doc",
    "usr/share/fish",
    "usr/share/man",
    "usr/share/man/man1",
    "usr/share/zsh",
];

/// The bytes of the .rpm.
pub fn package(package: &Package, release: &Release, architecture: Architecture) -> Result<Vec<u8>> {
    // Gzip, which every rpm since 2003 unpacks.
    let config = BuildConfig::v4().compression(CompressionType::Gzip).source_date(release.time);
    let mut builder = PackageBuilder::new(
        "caliprobe",
        &release.version,
        super::LICENCE,
        architecture.rpm(),
        super::SUMMARY,
    );
    builder
        .using_config(config)
        .release("1")
        .url(super::HOMEPAGE)
        .build_host("localhost")
        .description(super::SUMMARY)
        .post_install_script(package.after_install.as_str())
        .pre_uninstall_script(package.before_removal.as_str())
        .post_uninstall_script(package.after_removal.as_str());
    for (path, entry) in package.files.iter() {
        let place = format!("/{path}");
        match entry {
            Entry::Folder if OF_OTHERS.contains(&path) => {}
            Entry::Folder => {
                builder.with_dir_entry(FileOptions::dir(place).permissions(0o755))?;
            }
            Entry::Link { to } => {
                builder.with_symlink(FileOptions::symlink(place, to))?;
            }
            Entry::File { bytes, .. } => {
                let mut options = FileOptions::new(place).permissions(u16::try_from(entry.mode())?);
                if package.configuration.iter().any(|file| file == path) {
                    options = options.config().noreplace();
                }
                builder.with_file_contents(bytes.clone(), options)?;
            }
        }
    }
    let mut bytes = Vec::new();
    builder.build()?.write(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_what_was_put_in_each_time() {
        let mut files = Files::default();
        files.add_program("usr/bin/caliprobe", "program");
        files.link("usr/bin/kubectl-caliprobe", "caliprobe");
        files.add("etc/caliprobe/caliprobe.toml", "");
        let package = Package {
            files,
            configuration: vec!["etc/caliprobe/caliprobe.toml".to_owned()],
            after_install: "true".to_owned(),
            before_removal: "true".to_owned(),
            after_removal: "true".to_owned(),
        };
        let release = Release { version: "0.1.0".to_owned(), commit: None, time: 1_700_000_000 };
        let bytes = super::package(&package, &release, Architecture::Aarch64).unwrap();
        assert_eq!(bytes, super::package(&package, &release, Architecture::Aarch64).unwrap());
        let read = rpm::Package::parse(&mut &bytes[..]).unwrap();
        assert_eq!(read.metadata.get_arch().unwrap(), "aarch64");
        let paths: Vec<_> = read.metadata.get_file_paths().unwrap();
        let paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "/etc/caliprobe",
                "/etc/caliprobe/caliprobe.toml",
                "/usr/bin/caliprobe",
                "/usr/bin/kubectl-caliprobe"
            ]
        );
        assert_eq!(read.metadata.get_build_time().unwrap(), 1_700_000_000);
    }
}
