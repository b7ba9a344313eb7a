//! The main table while it changes: a mirror that follows the kernel's notifications, and is read anew where they do
//! not tell all.

use std::time::{Duration, Instant};

use ipnet::Ipv4Net;

use crate::{
    causes::reset::{
        mirror::Mirror,
        returning::{Event, Moment, Returning},
    },
    sample::Sample,
    sources::{netlink::Netlink, next_hops, route_changes::Notice},
};

/// A device that changes says so several times; the table is read once they are through.
const QUIET: Duration = Duration::from_millis(50);

pub(super) struct Table {
    pub mirror: Mirror,
    /// How often notifications were lost.
    pub lost: u32,
    start: Instant,
    /// New blocks lie in these.
    pools: Vec<Ipv4Net>,
    /// When the mirror was the kernel's table last, since the start.
    true_at: Duration,
    /// Since when devices change, until the table is read anew.
    changing_since: Option<Duration>,
}

/// The main table of a sample.
pub(super) fn mirror_of(sample: &Sample) -> Mirror {
    Mirror::new(&sample.routes, &sample.links)
}

async fn read() -> anyhow::Result<Mirror> {
    let netlink = Netlink::open()?;
    let objects = next_hops::read()?;
    let mut routes = netlink.routes().await?;
    next_hops::fill(&mut routes, &objects);
    Ok(Mirror::new(&routes, &netlink.links().await?))
}

impl Table {
    pub(super) async fn read(start: Instant, pools: Vec<Ipv4Net>) -> anyhow::Result<Self> {
        let mirror = read().await?;
        Ok(Self { mirror, lost: 0, start, pools, true_at: start.elapsed(), changing_since: None })
    }

    /// Takes in a notification.
    pub(super) async fn take(
        &mut self,
        notice: Notice,
        returning: &mut Returning,
    ) -> anyhow::Result<Vec<Event>> {
        let now = self.start.elapsed();
        let mut events = Vec::new();
        let destination = match notice {
            Notice::Added { route, replaces } => {
                let destination = route.destination;
                let was_there = self.mirror.add(route, replaces);
                if let Some(since) = self.changing_since.filter(|_| was_there && !replaces) {
                    // It went with its device, of which the kernel says nothing, and returned before it was read.
                    let things = returning.within(destination);
                    let gone = |thing| returning.see(Moment::exact(since), thing, None);
                    events.extend(things.iter().filter_map(gone));
                }
                destination
            }
            Notice::Removed(route) => {
                self.mirror.remove(&route);
                route.destination
            }
            Notice::Devices => {
                self.changing_since.get_or_insert(now);
                return Ok(Vec::new());
            }
            Notice::Lost => {
                self.lost += 1;
                return self.read_anew(returning).await;
            }
        };
        if self.changing_since.is_none() {
            self.true_at = now;
        }
        let at = Moment::exact(now);
        let things = returning.within(destination);
        let seen = |thing| returning.see(at, thing, self.mirror.passage(thing).as_ref());
        events.extend(things.iter().filter_map(seen));
        events.extend(self.new_at(at, destination, returning));
        Ok(events)
    }

    fn new_at(&self, at: Moment, destination: Ipv4Net, returning: &mut Returning) -> Option<Event> {
        if !self.pools.iter().any(|pool| pool.contains(&destination)) {
            return None;
        }
        let thing = self.mirror.thing_at(destination)?;
        if returning.records().contains_key(&thing) {
            return None;
        }
        returning.see(at, &thing, self.mirror.passage(&thing).as_ref())
    }

    /// Reads the table anew where devices changed and are through.
    pub(super) async fn settle(&mut self, returning: &mut Returning) -> anyhow::Result<Vec<Event>> {
        match self.changing_since {
            Some(since) if self.start.elapsed().saturating_sub(since) >= QUIET => {
                self.read_again().await?;
                Ok(self.compare_all(Moment::exact(since), returning))
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Reads the table anew; what it shows happened since the mirror was true.
    pub(super) async fn read_anew(&mut self, returning: &mut Returning) -> anyhow::Result<Vec<Event>> {
        let since = self.true_at;
        self.read_again().await?;
        Ok(self.compare_all(Moment::between(since, self.true_at), returning))
    }

    async fn read_again(&mut self) -> anyhow::Result<()> {
        self.mirror = read().await?;
        self.changing_since = None;
        self.true_at = self.start.elapsed();
        Ok(())
    }

    /// Everything as the mirror has it now.
    pub(super) fn compare_all(&self, at: Moment, returning: &mut Returning) -> Vec<Event> {
        let everything = Ipv4Net::default();
        let mut events: Vec<Event> = returning
            .within(everything)
            .iter()
            .filter_map(|thing| returning.see(at, thing, self.mirror.passage(thing).as_ref()))
            .collect();
        let destinations: Vec<Ipv4Net> = self.mirror.destinations().collect();
        events.extend(
            destinations.into_iter().filter_map(|destination| self.new_at(at, destination, returning)),
        );
        events
    }
}
