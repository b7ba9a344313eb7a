//! `ipset list` and `ipset save`: sets with the networks in them.

use ipnet::Ipv4Net;

use super::values::{self, Shown};

/// More than Felix puts into the sets that are wanted.
const MOST_MEMBERS: usize = 200_000;
/// What `ipset list` prints before the members.
const HEADERS: [&str; 6] =
    ["Type:", "Revision:", "Header:", "Size in memory:", "References:", "Number of entries:"];

pub fn begins(line: &str) -> bool {
    is_name(line) || line.starts_with("create ") || line.starts_with("add ")
}

fn is_name(line: &str) -> bool {
    line.strip_prefix("Name: ").is_some_and(|name| !name.trim().is_empty() && !name.trim().contains(' '))
}

/// Members stand at the margin, a blank line between sets.
pub fn goes_on(line: &str) -> bool {
    let line = line.trim();
    line.is_empty()
        || line == "Members:"
        || HEADERS.iter().any(|header| line.starts_with(header))
        || member(line).is_some()
}

/// Reads the sets by name.
pub fn read(lines: &[String]) -> Vec<(String, Vec<Ipv4Net>)> {
    let mut sets: Vec<(String, Vec<Ipv4Net>)> = Vec::new();
    let mut members = 0;
    for line in lines {
        if let Some(name) = line.strip_prefix("Name: ") {
            sets.push((name.trim().to_owned(), Vec::new()));
        } else if let Some(name) = line.strip_prefix("create ").and_then(|rest| rest.split(' ').next()) {
            sets.push((name.to_owned(), Vec::new()));
        } else if members < MOST_MEMBERS {
            let added = line.strip_prefix("add ").and_then(|rest| rest.split_once(' '));
            let name = added.map(|(name, _)| name);
            let found = member(added.map_or(line, |(_, member)| member));
            let set = sets.iter_mut().rev().find(|(other, _)| name.is_none_or(|name| name == other));
            if let (Some(network), Some((_, set))) = (found, set) {
                set.push(network);
                members += 1;
            }
        }
    }
    sets
}

/// The rest of a line is a timeout, a comment or counters.
fn member(line: &str) -> Option<Ipv4Net> {
    let word = line.split_whitespace().next()?;
    match values::network(word)? {
        Shown::Whole(network) if !line.contains(" dev ") && !line.contains(" via ") => Some(network),
        Shown::Whole(_) | Shown::Masked(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_are_read_in_both_shapes() {
        let listed = "Name: cali40all-ipam-pools\nType: hash:net\nRevision: 6\nHeader: family inet hashsize 1024\nSize in memory: 448\nReferences: 1\nNumber of entries: 1\nMembers:\n10.200.0.0/16\n\nName: cali40all-hosts-net\nType: hash:net\nMembers:\n172.30.10.187\n172.30.10.188";
        let saved = "create cali40all-ipam-pools hash:net family inet\nadd cali40all-ipam-pools 10.200.0.0/16\ncreate cali40all-hosts-net hash:net\nadd cali40all-hosts-net 172.30.10.187\nadd cali40all-hosts-net 172.30.10.188";
        let read = |text: &str| read(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(read(listed), read(saved));
        assert_eq!(read(saved)[1].1.len(), 2);
        assert_eq!(read(saved)[0].1, ["10.200.0.0/16".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn any_lines_are_read_without_a_panic(text in "(.{0,40}\n){0,8}", like in "((Name:|create|add|Members:|10.0.0.0/)[ a-z0-9.]{0,12}\n){0,8}") {
            let _ = read(&text.lines().map(str::to_owned).collect::<Vec<_>>());
            let _ = read(&like.lines().map(str::to_owned).collect::<Vec<_>>());
        }
    }
}
