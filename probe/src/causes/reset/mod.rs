//! A reset of calico-node as the article's second section makes it, for this very node: whether it would mend what is
//! wrong, what it costs, and each step with its command, what it risks, and how it is undone. Pure; nothing is done.

mod command;
mod help;
pub mod mirror;
mod names;
mod pods;
pub mod returning;
mod steps;

use serde::Serialize;

use crate::{
    model::Model,
    report::document::{Finding, Severity},
    sample::Fact,
};

pub use names::Renamed;
pub use pods::{ResetPod, of as pods_of};
pub use steps::{Place, Step, calico_pods};

/// Where the cluster's Calico keeps its nodes, pools and pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatastoreKind {
    Etcd,
    Kubernetes,
}

impl DatastoreKind {
    pub const ALL: [Self; 2] = [Self::Etcd, Self::Kubernetes];

    pub fn words(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kubernetes => "Kubernetes",
        }
    }

    /// What a reset takes away from this node and from others for a while, in one sentence.
    pub fn cost(self, pods: usize, blocks: usize) -> String {
        match self {
            Self::Etcd => format!(
                "pods of this node and of the {blocks} blocks routed here do not reach each other until BGP is up \
                 again, and the {pods} pods here lose their addresses: all of them have to be restarted"
            ),
            Self::Kubernetes => {
                "mostly no packet: BIRD leaves its routes in the kernel and its peers keep theirs for \
                 120 s; until calico-node is back no route and no policy follows a change"
                    .to_owned()
            }
        }
    }
}

/// Whether a reset is what this node needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Nothing is wrong here.
    Nothing,
    /// Nothing that is wrong here would be mended by it.
    NotByReset,
    /// It may help, and something else is to be mended before.
    MendFirst,
    /// What is wrong here may be mended by it.
    Reset,
}

/// What is wrong, and whether a reset mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    #[serde(flatten)]
    pub finding: Finding,
    /// When a reset mends it; absent where it does not.
    pub reset_helps: Option<&'static str>,
}

/// Everything that a person has to know before, and what to type.
#[derive(Clone, Debug, Serialize)]
pub struct ResetPlan {
    pub need: Need,
    /// Absent with what would tell.
    pub datastore: Fact<DatastoreKind>,
    /// Where the datastore is told.
    pub told_by: Option<String>,
    pub renamed: Option<Renamed>,
    /// From warnings on.
    pub wrong: Vec<Judged>,
    pub steps: Vec<Step>,
    /// Pods of this node that have an address of their own.
    pub pods: Vec<ResetPod>,
    /// Remote blocks that are routed here.
    pub blocks: usize,
}

/// The plan for a node with what `check` finds wrong with it.
pub fn plan(model: &Model<'_>, findings: Vec<Finding>) -> ResetPlan {
    let renamed = names::renamed(model, &findings);
    let wrong: Vec<Judged> = findings
        .into_iter()
        .filter(|finding| finding.severity >= Severity::Warning)
        .map(|finding| Judged { reset_helps: help::when(&finding), finding })
        .collect();
    let (datastore, told_by) = datastore(model);
    let steps = steps::list(model, &datastore, renamed.as_ref());
    let pods = pods::of(model);
    ResetPlan {
        need: need(&wrong),
        datastore,
        told_by,
        renamed,
        wrong,
        steps,
        pods,
        blocks: model.remote_blocks().len(),
    }
}

impl ResetPlan {
    /// The datastores that it may be.
    pub fn datastores(&self) -> &[DatastoreKind] {
        self.datastore.known().map_or(&DatastoreKind::ALL, std::slice::from_ref)
    }
}

fn need(wrong: &[Judged]) -> Need {
    let helped = wrong.iter().filter(|judged| judged.reset_helps.is_some()).count();
    match (helped, wrong.len()) {
        (_, 0) => Need::Nothing,
        (0, _) => Need::NotByReset,
        (helped, all) if helped < all => Need::MendFirst,
        _ => Need::Reset,
    }
}

/// The CNI plug-in's file says which datastore it asks; the first one is what the container runtime uses.
fn datastore(model: &Model<'_>) -> (Fact<DatastoreKind>, Option<String>) {
    let networks = match &model.sample.control_plane.cni_networks {
        Fact::Known(networks) => networks,
        Fact::Absent(why) => return (Fact::Absent(why.clone()), None),
    };
    let Some((file, told)) =
        networks.iter().find_map(|network| Some((&network.file, network.datastore.as_deref()?)))
    else {
        return (Fact::Absent("no file of /etc/cni/net.d says".to_owned()), None);
    };
    let kind = match told {
        "kubernetes" => DatastoreKind::Kubernetes,
        told if told.starts_with("etcd") => DatastoreKind::Etcd,
        other => return (Fact::Absent(format!("/etc/cni/net.d/{file} says `{other}`")), None),
    };
    (Fact::Known(kind), Some(format!("/etc/cni/net.d/{file}")))
}
