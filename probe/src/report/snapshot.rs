//! What a snapshot holds, as a document and as a person reads it.

use serde::Serialize;

use super::{
    document::{Header, Node},
    text::{QUIET_WIDTH, printable, push, shorten},
};
use crate::{
    model::{Model, pools::Pool},
    sample::Fact,
};

#[derive(Debug, Serialize)]
pub struct SnapshotDocument {
    #[serde(flatten)]
    pub header: Header,
    pub format_version: u32,
    pub pools: Vec<Pool>,
    pub holds: Holds,
    /// What it lacks, and why.
    pub lacks: Vec<(&'static str, String)>,
}

/// How many of each it has.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Holds {
    pub links: usize,
    pub routes: usize,
    pub neighbours: usize,
    pub pods: usize,
    pub own_blocks: usize,
    pub remote_blocks: usize,
}

impl SnapshotDocument {
    pub fn new(model: &Model<'_>) -> Self {
        let sample = model.sample;
        let holds = Holds {
            links: sample.links.len(),
            routes: sample.routes.len(),
            neighbours: sample.neighbours.len(),
            pods: model.pods().len(),
            own_blocks: model.own_blocks().len(),
            remote_blocks: model.remote_blocks().len(),
        };
        let lacks = [
            ("Felix' set of pools", why(&sample.sets.pools)),
            ("Felix' set of nodes", why(&sample.sets.hosts)),
            ("the rules of netfilter", why(&sample.rule_sets)),
            ("the pods' names", why(&sample.cni_results)),
            ("BIRD's sessions", why(&sample.bird)),
            ("Calico's processes", why(&sample.control_plane.processes)),
            ("what was counted", why(&sample.ledger)),
            ("who answers", why(&sample.echoes)),
        ];
        Self {
            header: Header::new("snapshot", &sample.time, Node::of(model)),
            format_version: sample.format_version,
            pools: model.pools.clone(),
            holds,
            lacks: lacks.into_iter().filter_map(|(what, why)| Some((what, why?))).collect(),
        }
    }

    fn headline(&self) -> String {
        let Header { node, time, .. } = &self.header;
        format!("{} at {time}, kernel {}", node.name, node.kernel)
    }

    /// One line of at most eighty characters.
    pub fn quiet(&self) -> String {
        shorten(&printable(&self.headline()), QUIET_WIDTH)
    }

    /// The whole view.
    pub fn text(&self) -> String {
        let mut text = self.headline();
        text.push('\n');
        let Holds { links, routes, neighbours, pods, own_blocks, remote_blocks } = self.holds;
        push(
            &mut text,
            "holds",
            &format!(
                "{pods} pods, {own_blocks} blocks here, {remote_blocks} of other nodes; {links} devices, {routes} routes, {neighbours} neighbours"
            ),
        );
        for (what, why) in &self.lacks {
            push(&mut text, "lacks", &format!("{what}: {why}"));
        }
        printable(&text)
    }
}

fn why<T>(fact: &Fact<T>) -> Option<String> {
    fact.absent().map(str::to_owned)
}
