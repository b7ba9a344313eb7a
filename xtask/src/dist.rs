//! `cargo xtask dist`: what is handed out, into `target/dist`: for each architecture a static program in an archive,
//! a .deb, a .rpm and an image. The same commit gives the same bytes, in whatever folder.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::{architecture::Architecture, contents::Contents, program::Program, release::Release};

mod architecture;
mod archive;
mod checks;
mod contents;
mod deb;
mod files;
mod image;
mod materials;
mod program;
mod release;
mod rpm;

#[derive(Args)]
pub struct DistArguments {
    /// For which machines; may be given several times [default: that of this machine]
    #[arg(long = "architecture", value_enum, value_name = "NAME")]
    architectures: Vec<Architecture>,
    /// Check what was made, too: installed, upgraded, used and removed in guests, and made once more in another folder.
    /// It takes a while, and installs Debian's packages of rpm, skopeo, umoci and debootstrap
    #[arg(long)]
    check: bool,
    /// Only this check; may be given several times
    #[arg(long = "only", value_enum, value_name = "CHECK", requires = "check")]
    only: Vec<checks::Check>,
}

const HOMEPAGE: &str = "https://github.com/caliprobe/caliprobe";
const LICENCE: &str = "MIT OR Apache-2.0";
const SUMMARY: &str = "shows where pod traffic of a Calico IPIP node is black-holed, and why";

/// Of the program; more would be a burden to whoever has to carry it to a node.
const LARGEST_PROGRAM: usize = 10 << 20;

pub fn run(arguments: &DistArguments) -> Result<ExitCode> {
    let root = checkout()?;
    let output = root.join("target/dist");
    let architectures = match &arguments.architectures[..] {
        [] => &[Architecture::X86_64],
        some => some,
    };
    let release = Release::of(&root)?;
    let made = make(&root, &output, &release, architectures)?;
    for file in &made {
        println!("{:>9}  {}", file.size, output.join(&file.name).display());
    }
    if arguments.check {
        checks::run(&arguments.only, &checks::Made { root: &root, folder: &output, release: &release })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of this workspace.
fn checkout() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().with_context(|| format!("{} is gone", root.display()))
}

/// One file of the result.
struct Made {
    name: String,
    /// Bytes.
    size: usize,
}

/// Builds everything of the sources in `root` into `output`, which is emptied before.
fn make(root: &Path, output: &Path, release: &Release, architectures: &[Architecture]) -> Result<Vec<Made>> {
    let mut programs = Vec::new();
    for &architecture in architectures {
        let program = Program::build(root, release, architecture)?;
        if program.bytes.len() > LARGEST_PROGRAM {
            bail!("the program has {} bytes, more than {LARGEST_PROGRAM}", program.bytes.len());
        }
        programs.push(program);
    }
    // What the program prints of itself is the same for every architecture; it is asked where it runs.
    let ours = programs.iter().find(|program| program.architecture.is_ours());
    let Some(ours) = ours else {
        bail!("manual pages and completions are printed by the program: build for this machine too");
    };
    let contents = Contents::gather(root, &ours.path)?;
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for program in &programs {
        files.extend(packed(root, release, program, &contents)?);
    }
    files.sort();
    let mut sums = String::new();
    for (name, bytes) in &files {
        writeln!(sums, "{}  {name}", archive::sha256(bytes))?;
    }
    files.push(("SHA256SUMS".to_owned(), sums.into_bytes()));

    if output.exists() {
        fs::remove_dir_all(output).with_context(|| format!("cannot empty {}", output.display()))?;
    }
    fs::create_dir_all(output)?;
    for (name, bytes) in &files {
        fs::write(output.join(name), bytes).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(files.into_iter().map(|(name, bytes)| Made { name, size: bytes.len() }).collect())
}

/// All that is made for one architecture, by name.
fn packed(
    root: &Path,
    release: &Release,
    program: &Program,
    contents: &Contents,
) -> Result<Vec<(String, Vec<u8>)>> {
    let version = &release.version;
    let (debian, rpm) = (program.architecture.debian(), program.architecture.rpm());
    let name = format!("caliprobe-{version}-linux-{rpm}");
    let materials = materials::document(root, release, program)?;
    let of_program = contents::OfProgram { program: &program.bytes, materials: &materials };
    let archive = archive::tar(&contents.archive(&of_program).below(&name), release.time)?;
    Ok(vec![
        (format!("{name}.tar.gz"), archive::gzip(&archive)?),
        (format!("{name}.cdx.json"), materials.clone()),
        (
            format!("caliprobe_{version}_{debian}.deb"),
            deb::package(&contents.debian(&of_program)?, release, program.architecture)?,
        ),
        (
            format!("caliprobe-{version}-1.{rpm}.rpm"),
            rpm::package(&contents.rpm(&of_program)?, release, program.architecture)?,
        ),
        (
            format!("caliprobe-{version}-image-{debian}.tar"),
            image::archive(&contents.image(&of_program), release, program.architecture)?,
        ),
    ])
}
