//! Which files are handed out, and where each lies in the archive, in a package and in the image.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{archive, deb, files::Files, rpm};
use crate::command;

/// What is the same for every architecture.
pub struct Contents {
    /// For people to read, as it lies in the sources: README, licences, `docs`, `deploy`.
    documents: Files,
    /// The manual pages by name.
    manual: Files,
    completions: Completions,
    /// A configuration with everything at its default.
    configuration: Vec<u8>,
    unit: String,
    debian: Vec<(&'static str, Vec<u8>)>,
    rpm: [String; 3],
}

/// Scripts for shells.
struct Completions {
    bash: Vec<u8>,
    zsh: Vec<u8>,
    fish: Vec<u8>,
}

/// What differs.
pub struct OfProgram<'a> {
    pub program: &'a [u8],
    /// The bill of materials.
    pub materials: &'a [u8],
}

const MATERIALS: &str = "caliprobe.cdx.json";
const CONFIGURATION: &str = "etc/caliprobe/caliprobe.toml";
const UNIT: &str = "usr/lib/systemd/system/caliprobe.service";
const MANUAL: &str = "usr/share/man/man1";
const DOCUMENTS: &str = "usr/share/doc/caliprobe";
/// In the unit of the sources: where who installs by hand puts the program.
const BY_HAND: &str = "/usr/local/bin/caliprobe";
const PACKAGED: &str = "/usr/bin/caliprobe";
/// `kubectl caliprobe` runs it.
const PLUGIN: &str = "kubectl-caliprobe";

/// Of `deploy`: what who runs caliprobe needs. The rest is for who builds it.
const DEPLOYED: [&str; 5] = ["grafana", "krew", "kubernetes", "prometheus", "systemd"];
const DEBIAN_SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
const RPM_SCRIPTS: [&str; 3] = ["post", "preun", "postun"];

impl Contents {
    /// Reads the sources, and asks the program for what it prints of itself.
    pub fn gather(root: &Path, program: &Path) -> Result<Self> {
        let read = |path: &str| fs::read(root.join(path)).with_context(|| format!("cannot read {path}"));
        let print = |arguments: &[&str]| -> Result<Vec<u8>> {
            Ok(command::output(Command::new(program).args(arguments))?.into_bytes())
        };
        let scripts = root.join("deploy/packages");
        let script = |folder: &str, name: &str| {
            let path = scripts.join(folder).join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let mut debian = Vec::new();
        for name in DEBIAN_SCRIPTS {
            debian.push((name, script("debian", name)?.into_bytes()));
        }
        let [post, preun, postun] = RPM_SCRIPTS.map(|name| script("rpm", name));
        let unit = String::from_utf8(read("deploy/systemd/caliprobe.service")?)?;
        ensure!(unit.matches(BY_HAND).count() == 1, "the unit does not run {BY_HAND}");
        Ok(Self {
            documents: documents(root)?,
            manual: manual(program)?,
            completions: Completions {
                bash: print(&["completions", "bash"])?,
                zsh: print(&["completions", "zsh"])?,
                fish: print(&["completions", "fish"])?,
            },
            configuration: print(&["run", "--print-config"])?,
            unit,
            debian,
            rpm: [post?, preun?, postun?],
        })
    }

    /// What who installs by hand unpacks.
    pub fn archive(&self, of: &OfProgram<'_>) -> Files {
        let mut files = self.documents.clone();
        files.add_program("caliprobe", of.program);
        files.link(PLUGIN, "caliprobe");
        files.add(MATERIALS, of.materials);
        files.add("caliprobe.toml", self.configuration.clone());
        files.add_all("man/man1", &self.manual);
        files.add("completions/caliprobe.bash", self.completions.bash.clone());
        files.add("completions/_caliprobe", self.completions.zsh.clone());
        files.add("completions/caliprobe.fish", self.completions.fish.clone());
        files
    }

    pub fn debian(&self, of: &OfProgram<'_>) -> Result<deb::Package> {
        let mut files = self.packaged(of)?;
        files.add("usr/share/zsh/vendor-completions/_caliprobe", self.completions.zsh.clone());
        files.add(&format!("{DOCUMENTS}/copyright"), COPYRIGHT);
        Ok(deb::Package {
            files,
            scripts: self.debian.clone(),
            configuration: vec![format!("/{CONFIGURATION}")],
        })
    }

    pub fn rpm(&self, of: &OfProgram<'_>) -> Result<rpm::Package> {
        let mut files = self.packaged(of)?;
        files.add("usr/share/zsh/site-functions/_caliprobe", self.completions.zsh.clone());
        let [after_install, before_removal, after_removal] = self.rpm.clone();
        Ok(rpm::Package {
            files,
            configuration: vec![CONFIGURATION.to_owned()],
            after_install,
            before_removal,
            after_removal,
        })
    }

    /// The root of a container: the program, and what may not be left out where it is passed on.
    pub fn image(&self, of: &OfProgram<'_>) -> Files {
        let mut files = Files::default();
        files.add_program("caliprobe", of.program);
        files.link("usr/bin/caliprobe", "/caliprobe");
        files.add(MATERIALS, of.materials);
        for (path, entry) in self.documents.iter().filter(|(path, _)| path.starts_with("LICENSE-")) {
            files.put(&format!("licenses/{path}"), entry.clone());
        }
        files
    }

    /// What is the same for dpkg and rpm.
    fn packaged(&self, of: &OfProgram<'_>) -> Result<Files> {
        let mut files = Files::default();
        files.add_program("usr/bin/caliprobe", of.program);
        files.link(&format!("usr/bin/{PLUGIN}"), "caliprobe");
        files.add(CONFIGURATION, self.configuration.clone());
        files.add(UNIT, self.unit.replace(BY_HAND, PACKAGED));
        for (name, bytes) in self.manual.contents() {
            files.add(&format!("{MANUAL}/{name}.gz"), archive::gzip(bytes)?);
        }
        files.add("usr/share/bash-completion/completions/caliprobe", self.completions.bash.clone());
        files.add("usr/share/fish/vendor_completions.d/caliprobe.fish", self.completions.fish.clone());
        files.add_all(DOCUMENTS, &self.documents);
        files.add(&format!("{DOCUMENTS}/{MATERIALS}"), of.materials);
        Ok(files)
    }
}

fn documents(root: &Path) -> Result<Files> {
    let mut files = Files::default();
    for entry in sorted(root)? {
        let name = entry.to_string_lossy().into_owned();
        let is_document = name.starts_with("LICENSE-")
            || (Path::new(&name).extension().is_some_and(|extension| extension == "md")
                && root.join(&entry).is_file());
        if is_document {
            files.add(&name, read(&root.join(&entry))?);
        }
    }
    add_folder(&mut files, root, "docs")?;
    for folder in DEPLOYED {
        let path = format!("deploy/{folder}");
        if root.join(&path).is_dir() {
            add_folder(&mut files, root, &path)?;
        }
    }
    files.add("INSTALL.md", read(&root.join("deploy/packages/INSTALL.md"))?);
    Ok(files)
}

fn add_folder(files: &mut Files, root: &Path, folder: &str) -> Result<()> {
    for name in sorted(&root.join(folder))? {
        let path = format!("{folder}/{}", name.to_string_lossy());
        if root.join(&path).is_dir() {
            add_folder(files, root, &path)?;
        } else {
            files.add(&path, read(&root.join(&path))?);
        }
    }
    Ok(())
}

fn manual(program: &Path) -> Result<Files> {
    let folder = tempfile::tempdir()?;
    command::output(Command::new(program).args([OsStr::new("manual"), folder.path().as_os_str()]))?;
    let mut files = Files::default();
    for name in sorted(folder.path())? {
        files.add(&name.to_string_lossy(), read(&folder.path().join(&name))?);
    }
    Ok(files)
}

/// The names of what is in a folder.
fn sorted(folder: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// In the form of <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>.
const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: caliprobe
Source: https://github.com/caliprobe/caliprobe

Files: *
Copyright: The caliprobe developers
License: MIT or Apache-2.0
Comment: The kernel programs within /usr/bin/caliprobe are MIT or GPL-2.0. The texts lie beside this file as
 LICENSE-MIT, LICENSE-APACHE and LICENSE-GPL-2.0. The crates that are linked, each with its licence, are listed
 in caliprobe.cdx.json.
";
