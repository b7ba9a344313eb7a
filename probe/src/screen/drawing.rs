//! The view, drawn.

use std::env;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Text},
    widgets::{Block, Cell, Paragraph, Row as Drawn, Table as Grid},
};

use super::{
    detail,
    history::History,
    tables::{Column, Row, Table, Value, plain},
    view::{Mode, Source, Topic, View},
    words,
};
use crate::report::text::shorten;

/// From so many columns on the wide tables fit.
const WIDE: u16 = 132;

/// How things are told apart; without colours by weight alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Palette {
    loss: Style,
    trouble: Style,
    trend: Style,
}

impl Palette {
    /// Colours, unless the environment wants none (<https://no-color.org>).
    pub fn of_environment() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if unwanted { Self::default() } else { Self::coloured() }
    }

    fn coloured() -> Self {
        Self {
            loss: Style::new().fg(Color::Red),
            trouble: Style::new().fg(Color::Yellow),
            trend: Style::new().fg(Color::Cyan),
        }
    }
}

pub fn draw(frame: &mut Frame<'_>, view: &View, palette: Palette) {
    let holes = view.rows(Table::BlackHoles);
    let most = usize::from(frame.area().height / 4).max(2);
    let holes_height =
        u16::try_from(holes.len().min(most)).unwrap_or(u16::MAX) + u16::from(!holes.is_empty());
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(head_lines(view, palette)), head);
    frame.render_widget(Paragraph::new(foot_line(view)), foot);
    if let Mode::Detail(topic, from) = view.mode() {
        return draw_detail(frame, body, view, topic, *from);
    }
    let [title, holes_area, tabs, table] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(holes_height),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(body);
    frame.render_widget(holes_title(view, palette), title);
    draw_table(frame, holes_area, view, (Table::BlackHoles, &holes), palette);
    frame.render_widget(tabs_line(view), tabs);
    draw_table(frame, table, view, (view.below(), &view.rows(view.below())), palette);
}

fn head_lines(view: &View, palette: Palette) -> Text<'static> {
    let state = view.history().state();
    let source = match &view.source {
        Source::Daemon(socket) => format!("from the daemon at {}", plain(&socket.display().to_string())),
        Source::Own => "from programs of its own; no daemon runs".to_owned(),
    };
    let words = if state.time.is_empty() {
        vec!["caliprobe watch".to_owned(), source]
    } else {
        let address = state.node.address.map_or_else(String::new, |address| format!(" {address}"));
        let node = format!("{}{address}", plain(&state.node.name));
        vec![node, source, format!("Linux {}", plain(&state.node.kernel))]
    };
    Text::from(vec![Line::styled(words.join("  "), Modifier::BOLD), status_line(view, palette)])
}

fn status_line(view: &View, palette: Palette) -> Line<'static> {
    let state = view.history().state();
    if let Some(why) = view.trouble() {
        let shown =
            if state.time.is_empty() { String::new() } else { format!("; shown is {}", moment(&state.time)) };
        return Line::styled(
            format!("NO READING, asking again{shown}: {}", plain(why)),
            palette.trouble.bold(),
        );
    }
    if state.time.is_empty() {
        return Line::raw("waiting for the first reading");
    }
    let read = if view.is_paused() { "PAUSED at" } else { "read" };
    let interval =
        view.history().interval().map_or_else(String::new, |interval| format!(" after {interval:.1} s"));
    let health = &state.health;
    let mut words = vec![
        format!("{read} {}{interval}", moment(&state.time)),
        format!("{} devices counted", health.covered),
    ];
    let troubles = [
        ("wait", health.pending as u64),
        ("refused", health.refused.len() as u64),
        ("overruns", health.overruns),
        ("failed reads", health.failed_reads),
        ("lost events", health.lost_events),
        ("not seen (i)", state.reading.limits.len() as u64),
    ];
    let there = troubles.iter().filter(|(_, count)| *count > 0);
    words.extend(there.map(|(what, count)| format!("{count} {what}")));
    let style = if view.is_paused() { palette.trouble.bold() } else { Style::new() };
    Line::styled(words.join(", "), style)
}

/// To the second.
fn moment(time: &str) -> String {
    plain(time.split_once('.').map_or(time, |(second, _)| second).trim_end_matches('Z')) + "Z"
}

fn holes_title(view: &View, palette: Palette) -> Line<'static> {
    let open = view.history().state().black_holes.len();
    let filter = filter_words(view, Table::BlackHoles);
    let words = match open {
        _ if view.history().state().time.is_empty() => " black holes ".to_owned(),
        0 => " no black hole is open ".to_owned(),
        1 => " 1 black hole is open ".to_owned(),
        _ => format!(" {open} black holes are open "),
    };
    let style = if open > 0 { palette.loss.bold() } else { Style::new() };
    let here = view.table() == Table::BlackHoles;
    Line::styled(format!("{}{filter}", marked(&words, here)), style)
}

fn tabs_line(view: &View) -> Line<'static> {
    let mut tabs: Vec<String> = Table::ALL[1..]
        .iter()
        .map(|table| {
            let name =
                if *table == view.below() { table.title().to_uppercase() } else { table.title().to_owned() };
            marked(&format!(" {name} "), *table == view.table())
        })
        .collect();
    let sort = view.sort(view.table());
    let column = view.table().columns().get(sort.column).map_or("", |column| column.title);
    let order = if sort.descending { "down" } else { "up" };
    tabs.push(format!("  by {column} {order}"));
    tabs.push(filter_words(view, view.below()));
    Line::styled(tabs.concat(), Modifier::BOLD)
}

fn marked(words: &str, here: bool) -> String {
    if here { format!("[{}]", words.trim()) } else { words.to_owned() }
}

fn filter_words(view: &View, table: Table) -> String {
    let typing = *view.mode() == Mode::Filter && view.table() == table;
    match view.filter(table) {
        "" if !typing => String::new(),
        filter => format!("  with /{filter}{}", if typing { "_" } else { "" }),
    }
}

fn foot_line(view: &View) -> Line<'static> {
    Line::raw(match view.mode() {
        Mode::Tables => "tab table  ↑↓ row  enter look in  / filter  s r sort  space pause  ? help  q",
        Mode::Filter => "enter keep the filter  esc take it away",
        Mode::Detail(..) => "↑↓ page-up page-down scroll  esc back",
    })
}

fn draw_detail(frame: &mut Frame<'_>, area: Rect, view: &View, topic: &Topic, from: usize) {
    let lines = view.lines(topic);
    let shown: Vec<Line<'_>> = lines.iter().skip(from).map(|line| Line::raw(line.as_str())).collect();
    let frame_around = Block::bordered().title(format!(" {} ", detail::title(topic)));
    frame.render_widget(Paragraph::new(shown).block(frame_around), area);
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &View,
    (table, rows): (Table, &[Row]),
    palette: Palette,
) {
    if area.height == 0 {
        return;
    }
    let wide = area.width >= WIDE;
    let columns: Vec<(usize, &Column)> =
        table.columns().iter().enumerate().filter(|(_, column)| wide || column.narrow > 0).collect();
    let widths = columns.iter().map(|(_, column)| match (wide, column.wide) {
        (false, _) => Constraint::Length(column.narrow),
        (true, 0) => Constraint::Fill(1),
        (true, width) => Constraint::Length(width),
    });
    let sorted = view.sort(table).column;
    let heads = columns.iter().map(|(index, column)| {
        let weight =
            if *index == sorted { Modifier::BOLD | Modifier::UNDERLINED } else { Modifier::UNDERLINED };
        let head = Text::styled(column.title, weight);
        Cell::new(if is_left(rows, *index) { head } else { head.right_aligned() })
    });
    let at = view.selected(table, rows);
    let height = usize::from(area.height - 1);
    let first = (at + 1).saturating_sub(height);
    let here = view.table() == table;
    let drawn = rows.iter().enumerate().skip(first).take(height).map(|(index, row)| {
        let cells = columns.iter().filter_map(|(index, column)| {
            let width = if wide { column.wide } else { column.narrow };
            row.values.get(*index).map(|value| cell(value, row, width, view.history(), palette))
        });
        let style = if here && index == at { Style::new().reversed() } else { Style::new() };
        Drawn::new(cells).style(style)
    });
    frame.render_widget(Grid::new(drawn, widths).header(Drawn::new(heads)).column_spacing(1), area);
    if rows.is_empty() && height > 0 {
        let below = Rect { y: area.y + 1, height: 1, ..area };
        frame.render_widget(Line::raw(empty_words(view, table)), below);
    }
}

/// Text begins at the left, numbers end at the right.
fn is_left(rows: &[Row], column: usize) -> bool {
    let value = rows.first().and_then(|row| row.values.get(column));
    !matches!(value, Some(Value::Count(_) | Value::Rate(_) | Value::Age(_)))
}

fn cell(value: &Value, row: &Row, width: u16, history: &History, palette: Palette) -> Cell<'static> {
    let number = |text: String| Cell::new(Text::from(text).right_aligned());
    let text = |text: &str| {
        let fits = if width == 0 { text.to_owned() } else { shorten(text, usize::from(width)) };
        Cell::new(fits)
    };
    match value {
        Value::Text(value) => text(value),
        Value::Address(address) => text(&address.to_string()),
        Value::Block(block) => text(&block.map_or_else(|| "-".to_owned(), |block| block.to_string())),
        Value::Count(count) => number(words::count(*count, usize::from(width))),
        Value::Rate(rate) => number(words::rate(*rate)),
        Value::Age(seconds) => number(words::age(*seconds)),
        Value::Trend => {
            Cell::new(words::trend(&history.trend(&row.subject), usize::from(width))).style(palette.trend)
        }
    }
}

/// Why a table has no rows: that nothing was dropped is said only where drops are counted.
fn empty_words(view: &View, table: Table) -> &'static str {
    let state = view.history().state();
    match table {
        _ if state.time.is_empty() => "",
        _ if !view.filter(table).is_empty() => "nothing has this text",
        Table::Drops if !state.reading.drops_counted => "drops are not counted here; i says why",
        Table::Drops => "no pod packet was dropped",
        Table::BlackHoles => "",
        Table::Peers => "no other node is known",
        Table::Blocks => "no block of another node is known",
        Table::Pods => "no pod interface is counted",
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend, layout::Size};

    use super::*;
    use crate::screen::example::{self, press};

    fn screen(view: &mut View, width: u16, height: u16, palette: Palette) -> TestBackend {
        view.size = Size::new(width, height);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, palette)).unwrap();
        terminal.backend().clone()
    }

    fn shown(keys: &str, width: u16, height: u16) -> String {
        let mut view = example::view();
        press(&mut view, keys);
        screen(&mut view, width, height, Palette::default()).to_string()
    }

    #[test]
    fn peers_at_the_smallest_usual_size() {
        insta::assert_snapshot!(shown("", 80, 24));
    }

    #[test]
    fn blocks_pods_and_drops_at_the_smallest_usual_size() {
        let rows = |keys: &str| shown(keys, 80, 24).lines().skip(5).take(5).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!([rows("\t"), rows("\t\t"), rows("\t\t\t")].join("\n\n"));
    }

    #[test]
    fn a_large_screen_has_more_columns() {
        insta::assert_snapshot!(shown("\t\t\t", 160, 50));
    }

    #[test]
    fn a_black_hole_looked_into() {
        insta::assert_snapshot!(shown("\t\t\t\t\n", 80, 24));
    }

    #[test]
    fn help() {
        insta::assert_snapshot!(shown("?", 80, 24));
    }

    #[test]
    fn a_daemon_that_went_away_is_said_and_what_is_shown_is_dated() {
        let mut view = example::view();
        view.miss("no daemon runs here".to_owned());
        let text = screen(&mut view, 100, 24, Palette::default()).to_string();
        assert!(
            text.contains("NO READING, asking again; shown is 2026-11-23T22:03:40Z: no daemon runs here"),
            "{text}"
        );
        assert!(text.contains("172.30.10.187"), "what was known stays:\n{text}");
    }

    #[test]
    fn before_the_first_reading_nothing_is_called_empty() {
        let mut view = View::new(Source::Own);
        let text = screen(&mut view, 80, 24, Palette::default()).to_string();
        assert!(text.contains("waiting for the first reading"), "{text}");
        assert!(!text.contains("no black hole") && !text.contains("no other node"), "{text}");
    }

    #[test]
    fn without_colours_none_is_drawn_and_with_them_loss_is_red() {
        let colours = |palette| {
            let drawn = screen(&mut example::view(), 80, 24, palette);
            drawn.buffer().content.iter().map(|cell| cell.fg).collect::<Vec<_>>()
        };
        assert!(colours(Palette::default()).iter().all(|colour| *colour == Color::Reset));
        assert!(colours(Palette::coloured()).contains(&Color::Red));
    }

    #[test]
    fn any_size_is_drawn() {
        for width in [1, 2, 20, 79, 300] {
            for height in [1, 2, 3, 5, 8, 100] {
                for keys in ["", "\t", "?", "/x", "\t\t\t\t\n", "i"] {
                    shown(keys, width, height);
                }
            }
        }
    }

    #[test]
    fn the_row_with_the_keys_is_always_on_the_screen() {
        let mut view = example::view();
        view.take(std::sync::Arc::new(example::with_peers(500)));
        press(&mut view, "G");
        let rows = view.rows(Table::Peers);
        let Value::Address(last) = rows[rows.len() - 1].values[0] else { panic!("{rows:?}") };
        let text = screen(&mut view, 80, 24, Palette::default()).to_string();
        assert!(text.contains(&last.to_string()), "{last} is not in\n{text}");
    }
}
