//! A diagnosis as a person with an outage reads it: the answer in the first line.

use std::fmt::Write as _;

use super::document::{
    Certainty, Direction, Document, FAR_NODE, Finding, FixKind, PathPoint, Place, Point, Source, SourceKind,
    Stage, Verdict,
};
use crate::causes::Cause;

/// The widest line that `-q` prints.
pub const QUIET_WIDTH: usize = 80;

/// The whole report, one line a thought.
pub fn diagnosis(document: &Document) -> String {
    printable(&report(document))
}

fn report(document: &Document) -> String {
    let mut text = headline(document).replace('\n', " ");
    text.push('\n');
    for line in because(document) {
        push(&mut text, "why", &line);
    }
    if let Some(path) = path_words(&document.path) {
        push(&mut text, "path", &path);
    }
    for finding in &document.findings {
        fixes(&mut text, finding);
        for reason in &finding.explained_by {
            fixes(&mut text, reason);
        }
    }
    for next in &document.next {
        push(&mut text, "next", &format!("on {}: {}", next.node, next.command));
    }
    push(&mut text, "seen", &seen(document));
    text
}

/// One line of at most eighty characters.
pub fn quiet(document: &Document) -> String {
    let line = match document.findings.first() {
        Some(finding) => format!(
            "{} {}: {}{}",
            verdict_words(document.verdict),
            document.target.address,
            finding_code(finding),
            document.lost_at.as_ref().map_or_else(String::new, |place| format!(" at {}", at(place)))
        ),
        None => match document.not_seen.first().filter(|_| document.verdict == Verdict::Unknown) {
            Some(not_seen) => {
                format!("{} {}: {}", verdict_words(document.verdict), document.target.address, not_seen.why)
            }
            None => format!("{} {}", verdict_words(document.verdict), document.target.address),
        },
    };
    shorten(&printable(&line).replace('\n', " "), QUIET_WIDTH)
}

/// At most so many characters; what is cut off is shown by an ellipsis.
pub fn shorten(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let mut short: String = line.chars().take(width - 1).collect();
    short.push('…');
    short
}

/// One line under its label.
pub(super) fn push(text: &mut String, label: &str, line: &str) {
    let _ = writeln!(text, "{label:<5} {}", line.replace('\n', " "));
}

fn headline(document: &Document) -> String {
    let way = format!("{} → {}", source_words(&document.source), target_words(document));
    let verdict = verdict_words(document.verdict);
    match (&document.lost_at, document.findings.first()) {
        (Some(place), Some(finding)) => {
            format!(
                "{verdict}  {way}: {}{} ({})",
                lost(document, place),
                finding.summary,
                finding_code(finding)
            )
        }
        (Some(place), None) => {
            let why = document.not_seen.first().map_or("no cause is proven", |not_seen| &not_seen.why);
            format!("{verdict}  {way}: {}{why}", lost(document, place))
        }
        (None, Some(finding)) => format!("{verdict}  {way}: {} ({})", finding.summary, finding_code(finding)),
        (None, None) if document.verdict == Verdict::Reachable => {
            format!("{verdict}  {way}: {}", answered(document))
        }
        (None, None) => {
            let why = document.not_seen.first().map_or("nothing was seen", |not_seen| &not_seen.why);
            format!("{verdict}  {way}: {why}")
        }
    }
}

fn lost(document: &Document, place: &Place) -> String {
    let lost = document.probes.sent - document.probes.answered;
    let is_far = document.far_node.as_ref().is_some_and(|far| far.name == place.node);
    let is_between = document.findings.first().is_some_and(|found| found.cause == Cause::LostInUnderlay);
    if place.node != document.header.node.name && (!is_far || is_between) {
        return match document.verdict {
            Verdict::Degraded if lost > 0 => format!("{} lost: ", share(document)),
            _ => String::new(),
        };
    }
    let direction = if place.direction == Some(Direction::Return) { "the answer is " } else { "" };
    let share = match document.verdict {
        Verdict::Degraded if lost > 0 => format!("{} ", share(document)),
        _ => String::new(),
    };
    format!("{direction}{share}lost on {} at {}: ", place.node, stage_word(place.stage))
}

/// `4 of 12 (33 %)`.
fn share(document: &Document) -> String {
    let (sent, lost) = (document.probes.sent, document.probes.sent - document.probes.answered);
    format!("{lost} of {sent} ({} %)", u64::from(lost) * 100 / u64::from(sent.max(1)))
}

fn answered(document: &Document) -> String {
    let probes = &document.probes;
    let time = probes
        .rtt_us
        .map_or_else(String::new, |micros| format!(" in {}.{:03} ms", micros / 1000, micros % 1000));
    if probes.sent == 0 {
        return "traffic passes both ways".to_owned();
    }
    if probes.answered == 0
        && let Some(handshake) = document.handshakes.iter().find(|handshake| handshake.accepted)
    {
        return format!("TCP port {} accepted a connection; no ICMP probe was answered", handshake.port);
    }
    let what = match probes.port {
        Some(port) => format!("probes of {} port {port}", probes.protocol.words()),
        None => "probes".to_owned(),
    };
    format!("{} of {} {what} answered{time}", probes.answered, probes.sent)
}

fn source_words(source: &Source) -> String {
    let address = source.address.map(|address| address.to_string());
    match source.kind {
        SourceKind::Pod => address.unwrap_or_else(|| "a pod".to_owned()),
        SourceKind::Host => {
            address.map_or_else(|| "this node".to_owned(), |address| format!("this node ({address})"))
        }
    }
}

fn target_words(document: &Document) -> String {
    match &document.target.pod {
        Some(pod) => format!("{} ({pod})", document.target.address),
        None => document.target.address.to_string(),
    }
}

fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reachable => "REACHABLE",
        Verdict::BlackHole => "BLACK HOLE",
        Verdict::Degraded => "DEGRADED",
        Verdict::Denied => "DENIED",
        Verdict::Unknown => "UNKNOWN",
    }
}

pub(super) fn finding_code(finding: &Finding) -> String {
    let code = finding.cause.code();
    match finding.certainty {
        Certainty::Proven => code,
        Certainty::Inferred => format!("{code}, inferred"),
    }
}

fn at(place: &Place) -> String {
    match &place.device {
        Some(device) => format!("{} {} {device}", place.node, stage_word(place.stage)),
        None => format!("{} {}", place.node, stage_word(place.stage)),
    }
}

fn because(document: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in &document.findings {
        for explanation in &finding.explained_by {
            lines.push(format!("{} ({})", explanation.summary, finding_code(explanation)));
        }
        lines.extend(finding.evidence.iter().map(|evidence| evidence.text.clone()));
    }
    lines
}

/// The points in the order in which they are passed, up to where the packets end, with their nodes where there are
/// several.
pub(super) fn path_words(path: &[PathPoint]) -> Option<String> {
    let first = path.first()?;
    let several = path.iter().any(|point| point.node != first.node);
    let mut words = Vec::new();
    for direction in [Direction::Forward, Direction::Return] {
        let points: Vec<&PathPoint> = path.iter().filter(|point| point.direction == direction).collect();
        if direction == Direction::Return {
            if points.iter().all(|point| point.packets == 0) {
                break;
            }
            words.push("←".to_owned());
        }
        let mut node = None;
        for point in points {
            if several && node.replace(&point.node) != Some(&point.node) {
                words.push(format!("{}:", point.node));
            }
            let mark = if point.packets == 0 { '✗' } else { '✓' };
            words.push(format!("{} {} {mark}", point_word(point.point), point.packets));
        }
    }
    Some(words.join("   "))
}

/// What to do about a finding, what only looks first.
pub(super) fn fixes(text: &mut String, finding: &Finding) {
    for kind in [FixKind::Confirm, FixKind::Cure, FixKind::Stopgap] {
        for fix in finding.fix.iter().filter(|fix| fix.kind == kind) {
            let place = if fix.on == "kubectl" { String::new() } else { format!("on {}: ", fix.on) };
            push(text, "do", &format!("{place}{}     ({})", fix.run, fix_word(fix.kind)));
        }
    }
}

fn seen(document: &Document) -> String {
    let is_told = document.not_seen.iter().any(|not_seen| not_seen.what == FAR_NODE);
    let mut words = vec![match &document.far_node {
        Some(far) => format!("this node and {}", far.name),
        None if is_told => "this node only".to_owned(),
        None => "this node only; not the far node".to_owned(),
    }];
    if document.source.chosen && document.source.kind == SourceKind::Pod {
        let interface = document.source.interface.as_deref().unwrap_or("its cali*");
        words.push(format!("the source was chosen: {} behind {interface}", source_words(&document.source)));
    }
    if document.probes.sent > 0 && document.handshakes.is_empty() && document.probes.port.is_none() {
        words.push("ICMP only, no TCP or UDP port".to_owned());
    }
    if let [first, rest @ ..] = document.probes.source_ports.as_slice() {
        let last = rest.iter().map(|port| format!(", {port}")).collect::<Vec<_>>().concat();
        words.push(format!("sent from ports {first}{last}"));
    }
    // Without a finding the first line has said it.
    let said = usize::from(document.verdict == Verdict::Unknown && document.findings.is_empty());
    let not_seen = document.not_seen.iter().skip(said);
    words.extend(not_seen.map(|not_seen| format!("not {}: {}", not_seen.what, not_seen.why)));
    words.join("; ")
}

fn fix_word(kind: FixKind) -> &'static str {
    match kind {
        FixKind::Cure => "cure",
        FixKind::Stopgap => "stopgap",
        FixKind::Confirm => "confirm",
    }
}

pub(super) fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Pod => "pod",
        Stage::PodLink => "pod-link",
        Stage::Routing => "routing",
        Stage::Netfilter => "netfilter",
        Stage::Neighbour => "neighbour",
        Stage::Tunnel => "tunnel",
        Stage::Underlay => "underlay",
        Stage::Decap => "decap",
    }
}

fn point_word(point: Point) -> &'static str {
    match point {
        Point::FromPod => "from-pod",
        Point::ToTunnel => "to-tunnel",
        Point::ToWire => "to-wire",
        Point::FromWire => "from-wire",
        Point::FromTunnel => "from-tunnel",
        Point::ToPod => "to-pod",
        Point::Bare => "bare",
    }
}

/// Names of devices and pods reach a terminal: what would steer it is replaced.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}
