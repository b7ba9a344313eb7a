//! How commands that judge a node as it stands come to a sample of it.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use ipnet::Ipv4Net;
use serde::Serialize;

use crate::{
    cli::Global,
    model::is_pod_link,
    sample::{Datastore, Fact, Sample},
    sources::{self, pod_interfaces, saved},
};

/// One look at a node.
pub struct Look {
    pub sample: Sample,
    /// Why the pods behind some devices could not be looked into.
    pub unread: BTreeMap<u32, String>,
}

/// Looks at this node, its pods' own ends included.
pub async fn live(global: &Global) -> anyhow::Result<Look> {
    let mut sample =
        sources::gather(&global.sources()).await.context("cannot read this node's network state")?;
    let pods = sample.links.iter().filter(|link| is_pod_link(link));
    let pod_interfaces::PodInterfaces { read, unread } = pod_interfaces::read(&global.root, pods);
    sample.pod_interfaces = read;
    Ok(Look { sample, unread })
}

/// Takes what was saved or pasted, of one node or several, with the pools and the datastore that the caller names.
pub fn saved(path: &Path, global: &Global) -> anyhow::Result<Vec<Sample>> {
    let mut samples = saved::read(path)?;
    let given = Given::read(global)?;
    for sample in &mut samples {
        given.enter(sample);
    }
    Ok(samples)
}

/// What the caller says of a cluster, whichever node of it is looked at.
pub struct Given {
    pools: Vec<Ipv4Net>,
    datastore: Option<Datastore>,
}

impl Given {
    pub fn read(global: &Global) -> anyhow::Result<Self> {
        let datastore = global.facts.as_deref().map(sources::datastore::read).transpose()?;
        Ok(Self { pools: global.pools.clone(), datastore })
    }

    pub fn enter(&self, sample: &mut Sample) {
        if !self.pools.is_empty() {
            sample.given_pools.clone_from(&self.pools);
        }
        if let Some(datastore) = &self.datastore {
            sample.datastore = Fact::Known(datastore.clone());
        }
    }
}

/// Writes what a verdict rests on, so that it can be judged again elsewhere.
pub fn record(facts: &impl Serialize, path: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string(facts)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
