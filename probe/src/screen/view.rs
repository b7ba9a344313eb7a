//! What the person at the screen looks at, and what keys do to it.

use std::{path::PathBuf, sync::Arc};

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::Size,
};

use super::{
    detail,
    history::{History, Subject},
    tables::{Row, Sort, Table},
};
use crate::state::State;

/// How many rows a page key goes.
const PAGE: usize = 10;
/// The longest filter.
const LONGEST_FILTER: usize = 40;
/// Lines around a detail: two of the node, the frame, the keys.
pub(super) const AROUND: u16 = 5;

/// Where the readings come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A daemon that runs, by its socket.
    Daemon(PathBuf),
    /// Programs of this process alone.
    Own,
}

/// What is shown.
#[derive(Debug)]
pub struct View {
    pub source: Source,
    pub size: Size,
    history: History,
    /// What was shown when it was paused.
    frozen: Option<History>,
    /// Why no reading comes.
    trouble: Option<String>,
    /// The table that has the keys.
    table: Table,
    /// The one under the black holes.
    below: Table,
    arrangements: [Arrangement; Table::ALL.len()],
    mode: Mode,
}

/// How one table is shown.
#[derive(Clone, Debug)]
struct Arrangement {
    sort: Sort,
    filter: String,
    /// The row that the keys are at; the first one without.
    selected: Option<Subject>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Tables,
    /// A filter is being typed.
    Filter,
    /// Lines about one thing, from this one on.
    Detail(Topic, usize),
}

/// What lines are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    Subject(Subject),
    Node,
    Help,
}

/// What a key asks of who runs the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Stay,
    Leave,
}

impl View {
    pub fn new(source: Source) -> Self {
        Self {
            source,
            size: Size::default(),
            history: History::default(),
            frozen: None,
            trouble: None,
            table: Table::default(),
            below: Table::default(),
            arrangements: Table::ALL.map(|table| Arrangement {
                sort: table.usual_sort(),
                filter: String::new(),
                selected: None,
            }),
            mode: Mode::default(),
        }
    }

    /// A reading came.
    pub fn take(&mut self, state: Arc<State>) {
        self.trouble = None;
        self.history.take(state);
    }

    /// No reading came.
    pub fn miss(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// What is shown: the last reading, or the one at which it was paused.
    pub fn history(&self) -> &History {
        self.frozen.as_ref().unwrap_or(&self.history)
    }

    pub fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub fn table(&self) -> Table {
        self.table
    }

    pub fn below(&self) -> Table {
        self.below
    }

    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    pub fn sort(&self, table: Table) -> Sort {
        self.arrangements[table as usize].sort
    }

    pub fn filter(&self, table: Table) -> &str {
        &self.arrangements[table as usize].filter
    }

    pub fn rows(&self, table: Table) -> Vec<Row> {
        table.rows(self.history(), self.filter(table), self.sort(table))
    }

    /// The row that the keys are at; the first one where that has gone.
    pub fn selected(&self, table: Table, rows: &[Row]) -> usize {
        let selected = self.arrangements[table as usize].selected.as_ref();
        rows.iter().position(|row| Some(&row.subject) == selected).unwrap_or(0)
    }

    /// The lines of a detail, none wider than the screen.
    pub fn lines(&self, topic: &Topic) -> Vec<String> {
        detail::lines(self.history(), topic, usize::from(self.size.width.saturating_sub(2)))
    }

    pub fn press(&mut self, key: KeyEvent) -> Outcome {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Outcome::Leave;
        }
        match self.mode.clone() {
            Mode::Tables => return self.press_at_tables(key.code),
            Mode::Filter => self.press_at_filter(key),
            Mode::Detail(topic, from) => self.press_at_detail(key.code, topic, from),
        }
        Outcome::Stay
    }

    fn press_at_tables(&mut self, key: KeyCode) -> Outcome {
        match key {
            KeyCode::Char('q') => return Outcome::Leave,
            // What was asked for last is taken back first.
            KeyCode::Esc if self.filter(self.table).is_empty() => return Outcome::Leave,
            KeyCode::Esc => self.arrangement().filter.clear(),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char(' ') => {
                self.frozen = if self.frozen.is_none() { Some(self.history.clone()) } else { None };
            }
            KeyCode::Tab | KeyCode::Right => self.turn_to(1),
            KeyCode::BackTab | KeyCode::Left => self.turn_to(Table::ALL.len() - 1),
            KeyCode::Char('s') => self.sort_by_next(),
            KeyCode::Char('r') => {
                let sort = &mut self.arrangement().sort;
                sort.descending = !sort.descending;
            }
            KeyCode::Char('i') => self.mode = Mode::Detail(Topic::Node, 0),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Detail(Topic::Help, 0),
            KeyCode::Enter => {
                let rows = self.rows(self.table);
                if let Some(row) = rows.get(self.selected(self.table, &rows)) {
                    self.mode = Mode::Detail(Topic::Subject(row.subject.clone()), 0);
                }
            }
            _ => self.select(key),
        }
        Outcome::Stay
    }

    fn press_at_filter(&mut self, key: KeyEvent) {
        let filter = &mut self.arrangements[self.table as usize].filter;
        match key.code {
            KeyCode::Enter => self.mode = Mode::Tables,
            KeyCode::Esc => {
                filter.clear();
                self.mode = Mode::Tables;
            }
            KeyCode::Backspace => {
                filter.pop();
            }
            KeyCode::Char(c) if !c.is_control() && filter.chars().count() < LONGEST_FILTER => filter.push(c),
            _ => {}
        }
    }

    fn press_at_detail(&mut self, key: KeyCode, topic: Topic, from: usize) {
        let height = usize::from(self.size.height.saturating_sub(AROUND));
        let last = self.lines(&topic).len().saturating_sub(height);
        if let Some(from) = step(key, from.min(last), last) {
            self.mode = Mode::Detail(topic, from);
        } else if matches!(key, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | '?')) {
            self.mode = Mode::Tables;
        }
    }

    fn arrangement(&mut self) -> &mut Arrangement {
        &mut self.arrangements[self.table as usize]
    }

    fn turn_to(&mut self, steps: usize) {
        self.table = Table::ALL[(self.table as usize + steps) % Table::ALL.len()];
        if self.table != Table::BlackHoles {
            self.below = self.table;
        }
    }

    fn sort_by_next(&mut self) {
        let columns = self.table.columns();
        let sortable = |column: &usize| columns.get(*column).is_some_and(|column| column.title != "trend");
        let sort = &mut self.arrangement().sort;
        let next = Some(sort.column + 1).filter(sortable).unwrap_or(0);
        *sort = Sort { column: next, descending: next != 0 };
    }

    fn select(&mut self, key: KeyCode) {
        let rows = self.rows(self.table);
        let at = self.selected(self.table, &rows);
        if let Some(row) = step(key, at, rows.len().saturating_sub(1)).and_then(|to| rows.get(to)) {
            self.arrangement().selected = Some(row.subject.clone());
        }
    }
}

/// Where a key leads from one line of `0..=last`; `None` where it leads nowhere.
fn step(key: KeyCode, from: usize, last: usize) -> Option<usize> {
    let to = match key {
        KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => from + 1,
        KeyCode::PageUp => from.saturating_sub(PAGE),
        KeyCode::PageDown => from + PAGE,
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => last,
        _ => return None,
    };
    Some(to.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::example::{self, press};

    fn selected(view: &View) -> Subject {
        let rows = view.rows(view.table());
        rows[view.selected(view.table(), &rows)].subject.clone()
    }

    #[test]
    fn the_keys_stay_at_a_row_while_the_order_changes_under_them() {
        let mut view = example::view();
        press(&mut view, "j");
        let at = selected(&view);
        press(&mut view, "r");
        assert_eq!(selected(&view), at);
        press(&mut view, "ss");
        assert_eq!(selected(&view), at);
    }

    #[test]
    fn a_pause_holds_what_is_shown_and_ends_with_the_newest() {
        let mut view = example::view();
        let before = view.history().state().time.clone();
        press(&mut view, " ");
        view.take(Arc::new(example::state(9)));
        assert_eq!(view.history().state().time, before);
        press(&mut view, " ");
        assert_ne!(view.history().state().time, before);
    }

    #[test]
    fn escape_takes_back_the_last_thing_before_it_leaves() {
        let mut view = example::view();
        press(&mut view, "/95\n");
        assert_eq!(view.rows(Table::Peers).len(), 1);
        press(&mut view, "\n");
        assert!(matches!(view.mode(), Mode::Detail(Topic::Subject(_), 0)));
        let escape = KeyEvent::from(KeyCode::Esc);
        assert_eq!(view.press(escape), Outcome::Stay);
        assert_eq!(*view.mode(), Mode::Tables);
        assert_eq!(view.press(escape), Outcome::Stay);
        assert_eq!(view.rows(Table::Peers).len(), 3);
        assert_eq!(view.press(escape), Outcome::Leave);
    }

    #[test]
    fn a_letter_of_a_filter_is_no_command() {
        let mut view = example::view();
        press(&mut view, "/qsr i?");
        assert_eq!(view.filter(Table::Peers), "qsr i?");
        assert_eq!(*view.mode(), Mode::Filter);
    }

    #[test]
    fn control_and_c_leave_from_everywhere() {
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for keys in ["", "/abc", "?", "\n"] {
            let mut view = example::view();
            press(&mut view, keys);
            assert_eq!(view.press(interrupt), Outcome::Leave, "{keys:?}");
        }
    }

    #[test]
    fn scrolling_ends_at_the_last_line() {
        let mut view = example::view();
        view.size = Size::new(40, 12);
        press(&mut view, "?");
        press(&mut view, "jjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjj");
        let Mode::Detail(topic, from) = view.mode().clone() else { panic!("{:?}", view.mode()) };
        assert_eq!(from, view.lines(&topic).len() - 7);
    }
}
