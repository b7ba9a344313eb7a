//! Peers from which nothing is heard though packets go to them. That alone is no fault: datagrams need no answer, and a
//! pod that is gone gives none. It is what makes a closer look worth its price.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use super::{Explanation, Seen};
use crate::reading::Reading;

/// How long a peer must be silent before it is looked at.
const SILENT: Duration = Duration::from_secs(2);
/// Readings that must show packets to it: since it was heard last, and since the look before. A look itself sends some
/// between two readings.
const SENT_IN: u32 = 2;
/// How long ago the last of them may be.
const LATELY: Duration = Duration::from_secs(5);
/// How long a peer is remembered to which nobody sends.
const REMEMBERED: Duration = Duration::from_mins(1);
/// The pause after a look at a peer: the first one, and the longest. It doubles while looks tell nothing.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Peers of one look.
const MOST_AT_ONCE: usize = 64;

/// What a look at a silent peer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Packets to it come to nothing, and why.
    Lost(Box<Explanation>),
    /// It answers by the way that pods' packets take.
    Answers,
    /// Nothing that needs an answer was sent, or nothing tells why there is none.
    Unknown,
}

/// A peer that is looked at, and how long it was silent then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silent {
    pub peer: Ipv4Addr,
    pub since: Duration,
    /// Packets to it meanwhile, segments.
    pub sent: u64,
}

#[derive(Clone, Debug)]
struct Silence {
    /// The last moment at which it may have been heard.
    since: Duration,
    /// Packets since then, and those of them that no black hole has counted yet.
    sent: u64,
    untold: u64,
    /// Readings that showed packets, since then and since the last look.
    readings: u32,
    readings_since_look: u32,
    last_sent: Duration,
    next_look: Duration,
    pause: Duration,
    verdict: Option<Explanation>,
}

/// All silent peers.
#[derive(Clone, Debug, Default)]
pub struct Silences {
    peers: BTreeMap<Ipv4Addr, Silence>,
    last_reading: Duration,
}

impl Silences {
    /// Takes in what rose from one reading to the next. `bare` is what left for peers without encapsulation, which the
    /// ledger does not count by peer.
    pub fn read(&mut self, now: Duration, before: &Reading, reading: &Reading, bare: &[(Ipv4Addr, u64)]) {
        let earlier: BTreeMap<Ipv4Addr, (u64, u64)> = before.peers.iter().map(counts).collect();
        let mut known = BTreeSet::new();
        for (peer, (sent, heard)) in reading.peers.iter().map(counts) {
            let (sent_before, heard_before) = earlier.get(&peer).copied().unwrap_or((sent, heard));
            let bare: u64 = bare.iter().filter(|(to, _)| *to == peer).map(|(_, packets)| packets).sum();
            known.insert(peer);
            if heard == heard_before {
                self.enter(now, peer, sent.saturating_sub(sent_before) + bare);
            } else {
                self.peers.remove(&peer);
            }
        }
        self.peers.retain(|peer, silence| {
            known.contains(peer) && now.saturating_sub(silence.last_sent) < REMEMBERED
        });
        self.last_reading = now;
    }

    fn enter(&mut self, now: Duration, peer: Ipv4Addr, sent: u64) {
        if sent == 0 {
            return;
        }
        let silence = self.peers.entry(peer).or_insert_with(|| Silence::new(self.last_reading));
        silence.sent += sent;
        silence.untold += sent;
        silence.readings += 1;
        silence.readings_since_look += 1;
        silence.last_sent = now;
    }

    /// Those that are worth a look now.
    pub fn due(&self, now: Duration) -> Vec<Silent> {
        let due = self.peers.iter().filter(|(_, silence)| silence.is_due(now));
        due.map(|(peer, silence)| Silent { peer: *peer, since: silence.since, sent: silence.sent })
            .take(MOST_AT_ONCE)
            .collect()
    }

    /// What a look that began at `began` found of a peer. One that was heard meanwhile is no longer silent.
    pub fn judged(&mut self, began: Duration, now: Duration, peer: Ipv4Addr, heard: Heard) {
        let Some(silence) = self.peers.get_mut(&peer).filter(|silence| silence.since <= began) else {
            return;
        };
        silence.readings_since_look = 0;
        silence.next_look = now + silence.pause;
        match heard {
            Heard::Lost(explanation) => {
                silence.pause = PAUSE;
                silence.verdict = Some(*explanation);
            }
            Heard::Answers => silence.verdict = None,
            Heard::Unknown => {}
        }
        silence.pause = (2 * silence.pause).min(LONGEST_PAUSE);
    }

    /// Whether a look told why any of them is silent.
    pub fn any_lost(&self) -> bool {
        self.peers.values().any(|silence| silence.verdict.is_some())
    }

    /// What was lost since the reading before, of peers of which a look told why.
    pub fn seen(&mut self) -> Vec<Seen> {
        let lost = self.peers.values_mut().filter_map(|silence| {
            let explanation = silence.verdict.clone()?;
            Some(Seen { explanation, packets: std::mem::take(&mut silence.untold) })
        });
        lost.collect()
    }
}

impl Silence {
    fn new(since: Duration) -> Self {
        Self {
            since,
            sent: 0,
            untold: 0,
            readings: 0,
            readings_since_look: 0,
            last_sent: since,
            next_look: Duration::ZERO,
            pause: PAUSE,
            verdict: None,
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        self.readings >= SENT_IN
            && self.readings_since_look >= SENT_IN
            && now.saturating_sub(self.since) >= SILENT
            && now.saturating_sub(self.last_sent) <= LATELY
            && now >= self.next_look
    }
}

fn counts(peer: &crate::reading::PeerCounts) -> (Ipv4Addr, (u64, u64)) {
    (peer.peer, (peer.encapsulated.segments, peer.decapsulated.segments))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        causes::{Cause, opening::Key},
        reading::{PeerCounts, PeerWay},
        report::document::{Subject, SubjectKind},
    };

    const PEER: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);

    fn explanation() -> Explanation {
        let subject = Subject { kind: SubjectKind::Peer, value: PEER.to_string() };
        let key = Key { cause: Some(Cause::LostInUnderlay), subject };
        Explanation { key, place: None, summary: String::new(), finding: None }
    }

    /// A peer's two counters as they rise.
    #[derive(Default)]
    struct Peer {
        before: Reading,
        sent: u64,
        heard: u64,
        second: u64,
        silences: Silences,
    }

    impl Peer {
        fn read(&mut self, sent: u64, heard: u64) -> &mut Self {
            self.sent += sent;
            self.heard += heard;
            self.second += 1;
            let way = |segments| PeerWay { segments, ..PeerWay::default() };
            let peer = PeerCounts { peer: PEER, encapsulated: way(self.sent), decapsulated: way(self.heard) };
            let reading = Reading { peers: vec![peer], ..Reading::default() };
            self.silences.read(self.now(), &self.before, &reading, &[]);
            self.before = reading;
            self
        }

        fn now(&self) -> Duration {
            Duration::from_secs(self.second)
        }

        fn is_due(&self) -> bool {
            !self.silences.due(self.now()).is_empty()
        }

        fn judge(&mut self, heard: Heard) -> &mut Self {
            self.silences.judged(self.now(), self.now(), PEER, heard);
            self
        }

        fn lost(&mut self) -> Vec<u64> {
            self.silences.seen().iter().map(|seen| seen.packets).collect()
        }
    }

    #[test]
    fn a_peer_that_was_sent_to_in_two_seconds_and_stayed_silent_is_looked_at() {
        let mut peer = Peer::default();
        assert!(!peer.read(0, 0).read(3, 3).read(1, 0).is_due());
        assert!(peer.read(1, 0).is_due());
    }

    #[test]
    fn one_that_is_heard_or_that_nobody_sends_to_is_not() {
        let mut peer = Peer::default();
        peer.read(0, 0);
        for _ in 0..20 {
            assert!(!peer.read(100, 1).is_due());
        }
        for _ in 0..20 {
            assert!(!peer.read(0, 0).is_due());
        }
    }

    #[test]
    fn what_a_look_itself_sent_asks_for_no_other() {
        let mut peer = Peer::default();
        assert!(peer.read(0, 0).read(1, 0).read(1, 0).is_due());
        peer.judge(Heard::Unknown).read(1, 0);
        for _ in 0..30 {
            assert!(!peer.read(0, 0).is_due());
        }
    }

    #[test]
    fn looks_that_tell_nothing_become_rare() {
        let mut peer = Peer::default();
        let mut looks = 0;
        for _ in 0..120 {
            if peer.read(1, 0).is_due() {
                looks += 1;
                peer.judge(Heard::Unknown);
            }
        }
        assert_eq!(looks, 8);
    }

    #[test]
    fn all_that_was_lost_is_told_once_and_nothing_once_the_peer_is_heard() {
        let mut peer = Peer::default();
        peer.read(0, 0).read(7, 0).read(5, 0);
        assert!(peer.lost().is_empty());
        assert_eq!(peer.judge(Heard::Lost(Box::new(explanation()))).lost(), [12]);
        assert_eq!(peer.read(3, 0).lost(), [3]);
        assert_eq!(peer.read(0, 0).lost(), [0]);
        assert!(peer.read(1, 1).lost().is_empty());
    }

    #[test]
    fn one_that_answers_after_all_is_lost_no_longer() {
        let mut peer = Peer::default();
        peer.read(0, 0).read(7, 0).read(5, 0).judge(Heard::Lost(Box::new(explanation())));
        assert!(peer.judge(Heard::Answers).lost().is_empty());
    }

    proptest! {
        /// Whatever is sent and heard, a peer that was heard in the last two seconds is not looked at.
        #[test]
        fn only_a_silent_peer_is_looked_at(readings in prop::collection::vec((0u64..3, 0u64..2), 0..60)) {
            let mut peer = Peer::default();
            peer.read(0, 0);
            let mut heard_at = 0;
            for (sent, heard) in readings {
                peer.read(sent, heard);
                if heard > 0 {
                    heard_at = peer.second;
                }
                prop_assert!(!peer.is_due() || peer.second - heard_at >= 2);
            }
        }
    }
}
