//! The live screen in a real terminal: tmux shows what a person would see. Where there is no tmux, these tests say so
//! and are skipped.

#[cfg(test)]
mod daemon;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod watch;
