//! Devices by name, from every output that names one. Each gets an index; one of which nothing but the name is known
//! counts as a device in order, and what is not known of it is missing.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    looks::Look,
    readings::{LinkEntry, Reading},
};
use crate::sample::{Address, Link, Part, Route};

#[derive(Default)]
pub struct Devices {
    all: Vec<Device>,
    by_name: HashMap<String, usize>,
    indices: HashSet<u32>,
    last_index: u32,
}

#[derive(Default)]
struct Device {
    link: Link,
    shows: BTreeSet<Part>,
    master: Option<String>,
    lower: Option<String>,
    addresses: Vec<Address>,
    /// An output lists it as a device, rather than as where a route leads.
    is_listed: bool,
}

impl Devices {
    /// Those that outputs list.
    pub fn of<'a>(lists: impl Iterator<Item = &'a [LinkEntry]>) -> Self {
        let mut devices = Self::default();
        let entries: Vec<&LinkEntry> = lists.flatten().collect();
        devices.last_index = entries.iter().map(|entry| entry.link.index).max().unwrap_or_default();
        for entry in entries {
            devices.enter(entry);
        }
        devices
    }

    fn enter(&mut self, entry: &LinkEntry) {
        let at = self.place(&entry.link.name, Some(entry.link.index).filter(|index| *index > 0));
        let Some(device) = self.all.get_mut(at) else { return };
        device.is_listed = true;
        let (link, shown) = (&mut device.link, &entry.link);
        if entry.shows.contains(&Part::LinkStates) {
            (link.up, link.carrier, link.running) = (shown.up, shown.carrier, shown.running);
        }
        if shown.mtu > 0 {
            link.mtu = shown.mtu;
        }
        if entry.shows.contains(&Part::LinkStatistics) {
            link.statistics = shown.statistics;
        }
        if shown.link_layer_type != 0 {
            link.link_layer_type = shown.link_layer_type;
        }
        link.kind = shown.kind.clone().or(link.kind.take());
        link.hardware_address = shown.hardware_address.clone().or(link.hardware_address.take());
        link.peer_namespace = shown.peer_namespace.or(link.peer_namespace);
        link.lower = shown.lower.or(link.lower);
        device.master = entry.master.clone().or(device.master.take());
        device.lower = entry.lower.clone().or(device.lower.take());
        device.shows.extend(&entry.shows);
        for (address, prefix_length, scope) in entry.addresses.iter().copied() {
            let address = Address { link: device.link.index, address, prefix_length, scope };
            if !device.addresses.contains(&address) {
                device.addresses.push(address);
            }
        }
    }

    fn place(&mut self, name: &str, index: Option<u32>) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let index = index.filter(|index| !self.indices.contains(index)).unwrap_or_else(|| {
            self.last_index = self.last_index.saturating_add(1);
            self.last_index
        });
        self.indices.insert(index);
        let link = Link { index, name: name.to_owned(), up: true, carrier: true, ..Link::default() };
        self.all.push(Device { link, ..Device::default() });
        self.by_name.insert(name.to_owned(), self.all.len() - 1);
        self.all.len() - 1
    }

    /// The index of a device by its name.
    pub fn index(&mut self, name: &str) -> u32 {
        let at = self.place(name, None);
        self.all.get(at).map_or(0, |device| device.link.index)
    }

    /// What a route's flags say of a device whose state no output shows.
    pub fn learn(&mut self, name: &str, is_dead: bool, has_no_carrier: bool) {
        let at = self.by_name.get(name).copied();
        if let Some(device) =
            at.and_then(|at| self.all.get_mut(at)).filter(|device| !device.shows.contains(&Part::LinkStates))
        {
            device.link.up &= !is_dead;
            device.link.carrier &= !is_dead && !has_no_carrier;
        }
    }

    /// Gives the routes what the devices show and `route -n` does not print.
    pub fn mark(&self, routes: &mut [Route]) {
        let without: HashMap<u32, bool> = self
            .all
            .iter()
            .filter(|device| device.shows.contains(&Part::LinkStates))
            .map(|device| (device.link.index, !device.link.carrier))
            .collect();
        for hop in routes.iter_mut().flat_map(|route| &mut route.hops) {
            hop.link_down |= hop.link.and_then(|link| without.get(&link)).copied().unwrap_or_default();
        }
    }

    pub fn addresses(&self) -> Vec<Address> {
        self.all.iter().flat_map(|device| device.addresses.iter().cloned()).collect()
    }

    pub fn links(self) -> Vec<Link> {
        let index = |name: &Option<String>| {
            let at = self.by_name.get(name.as_ref()?)?;
            self.all.get(*at).map(|device| device.link.index)
        };
        let links = self.all.iter().map(|device| Link {
            master: index(&device.master),
            lower: index(&device.lower).or(device.link.lower),
            ..device.link.clone()
        });
        links.collect()
    }

    /// Why there may be devices that no output lists; `None` where one lists all.
    pub fn why_not_all(&self, look: &Look) -> Option<&'static str> {
        let lists = look.parts.iter().filter_map(|part| match &part.reading {
            Some(Reading::Links { entries, shows_those_that_are_down }) => {
                Some((entries, part.is_narrowed, *shows_those_that_are_down))
            }
            _ => None,
        });
        let mut why = Some("they were not shown: ip addr");
        for (entries, is_narrowed, shows_those_that_are_down) in lists {
            let has_loopback = entries.iter().any(|entry| entry.link.name == "lo");
            let is_part = is_narrowed || !has_loopback || self.all.iter().any(|device| !device.is_listed);
            why = match (is_part, shows_those_that_are_down) {
                (true, _) => Some("only some were shown: ip addr"),
                (false, false) => Some("ifconfig shows those alone that are up: ip addr"),
                (false, true) => return None,
            };
        }
        why
    }

    /// What is not known of every device.
    pub fn missing(&self) -> impl Iterator<Item = (Part, &'static str)> {
        let parts = [
            (Part::LinkStates, "not of every device: ip addr"),
            (Part::LinkKinds, "they were not shown: ip -d link"),
            (Part::LinkStatistics, "they were not shown: ip -s link"),
            (Part::Addresses, "not of every device: ip addr"),
        ];
        let lacks =
            |part: &Part| self.all.is_empty() || self.all.iter().any(|device| !device.shows.contains(part));
        parts.into_iter().filter(move |(part, _)| lacks(part))
    }
}
