//! How many tests passed, read from the closing lines of what ran them.

use std::{
    fmt,
    io::{self, Write},
    ops::AddAssign,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Counts {
    /// One check that is not a test runner's.
    pub const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    pub const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    pub const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// `12 passed, 0 failed, 1 skipped`, as this type prints itself.
    pub fn of_lab(line: &str) -> Option<Self> {
        Self::read(line.trim_end(), ", ", ["passed", "failed", "skipped"])
    }

    /// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; …`
    pub fn of_cargo_test(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        Self::read(counts, "; ", ["passed", "failed", "ignored"])
    }

    fn read(line: &str, separator: &str, names: [&str; 3]) -> Option<Self> {
        let mut parts = line.split(separator);
        let [passed, failed, skipped] = names
            .map(|name| -> Option<u64> { parts.next()?.strip_suffix(name)?.strip_suffix(' ')?.parse().ok() });
        Some(Self { passed: passed?, failed: failed?, skipped: skipped? })
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Passes a test runner's output on as it comes and adds up the counts in its lines.
pub struct Counting<W> {
    to: W,
    read: fn(&str) -> Option<Counts>,
    line: Vec<u8>,
    counts: Option<Counts>,
}

impl<W> Counting<W> {
    pub fn new(to: W, read: fn(&str) -> Option<Counts>) -> Self {
        Self { to, read, line: Vec::new(), counts: None }
    }

    /// Nothing if no line had any.
    pub fn counts(&self) -> Option<Counts> {
        self.counts
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        for &byte in &bytes[..written] {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            if let Some(counts) = (self.read)(&String::from_utf8_lossy(&self.line)) {
                *self.counts.get_or_insert_default() += counts;
            }
            self.line.clear();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_all_parts_are_added_up() {
        let mut counting = Counting::new(Vec::new(), Counts::of_cargo_test);
        let output = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 7 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        for part in output.as_bytes().chunks(7) {
            counting.write_all(part).unwrap();
        }
        assert_eq!(counting.counts(), Some(Counts { passed: 9, failed: 3, skipped: 1 }));
        assert_eq!(counting.to, output.as_bytes());
    }

    #[test]
    fn the_labs_closing_line_is_the_one_that_we_print() {
        let counts = Counts { passed: 12, failed: 1, skipped: 0 };
        assert_eq!(Counts::of_lab(&counts.to_string()), Some(counts));
        assert_eq!(Counts::of_lab(&format!("{counts}\r")), Some(counts));
        assert_eq!(Counts::of_lab("12 passed, 1 failed"), None);
        assert_eq!(Counts::of_lab("scenario 1 passed, 2 failed, 3 skipped"), None);
    }

    #[test]
    fn a_runner_that_said_nothing_has_no_counts() {
        let mut counting = Counting::new(Vec::new(), Counts::of_lab);
        counting.write_all(b"Killed\n").unwrap();
        assert_eq!(counting.counts(), None);
    }
}
