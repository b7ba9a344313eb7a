//! What the remote trace API of `run` does for a peer: `observe`, with less shown.

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::observe;
use crate::{
    cli::{Global, ObserveArgs},
    report::observed::{ObservedDocument, Ready},
    serving::{Observer, Trace},
};

/// The most probes of a trace that are told.
const MOST_PROBES: usize = 64;

/// Follows flows on the node that the daemon counts on.
#[derive(Debug)]
pub struct NodeObserver {
    pub global: Global,
    /// Whether peers may see the texts of rules.
    pub shows_rules: bool,
}

impl Observer for NodeObserver {
    fn observe(
        &self,
        trace: Trace,
        ready: oneshot::Sender<Vec<u8>>,
        end: oneshot::Receiver<()>,
    ) -> anyhow::Result<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.follow(trace, ready, end))
    }
}

impl NodeObserver {
    async fn follow(
        &self,
        Trace { flow, length, without_bpf }: Trace,
        ready: oneshot::Sender<Vec<u8>>,
        end: oneshot::Receiver<()>,
    ) -> anyhow::Result<Vec<u8>> {
        let args = ObserveArgs { flow, length, no_bpf: without_bpf };
        let say_ready = |line: &Ready| {
            let mut line = serde_json::to_vec(line)?;
            line.push(b'\n');
            ready.send(line).ok().context("who asked is gone")
        };
        let end = async {
            // It fails where who asked is gone, which is an end too.
            let _ = end.await;
        };
        let mut facts = observe::watch(&args, &self.global, say_ready, end).await?;
        facts.observed.keep_probes(MOST_PROBES);
        let facts = if self.shows_rules { facts.without_texts() } else { facts.without_rules(&args.flow) };
        Ok(serde_json::to_vec(&ObservedDocument::new(&args.flow, facts))?)
    }
}
