//! The pages that people read: those at the top of the repository and those in `docs/`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The top of the repository.
pub const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Every page, in order.
pub fn all() -> io::Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for folder in [Path::new(TOP).to_owned(), Path::new(TOP).join("docs")] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    Ok(pages)
}
