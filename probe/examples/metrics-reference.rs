//! Prints `docs/metrics.md`; `cargo xtask docs` writes it.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(caliprobe::report::metrics::reference().as_bytes())
}
