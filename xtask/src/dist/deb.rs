//! A package for Debian and its derivatives: an `ar` archive of two tar archives (deb(5)). It is so little that no
//! library is asked.

use anyhow::Result;

use super::{architecture::Architecture, archive, files::Files, release::Release};

/// What a package is: its files, and what dpkg runs and knows.
pub struct Package {
    pub files: Files,
    /// The scripts of dpkg by name, such as `postinst`.
    pub scripts: Vec<(&'static str, Vec<u8>)>,
    /// Files that belong to the administrator once they are there, with a slash at the beginning.
    pub configuration: Vec<String>,
}

/// The bytes of the .deb.
pub fn package(package: &Package, release: &Release, architecture: Architecture) -> Result<Vec<u8>> {
    let mut control = Files::default();
    control.add("control", control_file(package, release, architecture));
    control.add("conffiles", package.configuration.join("\n") + "\n");
    for (name, script) in &package.scripts {
        control.add_program(name, script.clone());
    }
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", archive::gzip(&archive::tar(&control, release.time)?)?),
        ("data.tar.gz", archive::gzip(&archive::tar(&package.files, release.time)?)?),
    ] {
        add_member(&mut bytes, name, release.time, &content);
    }
    Ok(bytes)
}

fn control_file(package: &Package, release: &Release, architecture: Architecture) -> String {
    format!(
        "Package: caliprobe\n\
         Version: {}\n\
         Architecture: {}\n\
         Maintainer: The caliprobe developers\n\
         Installed-Size: {}\n\
         Section: net\n\
         Priority: optional\n\
         Homepage: {}\n\
         Description: {}\n \
         caliprobe follows packets between pods through every point of their path, joins\n \
         what it saw with routes, rules, neighbours and drop reasons, and says where they\n \
         are lost, why, and what to type. It changes no packet, no route and no rule.\n",
        release.version,
        architecture.debian(),
        // KiB.
        package.files.size().div_ceil(1024),
        super::HOMEPAGE,
        super::SUMMARY,
    )
}

/// A header of sixty bytes in columns (ar(5)), and the content at an even place.
fn add_member(archive: &mut Vec<u8>, name: &str, time: u32, content: &[u8]) {
    let size = content.len();
    archive.extend(
        format!("{name:<16}{time:<12}{0:<6}{0:<6}{mode:<8}{size:<10}`\n", 0, mode = "100644").bytes(),
    );
    archive.extend(content);
    if size % 2 == 1 {
        archive.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;
    use crate::command;

    #[test]
    fn dpkg_reads_the_package() {
        let mut files = Files::default();
        files.add_program("usr/bin/caliprobe", "#!/bin/sh\necho odd\n");
        files.add("etc/caliprobe/caliprobe.toml", "");
        let package = Package {
            files,
            scripts: vec![("postinst", b"#!/bin/sh\n".to_vec())],
            configuration: vec!["/etc/caliprobe/caliprobe.toml".to_owned()],
        };
        let release = Release { version: "0.1.0".to_owned(), commit: None, time: 1_700_000_000 };
        let bytes = super::package(&package, &release, Architecture::X86_64).unwrap();
        assert_eq!(bytes, super::package(&package, &release, Architecture::X86_64).unwrap());
        if command::find_program("dpkg-deb").is_none() {
            eprintln!("SKIPPED: there is no dpkg-deb here");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("caliprobe.deb");
        fs::write(&path, bytes).unwrap();
        let dpkg = |arguments: &[&str]| command::output(Command::new("dpkg-deb").args(arguments).arg(&path));
        let shown = dpkg(&["--show", "--showformat=${Package} ${Version} ${Architecture} ${Installed-Size}"])
            .unwrap();
        assert_eq!(shown, "caliprobe 0.1.0 amd64 1");
        let list = dpkg(&["--contents"]).unwrap();
        assert!(list.contains("-rwxr-xr-x root/root"), "{list}");
        let control = folder.path().join("control");
        command::output(Command::new("dpkg-deb").arg("--control").arg(&path).arg(&control)).unwrap();
        assert_eq!(fs::read_to_string(control.join("conffiles")).unwrap(), "/etc/caliprobe/caliprobe.toml\n");
        assert!(command::is_program(&control.join("postinst")));
    }
}
