//! Files of other programs, read within bounds.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// More than any file that is read here has on a real node.
const LARGEST: u64 = 1 << 20;

/// Reads a small text file; what is not UTF-8 is replaced, what is beyond the bound is an error.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("larger than {LARGEST} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
