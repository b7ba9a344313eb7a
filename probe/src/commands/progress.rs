//! What is waited for, on a terminal.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::cli::Global;

/// What is done sooner needs no word.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the time is told anew.
const STEP: Duration = Duration::from_secs(1);
/// Takes the line away, on every terminal that can place text.
const CLEAR: &str = "\r\x1b[K";

/// A line on standard error that says what is waited for and since when, from the second second on. It goes when
/// this is dropped, and does not come with `--quiet` or where no terminal shows it.
pub struct Progress {
    _telling: Option<Telling>,
}

struct Telling {
    /// Dropped to end the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Of something whose length is not known.
    pub fn of(what: &str, global: &Global) -> Self {
        Self::start(what.to_owned(), None, global)
    }

    /// Of something that takes so long.
    pub fn within(what: &str, length: Duration, global: &Global) -> Self {
        Self::start(what.to_owned(), Some(length), global)
    }

    fn start(what: String, length: Option<Duration>, global: &Global) -> Self {
        let places_text = std::env::var_os("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb");
        if global.quiet || !places_text || !io::stderr().is_terminal() {
            return Self { _telling: None };
        }
        let telling = Telling::start(io::stderr(), PATIENCE, move |waited| line(&what, waited, length));
        Self { _telling: Some(telling) }
    }
}

impl Telling {
    fn start(
        mut terminal: impl Write + Send + 'static,
        patience: Duration,
        line: impl Fn(Duration) -> String + Send + 'static,
    ) -> Self {
        let (end, ended) = mpsc::channel();
        let started = Instant::now();
        let thread = thread::spawn(move || {
            let mut wait = patience;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                // A terminal that is gone has nobody to tell.
                let _ = write!(terminal, "{CLEAR}{}", line(started.elapsed()));
                let _ = terminal.flush();
                wait = STEP;
            }
            if started.elapsed() >= patience {
                let _ = write!(terminal, "{CLEAR}");
                let _ = terminal.flush();
            }
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn line(what: &str, waited: Duration, length: Option<Duration>) -> String {
    let waited = waited.as_secs();
    match length {
        Some(length) if waited < length.as_secs() => {
            format!("{what}: {waited} of {} s", length.as_secs())
        }
        _ => format!("{what}: {waited} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_waited_for_and_how_long() {
        let seconds = Duration::from_secs;
        assert_eq!(line("watching routes", seconds(3), Some(seconds(10))), "watching routes: 3 of 10 s");
        assert_eq!(line("watching routes", seconds(11), Some(seconds(10))), "watching routes: 11 s");
        assert_eq!(line("asking Prometheus", seconds(2), None), "asking Prometheus: 2 s");
    }

    /// Passes on what is written to it.
    struct Terminal(Sender<String>);

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_shown_is_taken_away_again() {
        let (terminal, shown) = mpsc::channel();
        let telling = Telling::start(Terminal(terminal), Duration::ZERO, |_| "waiting".to_owned());
        let first: String = shown.iter().take(2).collect();
        assert_eq!(first, format!("{CLEAR}waiting"));
        drop(telling);
        assert_eq!(shown.iter().last().as_deref(), Some(CLEAR));
    }

    #[test]
    fn what_is_quick_shows_nothing() {
        let (terminal, shown) = mpsc::channel();
        drop(Telling::start(Terminal(terminal), Duration::from_hours(1), |_| "waiting".to_owned()));
        assert_eq!(shown.iter().count(), 0);
    }
}
