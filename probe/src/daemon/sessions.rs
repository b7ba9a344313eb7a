//! BIRD's sessions, read by a task of their own: a BIRD that hangs delays nothing else.

use std::time::Duration;

use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    sample::{BgpSession, Fact},
    sources::{self, GatherOptions},
};

/// How long BIRD is left alone between two questions.
const PAUSE: Duration = Duration::from_secs(10);

/// What BIRD said last. No more is asked once this is dropped.
pub(super) struct Sessions {
    last: watch::Receiver<Fact<Vec<BgpSession>>>,
    task: JoinHandle<()>,
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sessions {
    /// Needs a running tokio runtime.
    pub(super) fn watch(options: GatherOptions, network_namespace: u64) -> Self {
        let (sender, last) = watch::channel(Fact::Absent("BIRD was not asked yet".to_owned()));
        let task = tokio::spawn(async move {
            loop {
                sender.send_replace(sources::sessions(&options, network_namespace).await);
                sleep(PAUSE).await;
            }
        });
        Self { last, task }
    }

    pub(super) fn last(&self) -> Fact<Vec<BgpSession>> {
        self.last.borrow().clone()
    }
}
