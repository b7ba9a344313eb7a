//! `birdc` or `birdcl`: `show protocols [all]` and `show status`, of BIRD 1.6 and 2.

use super::readings::Daemon;
use crate::{sample::Fact, sources::bird::protocols};

/// Protocols of Calico's configuration; the second word of a row.
const PROTOCOLS: [&str; 6] = ["BGP", "Kernel", "Static", "Device", "Direct", "BFD"];

pub fn begins(line: &str) -> bool {
    is_heading(line) || is_row(line) || is_greeting(line)
}

/// The details of a protocol are indented, blank lines between them.
pub fn goes_on(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with([' ', '\t']) || is_status(line.trim())
}

fn is_heading(line: &str) -> bool {
    line.split_whitespace().take(4).eq(["name", "proto", "table", "state"])
        || line.split_whitespace().take(4).eq(["Name", "Proto", "Table", "State"])
}

fn is_row(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().take(5).collect();
    let [_, protocol, _, state, _] = words.as_slice() else { return false };
    PROTOCOLS.contains(protocol) && matches!(*state, "up" | "start" | "down" | "stop" | "wait" | "flush")
}

/// `BIRD v0.3.3+birdv1.6.8 ready.`
fn is_greeting(line: &str) -> bool {
    line.starts_with("BIRD ") && line.trim_end().ends_with(" ready.")
}

fn is_status(line: &str) -> bool {
    let begins =
        ["BIRD ", "Router ID is ", "Current server time", "Last reboot", "Last reconfiguration", "Daemon is"];
    begins.iter().any(|begin| line.starts_with(begin)) || line.starts_with("Graceful restart recovery")
}

/// Reads the sessions; `None` where there is neither a table nor a row.
pub fn read(lines: &[String]) -> Option<Daemon> {
    let is_shown = |line: &String| is_heading(line) || is_row(line);
    lines.iter().any(is_shown).then_some(())?;
    // Rows stand at the margin; a block of code may have moved all of it.
    let margin =
        lines.iter().find(|line| is_shown(line)).map_or(0, |line| line.len() - line.trim_start().len());
    let lines =
        lines.iter().map(|line| line.get(margin..).filter(|_| indented(line) >= margin).unwrap_or(line));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let mut bird = protocols::parse(&text);
    let greeting = text.lines().find(|line| is_greeting(line));
    let version = greeting.and_then(|line| line.split(' ').nth(1)).map(str::to_owned);
    bird.version = version.map_or_else(|| Fact::Absent("its greeting was not shown".to_owned()), Fact::Known);
    bird.router_id = protocols::router_id(&text);
    bird.recovering = text.contains("Graceful restart recovery in progress");
    bird.routes = Fact::Absent("they were not shown: birdcl show route".to_owned());
    Some(Daemon::Running(Box::new(bird)))
}

fn indented(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sessions_are_read_wherever_the_margin_is() {
        let shown = "BIRD v0.3.3+birdv1.6.8 ready.\nname     proto    table    state  since       info\nstatic1  Static   master   up     2018-06-27\nMesh_172_30_10_187 BGP master start 08:00:24 Active Socket: Connection refused\n  BGP state:          Active\n    Neighbor address: 172.30.10.187\n";
        for margin in ["", "    "] {
            let lines: Vec<String> = shown.lines().map(|line| format!("{margin}{line}")).collect();
            assert!(lines.iter().skip(1).all(|line| begins(line) || goes_on(line)));
            let Some(Daemon::Running(bird)) = read(&lines) else { panic!("{lines:?}") };
            let [session] = bird.sessions.as_slice() else { panic!("{bird:?}") };
            assert_eq!(
                (session.state.as_str(), session.error.as_str()),
                ("Active", "Socket: Connection refused")
            );
        }
        assert_eq!(read(&["BIRD v1.6.8 ready.".to_owned()]), None);
    }

    proptest! {
        #[test]
        fn any_lines_are_read_without_a_panic(text in "(.{0,40}\n){0,6}", like in "( {0,3}Mesh_10_0_0_1 BGP master (up|é) [a-z0-9: ]{0,20}\n){0,4}") {
            let _ = read(&text.lines().map(str::to_owned).collect::<Vec<_>>());
            let _ = read(&like.lines().map(str::to_owned).collect::<Vec<_>>());
        }
    }
}
