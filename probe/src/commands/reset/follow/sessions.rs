//! BIRD's sessions while they go and return: BIRD is asked for them again and again.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    causes::reset::returning::{Event, Moment, Passage, Returning, Thing},
    sample::{BgpSession, Bird, Fact, Sample},
    sources::{self, GatherOptions},
};

/// The pause between two questions; BIRD answers in milliseconds.
const PAUSE: Duration = Duration::from_millis(500);

/// What BIRD answers, in a task of its own: one that hangs must not keep the routes from being followed.
pub(super) struct Sessions {
    pub bird: Fact<Bird>,
    answers: mpsc::Receiver<(Duration, Fact<Bird>)>,
    task: JoinHandle<()>,
    asked_before: Duration,
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Two answers, one after the other.
pub(super) struct Answer {
    at: Moment,
    before: Fact<Bird>,
    now: Fact<Bird>,
}

impl Sessions {
    pub(super) fn ask(options: GatherOptions, network_namespace: u64, start: Instant) -> Self {
        let (sender, answers) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                let bird = sources::routing_daemon(&options, network_namespace).await;
                if sender.send((start.elapsed(), bird)).await.is_err() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        let bird = Fact::Absent("it was not asked yet".to_owned());
        Self { bird, answers, task, asked_before: start.elapsed() }
    }

    /// Waits for an answer. Cancel safe.
    pub(super) async fn next(&mut self) -> anyhow::Result<Answer> {
        let (now, bird) = self.answers.recv().await.context("nobody asks BIRD any more")?;
        let at = Moment::between(self.asked_before, now);
        self.asked_before = now;
        let before = std::mem::replace(&mut self.bird, bird.clone());
        Ok(Answer { at, before, now: bird })
    }
}

impl Answer {
    /// What went, came or was set up anew in between.
    pub(super) fn compare(self, returning: &mut Returning) -> Vec<Event> {
        let Self { at, before, now } = self;
        let (was, is) = (established(&before), established(&now));
        let mut events = Vec::new();
        let known: Vec<Thing> = returning.records().keys().cloned().collect();
        for thing in known {
            let Thing::Session(peer) = thing else { continue };
            let since = is.get(&peer);
            if was.get(&peer).zip(since).is_some_and(|(was, is)| is_anew(was, is)) {
                events.extend(returning.see(at, &thing, None));
            }
            events.extend(returning.see(at, &thing, since.map(|_| up()).as_ref()));
        }
        for peer in is.keys() {
            events.extend(returning.see(at, &Thing::Session(*peer), Some(&up())));
        }
        events
    }
}

/// Sessions that went, or were set up anew, since a snapshot was taken.
pub(super) fn since(before: &Sample, now: &Sample, returning: &mut Returning) -> Vec<Event> {
    let (was, is) = (established(&before.bird), established(&now.bird));
    let mut events = Vec::new();
    for (peer, was) in was {
        let session = Thing::Session(peer);
        events.extend(match is.get(&peer) {
            None => returning.see(Moment::at_the_start(), &session, None),
            Some(is) if is_anew(was, is) => {
                returning.again(Duration::ZERO, &session, &format!("Established since {is}"))
            }
            Some(_) => None,
        });
    }
    events
}

fn up() -> Passage {
    Passage::by("Established")
}

/// Since when each established session is, as BIRD prints it.
fn established(bird: &Fact<Bird>) -> BTreeMap<Ipv4Addr, &str> {
    let sessions = bird.known().into_iter().flat_map(|bird| &bird.sessions);
    let up = sessions.filter(|session: &&BgpSession| session.established);
    up.map(|session| (session.peer, session.since.as_str())).collect()
}

/// BIRD prints a time of day, and a date once that is long ago: only a new time of day is a new session.
fn is_anew(was: &str, is: &str) -> bool {
    was != is && is.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::reset::returning::Happened;

    const PEER: Ipv4Addr = Ipv4Addr::new(172, 30, 10, 187);

    fn bird(since: &str, established: bool) -> Fact<Bird> {
        let session = BgpSession {
            name: "Mesh_172_30_10_187".to_owned(),
            peer: PEER,
            kind: crate::sample::PeerKind::NodeToNodeMesh,
            established,
            state: String::new(),
            since: since.to_owned(),
            error: String::new(),
            source: None,
            imported: None,
            exported: None,
        };
        Fact::Known(Bird { sessions: vec![session], ..Bird::default() })
    }

    fn happened(before: &Fact<Bird>, now: &Fact<Bird>) -> Vec<Happened> {
        let mut returning = Returning::default();
        returning.expect(Thing::Session(PEER), Passage::by("Established"));
        let at = Moment::between(Duration::from_secs(1), Duration::from_secs(2));
        let answer = Answer { at, before: before.clone(), now: now.clone() };
        answer.compare(&mut returning).into_iter().map(|event| event.happened).collect()
    }

    #[test]
    fn a_session_goes_with_bird_itself() {
        let up = bird("08:00:26", true);
        assert_eq!(happened(&up, &up), []);
        assert_eq!(happened(&up, &bird("08:01:00", false)), [Happened::Gone]);
        assert_eq!(happened(&up, &Fact::Absent("no control socket".to_owned())), [Happened::Gone]);
    }

    #[test]
    fn a_session_that_came_back_between_two_answers_was_away() {
        let both = happened(&bird("08:00:26", true), &bird("08:01:00", true));
        assert!(matches!(both[..], [Happened::Gone, Happened::Back(_)]));
        assert_eq!(happened(&bird("08:00:26", true), &bird("2026-11-28", true)), []);
    }
}
