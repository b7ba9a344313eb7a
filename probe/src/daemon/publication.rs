//! What others are told of the daemon at each interval.

use jiff::Timestamp;

use super::{counting::Counting, sessions::Sessions};
use crate::{
    model::{Model, RemoteBlock},
    reading::Reading,
    report::document::{Node, SCHEMA_VERSION},
    sample::{BgpSession, Fact, Link, Sample},
    state::{BlackHole, Health, State},
};

/// Makes states of what is counted and read.
pub(super) struct Publication {
    started: String,
    sessions: Sessions,
    outline: Outline,
}

/// What is derived of a sample. Kept as long as that stays, because it takes a look at every route.
#[derive(Default)]
struct Outline {
    /// Which sample it is of.
    generation: u64,
    node: Node,
    bare_blocks: usize,
    tunnel: Option<Link>,
}

impl Publication {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self { started: Timestamp::now().to_string(), sessions, outline: Outline::default() }
    }

    /// BIRD's sessions as they were told last.
    pub(super) fn sessions(&self) -> Fact<Vec<BgpSession>> {
        self.sessions.last()
    }

    pub(super) fn state(
        &mut self,
        counting: &Counting,
        reading: Reading,
        black_holes: Vec<BlackHole>,
        health: Health,
    ) -> State {
        if self.outline.generation != counting.generation {
            self.outline = Outline::of(&counting.sample, counting.generation);
        }
        let tunnel = self.outline.tunnel.clone();
        State {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.clone(),
            time: reading.time.clone(),
            node: self.outline.node.clone(),
            reading,
            sessions: self.sessions.last(),
            bare_blocks: self.outline.bare_blocks,
            tunnel: tunnel.map_or_else(|| Fact::Absent("this node has no tunl0".to_owned()), Fact::Known),
            black_holes,
            health,
        }
    }
}

impl Outline {
    fn of(sample: &Sample, generation: u64) -> Self {
        let model = Model::new(sample);
        Self {
            generation,
            node: Node::of(&model),
            bare_blocks: model.remote_blocks().iter().filter(|block| is_bare(&model, block)).count(),
            tunnel: model.tunnel().cloned(),
        }
    }
}

/// Whether the block's own route leads to a node without encapsulation. One that is unreachable, or leads to a host
/// that is no node, makes no bare packet lawful.
fn is_bare(model: &Model<'_>, block: &RemoteBlock<'_>) -> bool {
    let mut gateways = block.route.hops.iter().filter_map(|hop| hop.gateway);
    !block.tunnelled && gateways.any(|gateway| model.is_node(gateway))
}
