//! The live screen. Readings come in, keys come in, and what is shown follows from both: a [`history::History`] makes
//! rates of readings, [`tables`] make rows of it, a [`view::View`] is what is looked at, and [`drawing`] draws it.

mod detail;
mod drawing;
#[cfg(test)]
mod example;
mod history;
mod tables;
mod terminal;
mod view;
mod words;

use std::sync::Arc;

use anyhow::Context as _;
use ratatui::crossterm::event::{Event, KeyEventKind};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use self::{
    drawing::Palette,
    terminal::Screen,
    view::{Outcome, View},
};
pub use self::{terminal::require, view::Source};
use crate::state::State;

/// What comes of a daemon.
#[derive(Clone, Debug)]
pub enum News {
    Reading(Arc<State>),
    /// Why there is none. It is asked again.
    Missing(String),
}

/// Shows what comes until a key or a signal ends it, or nothing can come any more.
pub async fn show(source: Source, mut news: mpsc::Receiver<News>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let palette = Palette::of_environment();
    let mut view = View::new(source);
    let mut screen = Screen::open()?;
    let mut events = terminal::events();
    loop {
        view.size = screen.terminal.size().context("the terminal tells no size")?;
        screen.terminal.draw(|frame| drawing::draw(frame, &view, palette)).context("cannot draw")?;
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => break,
            came = news.recv() => match came {
                Some(News::Reading(state)) => view.take(state),
                Some(News::Missing(why)) => view.miss(why),
                None => break,
            },
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if view.press(key) == Outcome::Leave {
                        break;
                    }
                }
                // Whatever else comes, a new size above all, is drawn.
                Some(_) => {}
                None => break,
            },
        }
    }
    Ok(())
}
