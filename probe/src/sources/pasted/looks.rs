//! Which outputs belong together: those of one place, until one of them shows again what was shown already. From there
//! on it is another look at the same place.

use std::collections::{HashMap, HashSet};

use super::{
    readings::{Daemon, LinkEntry, Reading, RouteRow, Unreadable},
    shape::Output,
};

/// Places and moments that one input may come to.
const MOST_LOOKS: usize = 1000;

/// One output, and where it belongs.
#[derive(Clone, Debug)]
pub struct Part {
    pub place: String,
    pub file: String,
    pub output: Output,
    /// It was a selection.
    pub is_narrowed: bool,
    /// Absent where nothing of it could be read.
    pub reading: Option<Reading>,
    pub unreadable: Vec<Unreadable>,
}

/// What was shown of one place at one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub place: String,
    /// The place, with a number where there are several looks at it.
    pub name: String,
    pub parts: Vec<Part>,
    shown: HashSet<(Output, String)>,
}

/// Puts parts together, in the order in which they came.
pub fn separate(mut parts: Vec<Part>) -> Vec<Look> {
    keep_files_apart(&mut parts);
    let mut looks: Vec<(String, Look)> = Vec::new();
    let mut last: HashMap<String, usize> = HashMap::new();
    for part in parts {
        let keys = keys(&part);
        let known = last.get(&part.place).copied();
        let shown = known.and_then(|at| looks.get(at)).map(|(_, look)| look.shown(&part, &keys));
        let at = match shown {
            Some(Shown::Nothing) => known,
            Some(Shown::TheSame) => continue,
            Some(Shown::Otherwise) | None => open(&mut looks, &mut last, &part.place),
        };
        if let Some((_, look)) = at.and_then(|at| looks.get_mut(at)) {
            look.shown.extend(keys.into_iter().map(|key| (part.output, key)));
            look.parts.push(part);
        }
    }
    named(looks)
}

/// Where two files of one place show the same, nobody says which others belong to either: each is a place of its own.
fn keep_files_apart(parts: &mut [Part]) {
    let mut first: HashMap<(String, Output, String), (String, usize)> = HashMap::new();
    let mut mixed: HashSet<String> = HashSet::new();
    for (at, part) in parts.iter().enumerate() {
        let mut same = None;
        for key in keys(part) {
            let entry = first.entry((part.place.clone(), part.output, key));
            let (file, before) = entry.or_insert_with(|| (part.file.clone(), at));
            if *file == part.file || same == Some(*before) {
                continue;
            }
            if parts.get(*before).is_some_and(|before| before.reading == part.reading) {
                same = Some(*before);
                continue;
            }
            mixed.insert(part.place.clone());
            break;
        }
    }
    for part in parts.iter_mut().filter(|part| mixed.contains(&part.place)) {
        part.place = format!("{}, {}", part.place, part.file);
    }
}

fn open(looks: &mut Vec<(String, Look)>, last: &mut HashMap<String, usize>, place: &str) -> Option<usize> {
    if looks.len() >= MOST_LOOKS {
        return None;
    }
    looks.push((place.to_owned(), Look::default()));
    last.insert(place.to_owned(), looks.len() - 1);
    Some(looks.len() - 1)
}

fn named(looks: Vec<(String, Look)>) -> Vec<Look> {
    let mut count: HashMap<String, usize> = HashMap::new();
    for (place, _) in &looks {
        *count.entry(place.clone()).or_default() += 1;
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    looks
        .into_iter()
        .map(|(place, look)| {
            let number = seen.entry(place.clone()).or_default();
            *number += 1;
            let is_only = count.get(&place) == Some(&1);
            let name = if is_only { place.clone() } else { format!("{place} (look {number})") };
            Look { place, name, ..look }
        })
        .collect()
}

/// What of a part a look has shown already.
enum Shown {
    Nothing,
    TheSame,
    Otherwise,
}

impl Look {
    fn shown(&self, part: &Part, keys: &[String]) -> Shown {
        let repeats = keys.iter().any(|key| self.shown.contains(&(part.output, key.clone())));
        if !repeats && !self.contradicts(part) {
            return Shown::Nothing;
        }
        let mut others = self.parts.iter();
        let is_same = others.any(|other| other.output == part.output && other.reading == part.reading);
        if is_same { Shown::TheSame } else { Shown::Otherwise }
    }

    /// A table that is empty and one that has rows are of different moments.
    fn contradicts(&self, part: &Part) -> bool {
        let is_empty = |part: &Part| matches!(&part.reading, Some(Reading::Routes(rows)) if rows.is_empty());
        let mut others = self.parts.iter().filter(|other| other.output == part.output && !other.is_narrowed);
        !part.is_narrowed && others.next().is_some_and(|other| is_empty(other) != is_empty(part))
    }
}

/// What no output shows twice at one moment.
fn keys(part: &Part) -> Vec<String> {
    match &part.reading {
        None => Vec::new(),
        Some(Reading::Routes(rows)) => rows.iter().map(route_key).collect(),
        Some(Reading::Links { entries, .. }) => entries.iter().map(link_key).collect(),
        Some(Reading::Neighbours(rows)) => {
            rows.iter().map(|row| format!("{} {}", row.device, row.address)).collect()
        }
        Some(Reading::Rules(rules)) => rules.iter().map(|rule| rule.priority.to_string()).collect(),
        Some(Reading::Sysctls(settings)) => settings.iter().map(|(name, _)| name.clone()).collect(),
        Some(Reading::RuleSets(tables)) => {
            tables.iter().map(|table| format!("{:?} {}", table.backend, table.name)).collect()
        }
        Some(Reading::Sets(sets)) => sets.iter().map(|(name, _)| name.clone()).collect(),
        Some(Reading::RoutingDaemon(Daemon::NotRunning(_))) => vec!["state".to_owned()],
        Some(Reading::RoutingDaemon(Daemon::Running(bird))) => {
            bird.sessions.iter().map(|session| session.peer.to_string()).collect()
        }
    }
}

/// `ip route` prints the rows of one table, `ip route show table all` those of each.
fn route_key(row: &RouteRow) -> String {
    let route = &row.route;
    format!("{} {} {} {} {:?}", route.destination, route.metric, route.tos, row.names_table, route.kind)
}

/// A device is shown once by each of the forms that show something else of it.
fn link_key(entry: &LinkEntry) -> String {
    format!("{} {:?}", entry.link.name, entry.shows)
}

#[cfg(test)]
mod tests {
    use crate::{
        sample::{NeighbourState, Sample},
        sources::pasted::{Text, read},
    };

    fn samples(texts: &[(&str, &str, &str)]) -> Vec<Sample> {
        let text = |(place, file, text): &(&str, &str, &str)| Text {
            place: (*place).to_owned(),
            file: (*file).to_owned(),
            text: (*text).to_owned(),
        };
        read(&texts.iter().map(text).collect::<Vec<_>>())
    }

    const BEFORE: &str =
        "default via 10.0.0.1 dev eth0\n10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.5\n";
    const NEIGHBOUR: &str = "10.0.0.1 dev eth0 FAILED\n";

    #[test]
    fn outputs_of_one_place_are_joined() {
        let joined = samples(&[("node1", "a", BEFORE), ("node1", "b", NEIGHBOUR), ("node2", "a", BEFORE)]);
        let [first, second] = joined.as_slice() else { panic!("{joined:#?}") };
        assert_eq!((first.routes.len(), first.neighbours[0].state), (2, NeighbourState::Failed));
        assert_eq!(first.neighbours[0].link, first.routes[0].hops[0].link.unwrap());
        assert_eq!((second.node.hostname.as_str(), second.neighbours.len()), ("node2", 0));
    }

    #[test]
    fn what_is_shown_again_is_another_look_or_another_file() {
        let again = format!("{BEFORE}\nthen\n\n{BEFORE}10.0.1.0/24 dev eth1 scope link\n");
        let names = |samples: Vec<Sample>| samples.into_iter().map(|it| it.node.hostname).collect::<Vec<_>>();
        assert_eq!(names(samples(&[("node", "a", &again)])), ["node (look 1)", "node (look 2)"]);
        let other = BEFORE.replace("10.0.0.5", "10.0.0.6");
        let apart = samples(&[("all", "n1", BEFORE), ("all", "n2", &other), ("all", "n3", NEIGHBOUR)]);
        assert_eq!(names(apart), ["all, n1", "all, n2", "all, n3"]);
        assert_eq!(samples(&[("node", "a", BEFORE), ("node", "b", BEFORE)]).len(), 1);
    }

    #[test]
    fn prompts_name_the_machines() {
        let text = format!("root@n1:~# ip r\n{BEFORE}root@n2:~# ip r\n{BEFORE}root@n1:~# ip n\n{NEIGHBOUR}");
        let samples = samples(&[("a file", "a", &text)]);
        let [first, second] = samples.as_slice() else { panic!("{samples:#?}") };
        assert_eq!((first.node.hostname.as_str(), first.neighbours.len()), ("n1", 1));
        assert_eq!((second.node.hostname.as_str(), second.neighbours.len()), ("n2", 0));
    }
}
