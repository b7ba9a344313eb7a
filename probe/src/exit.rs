//! The exit codes, a contract.

use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Everything is fine, or a view ran.
    Fine = 0,
    /// A fault is proven: black hole, degraded, denied, problem, regression.
    Proven = 1,
    /// It could not run, or refused; nothing changed.
    Failed = 2,
    /// It ran and cannot say.
    CannotSay = 3,
    /// A clean-up left a journal to undo.
    JournalLeft = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
