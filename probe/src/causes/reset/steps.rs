//! The steps of a reset in their order. Calico keeps what it knows of a node in its datastore: with etcd the node is
//! deleted there first, or calico-node would read the old configuration back (the article's section 2); what goes with
//! it is in `libcalico-go/lib/clientv3/node.go`. With Kubernetes the node is Kubernetes' own, and `calicoctl` refuses.

use serde::Serialize;

use super::{DatastoreKind, Renamed, command};
use crate::{model::Model, sample::Fact};

/// Where the steps keep what the node was like.
const BEFORE: &str = "before-reset.json";
/// How the pods of Calico's node agent are named.
const CALICO_NODE: &str = "calico-node-";

/// Where a command is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    ThisNode,
    Kubectl,
    Calicoctl,
}

/// One command with what a person asks before typing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// For this datastore alone, where it is not known which one the cluster has.
    pub only_with: Option<DatastoreKind>,
    pub run: String,
    pub on: Place,
    /// Whether it changes anything.
    pub changes: bool,
    pub why: String,
    pub risk: String,
    pub undo: String,
    /// How long it usually takes.
    pub takes: String,
}

impl Step {
    fn look(on: Place, run: String, why: &str, takes: &str) -> Self {
        Self {
            only_with: None,
            run,
            on,
            changes: false,
            why: why.to_owned(),
            risk: "none: it changes nothing".to_owned(),
            undo: "there is nothing to undo".to_owned(),
            takes: takes.to_owned(),
        }
    }

    fn only_with(self, kind: DatastoreKind) -> Self {
        Self { only_with: Some(kind), ..self }
    }
}

/// All of them for the datastore that is known, or for either.
pub fn list(model: &Model<'_>, datastore: &Fact<DatastoreKind>, renamed: Option<&Renamed>) -> Vec<Step> {
    let name = model.node_name();
    let mut steps = vec![snapshot()];
    steps.extend(before_deletion(&name, renamed));
    steps.push(follow());
    steps.push(delete_from_etcd(model, &name, renamed));
    steps.push(restart(model, kept_name(&name, renamed)));
    steps.push(wait());
    steps.extend(renamed.filter(|renamed| !renamed.at_next_start).map(delete_old_node));
    steps.extend(afterwards());
    if let Some(known) = datastore.known() {
        steps.retain(|step| step.only_with.is_none_or(|kind| kind == *known));
        for step in &mut steps {
            step.only_with = None;
        }
    }
    steps
}

fn snapshot() -> Step {
    let run = command::line(&["caliprobe", "snapshot", "save", BEFORE]);
    Step::look(Place::ThisNode, run, "what must be there again afterwards", "1 to 5 s")
}

fn before_deletion(name: &str, renamed: Option<&Renamed>) -> Vec<Step> {
    let name = gone_name(name, renamed);
    let known = Step::look(
        Place::Calicoctl,
        "calicoctl get nodes".to_owned(),
        "whether the node is there, and by which name",
        "1 s",
    );
    let kept = Step::look(
        Place::Calicoctl,
        format!(
            "{} > calico-node-before-reset.yaml; calicoctl get bgppeers -o yaml > bgppeers-before-reset.yaml",
            command::line(&["calicoctl", "get", "node", name, "-o", "yaml"])
        ),
        "its deletion takes its own BGP settings and the BGPPeers of this node alone with it",
        "1 s",
    );
    [known, kept].map(|step| step.only_with(DatastoreKind::Etcd)).into()
}

fn follow() -> Step {
    Step::look(
        Place::ThisNode,
        format!("caliprobe reset follow --before {BEFORE}   # in a second terminal, and leave it running"),
        "it shows each route and session as it goes and as it returns, and how long each block was dark",
        "until all is back",
    )
}

/// The name that the datastore is to forget.
fn gone_name<'a>(name: &'a str, renamed: Option<&'a Renamed>) -> &'a str {
    renamed.filter(|renamed| !renamed.at_next_start).map_or(name, |renamed| &renamed.old)
}

/// The name that Kubernetes has the node by from now on.
fn kept_name<'a>(name: &'a str, renamed: Option<&'a Renamed>) -> &'a str {
    renamed.filter(|renamed| !renamed.at_next_start).map_or(name, |renamed| &renamed.new)
}

fn delete_from_etcd(model: &Model<'_>, name: &str, renamed: Option<&Renamed>) -> Step {
    let blocks = model.own_blocks().len();
    let own = match blocks {
        0 => "all blocks of this node".to_owned(),
        1 => "the 1 block of this node".to_owned(),
        several => format!("all {several} blocks of this node"),
    };
    Step {
        only_with: Some(DatastoreKind::Etcd),
        run: command::of_object(&["calicoctl", "delete", "node"], gone_name(name, renamed)),
        on: Place::Calicoctl,
        changes: true,
        why: "otherwise calico-node reads its old configuration back from etcd when it starts".to_owned(),
        risk: format!(
            "dark from here on: {own}, on every node, until calico-node is back; the addresses of its pods are \
             given free and their endpoints deleted, so that another pod may get the same address: restart all of \
             them soon"
        ),
        undo: "not as a whole: `calicoctl apply -f calico-node-before-reset.yaml` brings the settings back, not the \
               addresses of the pods"
            .to_owned(),
        takes: "1 s; dark until the next step has done its work".to_owned(),
    }
}

fn restart(model: &Model<'_>, name: &str) -> Step {
    Step {
        only_with: None,
        run: restart_command(model, name),
        on: Place::Kubectl,
        changes: true,
        why: "its DaemonSet makes a new one, which reads everything anew; with Kubernetes as datastore this alone is \
              the reset, because calicoctl refuses to delete a node there"
            .to_owned(),
        risk: "no pod gets an address here, and no route and no policy follows a change, until it runs; where it does \
               not start again, peers forget this node's routes after 120 s"
            .to_owned(),
        undo: "nothing to undo, where the image can be had and the node is registered".to_owned(),
        takes: "5 to 20 s; BIRD then writes routes once every peer has answered, at most 240 s where one does not"
            .to_owned(),
    }
}

/// By the pod's own name where this node knows it.
fn restart_command(model: &Model<'_>, node: &str) -> String {
    match calico_node_pod(model, node) {
        Some((namespace, pod)) => command::of_object(&["kubectl", "-n", namespace, "delete", "pod"], pod),
        None => command::line(&[
            "kubectl",
            "-n",
            "kube-system",
            "delete",
            "pod",
            "-l",
            "k8s-app=calico-node",
            "--field-selector",
            &format!("spec.nodeName={node}"),
        ]),
    }
}

/// The line that shows this node's calico-node pod.
pub fn calico_pods(node: &str) -> String {
    let selector = format!("spec.nodeName={node}");
    let words =
        ["kubectl", "get", "pods", "-A", "-o", "wide", "-l", "k8s-app=calico-node", "--field-selector"];
    command::line(&[&words[..], &[selector.as_str()]].concat())
}

/// Namespace and name: the datastore knows, or the kubelet's folders of logs, if they name one alone.
fn calico_node_pod<'a>(model: &Model<'a>, node: &str) -> Option<(&'a str, &'a str)> {
    let sample = model.sample;
    let known = sample.datastore.known().into_iter().flat_map(|datastore| &datastore.pods);
    let told = known
        .filter(|pod| pod.name.starts_with(CALICO_NODE) && pod.node.as_deref() == Some(node))
        .map(|pod| (pod.namespace.as_str(), pod.name.as_str()))
        .next();
    told.or_else(|| {
        let logs = sample.control_plane.logs.known()?;
        let pods = logs.iter().filter_map(|log| log.of.split_once('/'));
        let mut pods = pods.filter(|(_, pod)| pod.starts_with(CALICO_NODE));
        let first = pods.next()?;
        pods.all(|other| other == first).then_some(first)
    })
}

fn wait() -> Step {
    Step::look(
        Place::ThisNode,
        "wait until `caliprobe reset follow` ends: it does so when all is back".to_owned(),
        "BGP sessions come first, routes after them; what is missing is named",
        "10 to 60 s, at most about 4 minutes",
    )
}

fn delete_old_node(renamed: &Renamed) -> Step {
    let Renamed { old, new, .. } = renamed;
    Step {
        only_with: None,
        run: format!(
            "{}   # only if `kubectl get nodes -o wide` shows {} NotReady and {} Ready with this node's address",
            command::of_object(&["kubectl", "delete", "node"], old),
            command::line(&[old]),
            command::line(&[new])
        ),
        on: Place::Kubectl,
        changes: true,
        why: format!("this node was {old}: under that name it still owns blocks that lead nowhere"),
        risk: format!(
            "the pods that Kubernetes has on {old} are deleted, its labels and taints are gone, and \
             calico-kube-controllers gives its blocks free; if a machine is still {old}, its pods end"
        ),
        undo: "no: a kubelet registers again, without labels and taints that were given by hand".to_owned(),
        takes: "1 s; the blocks are given free within some minutes".to_owned(),
    }
}

fn afterwards() -> [Step; 2] {
    [
        Step::look(
            Place::Calicoctl,
            "calicoctl ipam check".to_owned(),
            "addresses that are in use and not allocated belong to pods that must be restarted",
            "some seconds; a minute in large clusters",
        )
        .only_with(DatastoreKind::Etcd),
        Step::look(
            Place::ThisNode,
            format!("caliprobe verify {BEFORE}"),
            "whether everything that was reached before is reached now",
            "1 to 5 s",
        ),
    ]
}
