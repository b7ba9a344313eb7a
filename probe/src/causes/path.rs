//! The points that packets of a case must pass on this node, and how many passed each.

use std::collections::BTreeSet;

use super::{
    both_ends,
    case::{Case, Sender},
    tunnel::TUNNEL,
};
use crate::report::document::{Direction, PathPoint, Point};

/// Where packets of a direction come from or go to, seen from this node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Pod,
    Host,
    OtherNode { bare: bool },
}

fn sender_end(case: &Case<'_>) -> End {
    match &case.sender {
        Sender::Pod { .. } => End::Pod,
        Sender::Host { .. } => End::Host,
        Sender::Remote { address } => End::OtherNode { bare: case.model.has_bare_route(*address) },
    }
}

fn target_end(case: &Case<'_>) -> End {
    let own = case.model.own_block(case.target).map(|block| block.destination.prefix_len());
    let remote = case.model.remote_block(case.target).map(|block| block.route.destination.prefix_len());
    if case.model.is_local_pod(case.target) || (own.is_some() && own >= remote) {
        End::Pod
    } else {
        End::OtherNode { bare: case.model.has_bare_route(case.target) }
    }
}

/// How another node sends is its own choice: what arrived tells it, and this node's route only where nothing did.
fn as_arrived(case: &Case<'_>, direction: Direction, origin: End) -> End {
    match origin {
        End::OtherNode { .. } if case.trail.count(direction, Point::FromWire) > 0 => {
            End::OtherNode { bare: false }
        }
        other => other,
    }
}

/// The points of a direction in the order in which they are passed.
pub fn expected(case: &Case<'_>, direction: Direction) -> Vec<Point> {
    let (origin, destination) = match direction {
        Direction::Forward => (sender_end(case), target_end(case)),
        Direction::Return => (target_end(case), sender_end(case)),
    };
    let mut points = match as_arrived(case, direction, origin) {
        End::Pod => vec![Point::FromPod],
        End::Host => vec![],
        End::OtherNode { bare: true } => vec![Point::Bare],
        End::OtherNode { bare: false } => vec![Point::FromWire, Point::FromTunnel],
    };
    points.extend_from_slice(match destination {
        End::Pod => &[Point::ToPod],
        End::Host => &[],
        End::OtherNode { bare: true } => &[Point::Bare],
        End::OtherNode { bare: false } => &[Point::ToTunnel, Point::ToWire],
    });
    points
}

/// The first point that none of the lost packets was seen at.
pub fn first_missing(case: &Case<'_>, direction: Direction, lost: &BTreeSet<u16>) -> Option<Point> {
    expected(case, direction)
        .into_iter()
        .find(|point| case.trail.sequences(direction, *point).is_disjoint(lost))
}

/// Every point with its packets on the nodes that were watched, in the order in which they are passed.
pub fn path(case: &Case<'_>) -> Vec<PathPoint> {
    let far = case.far.filter(|_| both_ends::has_left(case));
    let answers = |far: &&Case<'_>| far.trail.steps.iter().any(|step| step.direction == Direction::Return);
    let mut path = points(case, Direction::Forward);
    path.extend(far.into_iter().flat_map(|far| points(far, Direction::Forward)));
    path.extend(far.filter(answers).into_iter().flat_map(|far| points(far, Direction::Return)));
    path.extend(points(case, Direction::Return));
    path
}

/// Every point of a node up to the first that nothing passed; what left elsewhere is added.
fn points(case: &Case<'_>, direction: Direction) -> Vec<PathPoint> {
    let mut path = Vec::new();
    let expected = expected(case, direction);
    for point in &expected {
        let seen = entry(case, direction, *point);
        let ended = seen.packets == 0;
        path.push(seen);
        if ended {
            break;
        }
    }
    if !expected.contains(&Point::Bare) && case.trail.count(direction, Point::Bare) > 0 {
        path.push(entry(case, direction, Point::Bare));
    }
    path
}

fn entry(case: &Case<'_>, direction: Direction, point: Point) -> PathPoint {
    let mut steps = case.trail.at(direction, point).peekable();
    let device = match (steps.peek(), point) {
        (Some(step), _) => case.link_name(step.link),
        (None, Point::ToTunnel | Point::FromTunnel) => TUNNEL.to_owned(),
        (None, Point::FromPod) => case.sender.link().map_or_else(String::new, |link| case.link_name(link)),
        (None, _) => String::new(),
    };
    let (packets, bytes) = steps.fold((0, 0), |(packets, bytes), step| {
        let length: u64 = step.seen.iter().map(|sighting| u64::from(sighting.length)).sum();
        (packets + u32::try_from(step.seen.len()).unwrap_or(u32::MAX), bytes + length)
    });
    PathPoint { point, direction, node: case.node.clone(), device, packets, bytes }
}
