//! Writes anew the outputs that pages show; `cargo xtask docs` runs it.

#[path = "../tests/documentation/outputs.rs"]
mod outputs;
#[path = "../tests/documentation/pages.rs"]
mod pages;

use std::fs;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    for path in pages::all()? {
        let page = fs::read_to_string(&path)?;
        let refreshed = outputs::refreshed(&page).with_context(|| path.display().to_string())?;
        if refreshed != page {
            fs::write(&path, refreshed).with_context(|| format!("cannot write {}", path.display()))?;
            let name = path.file_name().unwrap_or_default();
            println!("{}", name.display());
        }
    }
    Ok(())
}
