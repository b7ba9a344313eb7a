//! `caliprobe completions`: what a shell needs to complete the command line.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_complete::{generate, shells};

use super::standard_output;
use crate::{
    cli::{Cli, CompletionsArgs, Shell},
    exit::Exit,
};

/// Prints the script.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    standard_output::lock().write_all(&script(args.shell))?;
    Ok(Exit::Fine)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, name, &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, name, &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, name, &mut script),
    }
    script
}
