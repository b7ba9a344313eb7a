//! The followed packets of one sender, ordered into the places that they passed.

use std::{collections::BTreeSet, net::Ipv4Addr};

use crate::{
    observation::{DropNamespace, DropSighting, Observation, PacketId, PacketKind, Sighting},
    report::document::{Direction, Point},
    sample::Link,
};

/// What a device is to pod traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRole {
    /// The host's end of a pod's veth.
    Pod,
    /// `tunl0`.
    Tunnel,
    /// Any other device; on it pod traffic is encapsulated, or bare.
    Wire,
}

impl DeviceRole {
    /// Calico names the host's end of a pod's veth `cali…`; the fallback device of the ipip module is `tunl0`.
    pub fn of(link: &Link) -> Self {
        if link.name == "tunl0" {
            Self::Tunnel
        } else if link.name.starts_with("cali") {
            Self::Pod
        } else {
            Self::Wire
        }
    }
}

/// How the direction of a packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Probes of this flow: requests go forward, replies return, whatever NAT does to the addresses.
    Flow(u8),
    /// Packets between two addresses: what leaves `source` goes forward.
    Pair { source: Ipv4Addr, target: Ipv4Addr },
}

impl Telling {
    /// The direction of a packet of this sender; `None` for others' packets and for ICMP errors.
    fn direction(self, packet: &PacketId) -> Option<Direction> {
        match (self, packet.kind) {
            (_, PacketKind::IcmpError { .. }) => None,
            (Self::Flow(flow), _) if packet.flow != flow => None,
            (Self::Flow(_), PacketKind::EchoRequest | PacketKind::TcpSyn | PacketKind::Datagram) => {
                Some(Direction::Forward)
            }
            (
                Self::Flow(_),
                PacketKind::EchoReply
                | PacketKind::TcpAccepted
                | PacketKind::TcpReset
                | PacketKind::DatagramAnswer,
            ) => Some(Direction::Return),
            (Self::Flow(_), PacketKind::Other) => None,
            (Self::Pair { source, target }, _) => {
                if packet.source == source && packet.destination == target {
                    Some(Direction::Forward)
                } else if packet.source == target && packet.destination == source {
                    Some(Direction::Return)
                } else {
                    None
                }
            }
        }
    }

    fn is_ours(self, packet: &PacketId) -> bool {
        match self {
            Self::Flow(flow) => packet.flow == flow,
            Self::Pair { .. } => true,
        }
    }
}

/// A place that packets of one direction passed.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    pub point: Point,
    pub direction: Direction,
    pub link: u32,
    /// Every packet that was seen here, in order.
    pub seen: Vec<&'a Sighting>,
}

/// A drop with its direction.
#[derive(Clone, Copy, Debug)]
pub struct Dropped<'a> {
    pub direction: Direction,
    pub drop: &'a DropSighting,
}

/// An ICMP error that quotes a followed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    pub from: Ipv4Addr,
    pub icmp_type: u8,
    pub code: u8,
}

/// Where the packets of one sender were seen.
#[derive(Clone, Debug, Default)]
pub struct Trail<'a> {
    pub steps: Vec<Step<'a>>,
    pub drops: Vec<Dropped<'a>>,
    pub errors: Vec<IcmpError>,
}

impl<'a> Trail<'a> {
    pub fn new(telling: Telling, observation: &'a Observation, links: &[Link]) -> Self {
        let mut trail = Self::default();
        for sighting in &observation.sightings {
            trail.enter(telling, sighting, links);
        }
        for drop in &observation.drops {
            // What a namespace of unknown name drops is nobody's fault that can be proven.
            if drop.namespace == DropNamespace::Unknown && drop.link.is_none() && drop.hook.is_none() {
                continue;
            }
            if let Some(direction) = telling.direction(&drop.packet) {
                trail.drops.push(Dropped { direction, drop });
            }
        }
        trail
    }

    fn enter(&mut self, telling: Telling, sighting: &'a Sighting, links: &[Link]) {
        let Some(link) = links.iter().find(|link| link.index == sighting.link) else { return };
        if let PacketKind::IcmpError { icmp_type, code, .. } = sighting.packet.kind {
            let error = IcmpError { from: sighting.packet.source, icmp_type, code };
            if telling.is_ours(&sighting.packet) && !self.errors.contains(&error) {
                self.errors.push(error);
            }
            return;
        }
        let Some(direction) = telling.direction(&sighting.packet) else { return };
        let point = point_of(DeviceRole::of(link), sighting);
        let at = |step: &&mut Step<'_>| {
            step.point == point && step.direction == direction && step.link == sighting.link
        };
        match self.steps.iter_mut().find(at) {
            // A SYN is sent again while nothing answers it: the same probe.
            Some(step) if repeats(telling, step, sighting) => {}
            Some(step) => step.seen.push(sighting),
            None => self.steps.push(Step { point, direction, link: sighting.link, seen: vec![sighting] }),
        }
    }

    /// The address that packets came from where they were seen last on their way to the target.
    pub fn source(&self) -> Option<Ipv4Addr> {
        let mut forward = self.steps.iter().filter(|step| step.direction == Direction::Forward);
        forward.next_back()?.seen.first().map(|sighting| sighting.packet.source)
    }

    /// Packets seen at a point, on whatever device.
    pub fn count(&self, direction: Direction, point: Point) -> usize {
        self.at(direction, point).map(|step| step.seen.len()).sum()
    }

    pub fn at(&self, direction: Direction, point: Point) -> impl Iterator<Item = &Step<'a>> {
        self.steps.iter().filter(move |step| step.direction == direction && step.point == point)
    }

    /// The probes that were seen at a point.
    pub fn sequences(&self, direction: Direction, point: Point) -> BTreeSet<u16> {
        self.at(direction, point)
            .flat_map(|step| step.seen.iter().map(|sighting| sighting.packet.sequence))
            .collect()
    }

    /// The first drop of a direction in the namespace that is diagnosed.
    pub fn drop_here(&self, direction: Direction) -> Option<&'a DropSighting> {
        self.drops
            .iter()
            .find(|dropped| dropped.direction == direction && dropped.drop.namespace != DropNamespace::Other)
            .map(|dropped| dropped.drop)
    }

    /// The first drop of a direction inside a pod.
    pub fn drop_in_pod(&self, direction: Direction) -> Option<&'a DropSighting> {
        self.drops
            .iter()
            .find(|dropped| dropped.direction == direction && dropped.drop.namespace == DropNamespace::Other)
            .map(|dropped| dropped.drop)
    }
}

fn repeats(telling: Telling, step: &Step<'_>, sighting: &Sighting) -> bool {
    matches!(telling, Telling::Flow(_)) && step.seen.iter().any(|seen| seen.packet == sighting.packet)
}

fn point_of(role: DeviceRole, sighting: &Sighting) -> Point {
    match (role, sighting.outgoing) {
        (DeviceRole::Pod, false) => Point::FromPod,
        (DeviceRole::Pod, true) => Point::ToPod,
        (DeviceRole::Tunnel, false) => Point::FromTunnel,
        (DeviceRole::Tunnel, true) => Point::ToTunnel,
        (DeviceRole::Wire, _) if sighting.outer.is_none() => Point::Bare,
        (DeviceRole::Wire, false) => Point::FromWire,
        (DeviceRole::Wire, true) => Point::ToWire,
    }
}
