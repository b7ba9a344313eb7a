//! Pods that ask for their gateway and send nothing else: without an ARP answer a pod cannot send, and no packet is
//! there to be counted or dropped. The devices' own counters show the requests: frames of exactly their size.

use std::{collections::HashMap, time::Duration};

use super::{Explanation, Key, Seen, judging::sender};
use crate::{
    causes::{
        case::{Case, Located},
        gateway,
        trail::{Telling, Trail},
    },
    model::Model,
    observation::{Observation, Traffic},
    reading::{Frames, Reading},
    report::document::{Direction, EvidenceSource},
};

/// How often the devices' counters are read.
const PAUSE: Duration = Duration::from_secs(2);
/// Bytes of an ARP request: RFC 826 for IPv4, behind an Ethernet header.
const REQUEST: u64 = 42;
/// A pod that got an answer asks once. The kernel asks once a second.
const REQUESTS: u64 = 3;
const SEEN_AT: u32 = 2;
/// How long a pod is remembered that no longer asks.
const REMEMBERED: Duration = Duration::from_mins(1);
/// How long a pod is left alone that asks on though this node answers it: it may ask for others.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// Pods that are judged at one reading.
const MOST_JUDGED: usize = 64;

/// A pod's device as it was last.
#[derive(Clone, Copy, Debug)]
struct Counted {
    frames: u64,
    bytes: u64,
    /// IPv4 packets, by the ledger.
    packets: u64,
}

#[derive(Clone, Copy, Debug)]
struct Mute {
    requests: u64,
    untold: u64,
    seen_at: u32,
    last: Duration,
    /// Until when it is left alone, because this node answers it.
    answered_until: Duration,
}

/// All pods that may be mute.
#[derive(Clone, Debug, Default)]
pub struct MutePods {
    counted: HashMap<u32, Counted>,
    mute: HashMap<u32, Mute>,
    next: Duration,
}

impl MutePods {
    /// Whether the devices' counters are wanted now.
    pub fn is_due(&self, now: Duration) -> bool {
        now >= self.next
    }

    /// Takes in what the devices count, together with what the ledger does.
    pub fn read(&mut self, now: Duration, frames: &[Frames], reading: &Reading) {
        self.next = now + PAUSE;
        let frames: HashMap<u32, &Frames> = frames.iter().map(|frames| (frames.link, frames)).collect();
        let counted = reading.links.iter().filter(|link| link.covered_since.is_some()).filter_map(|link| {
            let frames = frames.get(&link.link)?;
            let (frames, bytes) = (frames.packets, frames.bytes);
            Some((link.link, Counted { frames, bytes, packets: link.from_pod.buffers }))
        });
        let counted: HashMap<u32, Counted> = counted.collect();
        self.mute
            .retain(|link, mute| counted.contains_key(link) && now.saturating_sub(mute.last) < REMEMBERED);
        let before = std::mem::replace(&mut self.counted, counted.clone());
        for (link, after) in &counted {
            if let Some(before) = before.get(link) {
                self.compare(now, *link, before, after);
            }
        }
    }

    fn compare(&mut self, now: Duration, link: u32, before: &Counted, after: &Counted) {
        if after.packets != before.packets || after.frames < before.frames {
            self.mute.remove(&link);
            return;
        }
        let frames = after.frames - before.frames;
        if frames == 0 || after.bytes.saturating_sub(before.bytes) != frames * REQUEST {
            return;
        }
        let mute = self.mute.entry(link).or_insert(Mute::new(now));
        mute.requests += frames;
        mute.untold += frames;
        mute.seen_at += 1;
        mute.last = now;
    }

    /// Whether the node has to be known as it is now.
    pub fn is_empty(&self, now: Duration) -> bool {
        !self.mute.values().any(|mute| mute.is_suspect(now))
    }

    /// Those whose requests this node does not answer, by its settings and routes.
    pub fn seen(&mut self, now: Duration, model: &Model<'_>) -> Vec<Seen> {
        let mut suspects: Vec<(&u32, &mut Mute)> =
            self.mute.iter_mut().filter(|(_, mute)| mute.is_suspect(now)).collect();
        suspects.sort_by_key(|(link, _)| **link);
        let judged = suspects.into_iter().take(MOST_JUDGED).filter_map(|(link, mute)| {
            let Some(explanation) = unanswered(model, *link, mute.requests) else {
                mute.answered_until = now + LEFT_ALONE;
                return None;
            };
            Some(Seen { explanation, packets: std::mem::take(&mut mute.untold) })
        });
        judged.collect()
    }
}

impl Mute {
    fn new(now: Duration) -> Self {
        Self { requests: 0, untold: 0, seen_at: 0, last: now, answered_until: Duration::ZERO }
    }

    fn is_suspect(&self, now: Duration) -> bool {
        self.requests >= REQUESTS && self.seen_at >= SEEN_AT && now >= self.answered_until
    }
}

/// Why this node does not answer the pod behind a device.
fn unanswered(model: &Model<'_>, link: u32, requests: u64) -> Option<Explanation> {
    let device = model.link(link)?;
    let pod = model.pods().iter().find(|pod| pod.link == link)?;
    let observation = Observation::default();
    let telling = Telling::Pair { source: pod.address, target: gateway::GATEWAY };
    let case = Case {
        before: model.sample,
        after: model.sample,
        model,
        node: model.node_name(),
        sender: sender(model, pod.address),
        target: gateway::GATEWAY,
        traffic: Traffic::default(),
        telling,
        observation: &observation,
        trail: Trail::new(telling, &observation, &[]),
        far: None,
    };
    let Located { finding, place } = gateway::silent(&case, Direction::Forward, device)?;
    let text = format!(
        "{requests} frames of {REQUEST} bytes, as ARP requests are, came by {} and nothing else",
        device.name
    );
    let finding = finding.with(EvidenceSource::Counter, text);
    Some(Explanation {
        key: Key { cause: Some(finding.cause), subject: finding.subject.clone() },
        place: Some(place),
        summary: finding.summary.clone(),
        finding: Some(finding),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        causes::Cause,
        reading::{Count, LinkCounts},
        sample::{Address, InterfaceSysctls, Link, Route, Sample},
    };

    const LINK: u32 = 7;

    fn node(proxy_arp: bool) -> Sample {
        let hop = |link| crate::sample::Hop { link: Some(link), ..crate::sample::Hop::default() };
        let route = |destination: &str, link| Route {
            destination: destination.parse().unwrap(),
            table: 254,
            hops: vec![hop(link)],
            ..Route::default()
        };
        let mut sample = Sample {
            links: vec![
                Link { index: LINK, name: "cali7".to_owned(), up: true, ..Link::default() },
                Link { index: 2, name: "eth0".to_owned(), up: true, ..Link::default() },
            ],
            addresses: vec![Address {
                link: 2,
                address: [172, 30, 10, 188].into(),
                prefix_length: 24,
                scope: 0,
            }],
            routes: vec![route("10.200.55.237/32", LINK), route("0.0.0.0/0", 2)],
            rules: vec![crate::sample::Rule::for_all(32766, 254)],
            ..Sample::default()
        };
        let settings =
            InterfaceSysctls { forwarding: Some(true), rp_filter: Some(0), proxy_arp: Some(proxy_arp) };
        sample.sysctls.interfaces.insert("cali7".to_owned(), settings);
        sample
    }

    /// What is seen after readings of frames, bytes of each, and IPv4 packets, two seconds apart.
    fn seen(proxy_arp: bool, readings: &[(u64, u64, u64)]) -> Vec<(Option<Cause>, u64)> {
        let mut pods = MutePods::default();
        let (mut frames, mut bytes, mut packets) = (100, 9000, 50);
        for (number, (more, size, ipv4)) in (0u64..).zip([(0, 0, 0)].iter().chain(readings)) {
            frames += more;
            bytes += more * size;
            packets += ipv4;
            let link = LinkCounts {
                link: LINK,
                name: "cali7".to_owned(),
                covered_since: Some(String::new()),
                from_pod: Count { segments: packets, buffers: packets },
                ..LinkCounts::default()
            };
            let reading = Reading { links: vec![link], ..Reading::default() };
            pods.read(
                Duration::from_secs(2 * number),
                &[Frames { link: LINK, packets: frames, bytes }],
                &reading,
            );
        }
        let sample = node(proxy_arp);
        let now = Duration::from_secs(2 * readings.len() as u64);
        let seen = pods.seen(now, &Model::new(&sample));
        seen.into_iter().map(|seen| (seen.explanation.key.cause, seen.packets)).collect()
    }

    #[test]
    fn a_pod_that_asks_in_vain_is_seen_where_the_node_does_not_answer() {
        let asks = [(2, 42, 0), (2, 42, 0)];
        assert_eq!(seen(false, &asks), [(Some(Cause::ProxyArpOff), 4)]);
        assert_eq!(seen(true, &asks), []);
    }

    #[test]
    fn a_pod_that_sends_or_is_quiet_or_sends_something_else_is_not() {
        for other in [
            [(2, 42, 0), (2, 42, 1)],
            [(1, 42, 0), (1, 42, 0)],
            [(0, 0, 0), (4, 42, 0)],
            [(2, 70, 0), (2, 70, 0)],
            [(0, 0, 0), (0, 0, 0)],
        ] {
            assert_eq!(seen(false, &other), [], "{other:?}");
        }
    }
}
