//! `caliprobe events`: what happened, and when, from the daemon's journal.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::sleep;

use crate::{
    causes::Cause,
    cli::{EventsArgs, Global, Output},
    daemon::journal,
    exit::Exit,
    report,
    state::Event,
};

/// How often the journal is looked at for more.
const LOOK: Duration = Duration::from_millis(500);

/// Prints the events that are wanted; with `--follow` those that come, too, until it is ended.
pub async fn run(args: &EventsArgs, global: &Global) -> anyhow::Result<Exit> {
    let since = args.since.map(|since| Timestamp::now().checked_sub(since).unwrap_or(Timestamp::MIN));
    let mut printed = BTreeSet::new();
    loop {
        let events = journal::read(&args.events_dir)?;
        for event in events.iter().filter(|event| is_wanted(event, args, since)) {
            if printed.insert((
                event.black_hole.id.clone(),
                event.time.clone(),
                report::events::word(event.kind),
            )) {
                print(event, global)?;
            }
        }
        if !args.follow {
            break;
        }
        sleep(LOOK).await;
    }
    if printed.is_empty() && global.output == Output::Text {
        writeln!(io::stdout().lock(), "no event at {}", args.events_dir.display())?;
    }
    Ok(Exit::Fine)
}

fn is_wanted(event: &Event, args: &EventsArgs, since: Option<Timestamp>) -> bool {
    let is_late = |since| event.time.parse::<Timestamp>().is_ok_and(|time| time >= since);
    let cause = event.black_hole.cause.map(Cause::code);
    since.is_none_or(is_late) && args.cause.as_ref().is_none_or(|wanted| cause.as_ref() == Some(wanted))
}

fn print(event: &Event, global: &Global) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match global.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(event)?)?,
        Output::Text => writeln!(out, "{}", report::events::line(event))?,
    }
    Ok(out.flush()?)
}
