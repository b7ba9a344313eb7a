//! Devices that went, came or changed.

use super::{Change, Happened, Meaning, meant::Meant, routes::meant_or};
use crate::{model::Model, report::document::SubjectKind, sample::Link};

pub fn judge(before: &Model<'_>, after: &Model<'_>, meant: &Meant<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for link in &before.sample.links {
        let mut note = |happened, what: &str, may_be_meant: bool| {
            let is_meant = may_be_meant && meant.names_link(link);
            let meaning = if is_meant { meant_or(Meaning::Harmless) } else { Meaning::Harmless };
            changes.push(change((happened, meaning), link, what));
        };
        let Some(now) = same_device(before, link, after) else {
            note(Happened::Went, "went", true);
            continue;
        };
        // Whether it is a loss is what is wrong now, if anything.
        match (link.up, now.up) {
            (true, false) => note(Happened::Changed, "was set down", true),
            (false, true) => note(Happened::Changed, "was set up", false),
            _ => {}
        }
        for (what, was, is) in attributes(before, link, after, now) {
            if was != is {
                note(Happened::Changed, &format!("has {what} {is}, which was {was}"), false);
            }
        }
    }
    let came = after.sample.links.iter().filter(|link| same_device(after, link, before).is_none());
    changes.extend(came.map(|link| change((Happened::Came, Meaning::Harmless), link, "came")));
    changes
}

fn change(how: (Happened, Meaning), link: &Link, what: &str) -> Change {
    Change::new(how, (SubjectKind::Interface, link.name.clone()), format!("{} {what}", link.name))
}

fn attributes(
    before: &Model<'_>,
    was: &Link,
    after: &Model<'_>,
    is: &Link,
) -> [(&'static str, String, String); 3] {
    let address = |link: &Link| match link.hardware_address.clone() {
        Some(address) if !have_one_address(was, is) => address,
        _ => "none".to_owned(),
    };
    let master = |model: &Model<'_>, link: &Link| {
        let master = link.master.and_then(|master| model.link(master));
        master.map_or_else(|| "none".to_owned(), |master| master.name.clone())
    };
    [
        ("the MTU", was.mtu.to_string(), is.mtu.to_string()),
        ("the address", address(was), address(is)),
        ("the master", master(before, was), master(after, is)),
    ]
}

/// The same device in another look. The name of a veth is used again by the next pod, its index is not, but over a
/// restart. Of the others one that was made anew as it was is the same one.
pub fn same_device<'a>(looked_at: &Model<'_>, link: &Link, other: &Model<'a>) -> Option<&'a Link> {
    if let Some(same) = other.link(link.index).filter(|same| same.name == link.name && same.kind == link.kind)
        && looked_at.sample.node.boot_id == other.sample.node.boot_id
    {
        return Some(same);
    }
    let by_name = other.link_by_name(&link.name).filter(|same| same.kind == link.kind)?;
    let was_restarted = looked_at.sample.node.boot_id != other.sample.node.boot_id;
    let is_as_it_was = link.kind.as_deref() != Some("veth") && have_one_address(by_name, link);
    (was_restarted || is_as_it_was).then_some(by_name)
}

/// A bridge whose last port has gone has no address, and one that is made anew gets any.
pub fn have_one_address(one: &Link, other: &Link) -> bool {
    own_address(one) == own_address(other)
        || [one, other]
            .iter()
            .any(|link| link.kind.as_deref() == Some("bridge") && own_address(link).is_none())
}

fn own_address(link: &Link) -> Option<&str> {
    link.hardware_address.as_deref().filter(|address| *address != "00:00:00:00:00:00")
}
