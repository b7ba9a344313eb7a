//! `cargo xtask docs`: what is generated from the code, for people to read.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{binaries::cargo, command};

#[cfg(test)]
#[path = "../../probe/tests/documentation/commands.rs"]
mod commands;
#[cfg(test)]
#[path = "../../probe/tests/documentation/pages.rs"]
mod pages;

const METRICS: &str = "docs/metrics.md";

pub fn run() -> Result<ExitCode> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(METRICS);
    fs::write(&path, example("metrics-reference")?).with_context(|| format!("cannot write {METRICS}"))?;
    println!("docs: {METRICS} is written");
    for page in example("refresh-pages")?.lines() {
        println!("docs: the outputs in {page} are written anew");
    }
    Ok(ExitCode::SUCCESS)
}

/// What an example of caliprobe prints.
fn example(name: &str) -> Result<String> {
    let mut example = cargo();
    example.args(["run", "--quiet", "--package", "caliprobe", "--example", name]);
    command::output(&mut example)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::{commands, pages};
    use crate::Arguments;

    #[test]
    fn every_task_that_a_page_names_is_there() {
        let mut wrong = Vec::new();
        let mut understood = 0;
        for path in pages::all().expect("the pages are there") {
            let page = fs::read_to_string(&path).expect("a page is text");
            for words in commands::calls(&page, &["cargo", "xtask"]) {
                understood += 1;
                if let Err(error) = Arguments::try_parse_from(&words[1..])
                    && !commands::may_stand(&words, &error)
                {
                    wrong.push(format!("{}: {}: {error}", path.display(), words.join(" ")));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(understood > 10, "only {understood} tasks were found");
    }
}
