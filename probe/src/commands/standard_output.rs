//! Standard output for verdicts: a reader who leaves early, such as `head`, does not change the exit code.

use std::io::{self, StdoutLock, Write};

/// What is written after the reader has gone is thrown away.
pub struct StandardOutput<W = StdoutLock<'static>>(W);

/// Standard output, held until this is dropped.
pub fn lock() -> StandardOutput {
    StandardOutput(io::stdout().lock())
}

impl<W: Write> Write for StandardOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).or_else(|error| if_read(error).map(|()| bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().or_else(if_read)
    }
}

/// The error, unless it says that nobody reads any more.
fn if_read(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_left_is_no_error() {
        let mut left = StandardOutput(Fails(io::ErrorKind::BrokenPipe));
        assert!(left.write_all(b"a verdict").and_then(|()| left.flush()).is_ok());
        let mut full = StandardOutput(Fails(io::ErrorKind::StorageFull));
        assert!(full.write_all(b"a verdict").is_err());
    }
}
