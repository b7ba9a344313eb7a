//! How often traces may be asked for: one at a time, and so many a minute for each peer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Traces of one peer, within a window.
const MOST: usize = 6;
const WINDOW: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Allowance {
    running: Arc<Semaphore>,
    /// Who began one within the window, and when, in the order of time. A trace takes long enough to keep this short.
    begun: Mutex<Vec<(CertificateDer<'static>, Instant)>>,
}

/// Lets one trace run; the next may when this is dropped.
#[derive(Debug)]
pub(super) struct Permission {
    _running: OwnedSemaphorePermit,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Another trace runs.
    Busy,
    /// The peer has had its share, for so long.
    TooMany(Duration),
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { running: Arc::new(Semaphore::new(1)), begun: Mutex::default() }
    }

    /// Whether this peer, known by its certificate, may begin one now.
    pub(super) fn begin(&self, peer: &CertificateDer<'static>, now: Instant) -> Result<Permission, Denied> {
        let permit = self.running.clone().try_acquire_owned().map_err(|_| Denied::Busy)?;
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.retain(|(_, time)| now.duration_since(*time) < WINDOW);
        let mut own = begun.iter().filter(|(other, _)| other == peer).map(|(_, time)| *time);
        if let (Some(first), true) = (own.next(), own.count() + 1 >= MOST) {
            return Err(Denied::TooMany(WINDOW.saturating_sub(now.duration_since(first))));
        }
        begun.push((peer.clone(), now));
        Ok(Permission { _running: permit })
    }
}

impl Denied {
    /// What the peer is told.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Busy => "another trace runs on this node; ask again in a few seconds".to_owned(),
            Self::TooMany(wait) => {
                let seconds = wait.as_secs() + 1;
                format!(
                    "this certificate has asked for {MOST} traces within a minute; ask again in {seconds} s"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> CertificateDer<'static> {
        CertificateDer::from(name.as_bytes().to_vec())
    }

    #[test]
    fn one_runs_at_a_time() {
        let (allowance, now) = (Allowance::new(), Instant::now());
        let first = allowance.begin(&peer("a"), now).unwrap();
        assert_eq!(allowance.begin(&peer("b"), now).unwrap_err(), Denied::Busy);
        drop(first);
        assert!(allowance.begin(&peer("b"), now).is_ok());
    }

    #[test]
    fn each_peer_has_six_a_minute() {
        let (allowance, start) = (Allowance::new(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        for second in 0..6 {
            assert!(allowance.begin(&peer("a"), at(second)).is_ok());
        }
        assert_eq!(
            allowance.begin(&peer("a"), at(20)).unwrap_err(),
            Denied::TooMany(Duration::from_secs(40)),
            "those that are refused do not count"
        );
        assert!(allowance.begin(&peer("b"), at(20)).is_ok(), "others have their own share");
        assert!(allowance.begin(&peer("a"), at(60)).is_ok());
        assert!(allowance.begin(&peer("a"), at(60)).is_err());
    }
}
