//! `caliprobe manual`: the manual pages, from the same words as `--help`.

use std::{
    fs,
    io::{self, Write as _},
};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use super::standard_output;
use crate::{
    cli::{Cli, ManualArgs},
    exit::Exit,
};

/// The section of the manual for programs.
const SECTION: &str = "1";

/// One page.
pub struct Page {
    /// The name of its file, such as `caliprobe-check.1`.
    pub file: String,
    /// As `man` reads it.
    pub text: Vec<u8>,
}

/// Writes the pages into a folder, and says their names.
pub fn run(args: &ManualArgs) -> anyhow::Result<Exit> {
    let pages = pages()?;
    fs::create_dir_all(&args.folder)
        .with_context(|| format!("cannot make the folder {}", args.folder.display()))?;
    let mut out = standard_output::lock();
    for page in pages {
        let path = args.folder.join(&page.file);
        fs::write(&path, page.text).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(Exit::Fine)
}

/// A page for caliprobe, and one for each command that people type.
pub fn pages() -> io::Result<Vec<Page>> {
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    add_pages(&root, &mut pages)?;
    Ok(pages)
}

fn add_pages(command: &clap::Command, pages: &mut Vec<Page>) -> io::Result<()> {
    pages.push(page(command)?);
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add_pages(below, pages)?;
    }
    Ok(())
}

fn page(command: &clap::Command) -> io::Result<Page> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let version = concat!("caliprobe ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(&name).section(SECTION).source(version).manual("caliprobe");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut text)?;
    }
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(after) = command.get_after_help() {
        text.extend(sections(&after.to_string()).to_roff().bytes());
    }
    Ok(Page { file: format!("{name}.{SECTION}"), text })
}

/// What stands after the help: a line that ends with a colon heads a section, the lines below it are kept as they are.
fn sections(after: &str) -> Roff {
    let mut roff = Roff::new();
    for line in after.lines() {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            Some(heading) => {
                roff.control("fi", []).control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
            }
            None => {
                roff.text([roman(line)]);
            }
        }
    }
    roff.control("fi", []);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_people_type_has_a_page() {
        let pages = pages().unwrap();
        let files: Vec<&str> = pages.iter().map(|page| page.file.as_str()).collect();
        insta::assert_snapshot!(files.join("\n"));
    }

    #[test]
    fn a_page_has_options_examples_and_exit_codes() {
        let pages = pages().unwrap();
        let page = |file: &str| {
            let page = pages.iter().find(|page| page.file == file).unwrap();
            String::from_utf8(page.text.clone()).unwrap()
        };
        insta::assert_snapshot!(page("caliprobe-version.1"));
        let root = page("caliprobe.1");
        assert!(root.contains(".SH \"EXIT CODES\"\n.nf"), "{root}");
        assert!(root.contains("caliprobe\\-diagnose(1)"), "{root}");
    }
}
