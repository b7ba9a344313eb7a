//! The plan of a reset, as a document and as a person reads it before typing anything.

use serde::Serialize;

use super::{
    document::{Header, Node, NotSeen},
    text::{QUIET_WIDTH, finding_code, fixes, printable, push, shorten},
};
use crate::{
    causes::reset::{DatastoreKind, Judged, Need, Place, Renamed, ResetPlan, ResetPod, Step},
    model::Model,
};

/// As many pods as a person reads.
const MOST_PODS: usize = 20;

#[derive(Debug, Serialize)]
pub struct ResetPlanDocument {
    #[serde(flatten)]
    pub header: Header,
    pub verdict: Need,
    /// Where Calico keeps what it knows; absent where this node does not tell.
    pub datastore: Option<DatastoreKind>,
    /// The file that tells the datastore.
    pub told_by: Option<String>,
    /// For each datastore that it may be, what a reset takes away meanwhile.
    pub costs: Vec<Cost>,
    pub renamed: Option<Renamed>,
    /// What is wrong, the worst first.
    pub wrong: Vec<Judged>,
    pub steps: Vec<Step>,
    pub pods: Vec<ResetPod>,
    pub not_seen: Vec<NotSeen>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    pub datastore: DatastoreKind,
    pub text: String,
}

impl ResetPlanDocument {
    pub fn new(model: &Model<'_>, plan: ResetPlan) -> Self {
        let cost =
            |kind: &DatastoreKind| Cost { datastore: *kind, text: kind.cost(plan.pods.len(), plan.blocks) };
        Self {
            header: Header::new("reset-plan", &model.sample.time, Node::of(model)),
            verdict: plan.need,
            costs: plan.datastores().iter().map(cost).collect(),
            not_seen: not_seen(model, &plan),
            datastore: plan.datastore.known().copied(),
            told_by: plan.told_by,
            renamed: plan.renamed,
            wrong: plan.wrong,
            steps: plan.steps,
            pods: plan.pods,
        }
    }

    /// The answer, in one line.
    pub fn headline(&self) -> String {
        let name = &self.header.node.name;
        let named =
            |judged: &Judged| format!("{} ({})", judged.finding.summary, finding_code(&judged.finding));
        let first = |helped: bool| {
            let mut wanted = self.wrong.iter().filter(|judged| judged.reset_helps.is_some() == helped);
            let first = wanted.next().map(named).unwrap_or_default();
            match wanted.count() {
                0 => first,
                more => format!("{first}, and {more} more"),
            }
        };
        match self.verdict {
            Need::Nothing => format!("NO RESET NEEDED  {name}: check finds nothing wrong here"),
            Need::NotByReset => format!("NOT BY A RESET  {name}: it does not mend {}", first(false)),
            Need::MendFirst => {
                format!("MEND FIRST  {name}: a reset may mend {}, and not {}", first(true), first(false))
            }
            Need::Reset => format!("A RESET MAY HELP  {name}: {}", first(true)),
        }
    }

    /// One line of at most eighty characters.
    pub fn quiet(&self) -> String {
        shorten(&printable(&self.headline()).replace('\n', " "), QUIET_WIDTH)
    }

    /// The whole plan.
    pub fn text(&self) -> String {
        let mut text = self.headline().replace('\n', " ");
        text.push('\n');
        self.reasons(&mut text);
        for Cost { datastore, text: cost } in &self.costs {
            push(&mut text, "cost", &format!("with {} as datastore: {cost}", datastore.words()));
        }
        self.circumstances(&mut text);
        for (number, step) in (1..).zip(&self.steps) {
            blank(&mut text);
            one_step(&mut text, number, step);
        }
        blank(&mut text);
        self.pods_to_restart(&mut text);
        for not_seen in &self.not_seen {
            push(&mut text, "?", &format!("not seen: {}: {}", not_seen.what, not_seen.why));
        }
        printable(&text.replace("\n      \n", "\n\n"))
    }

    fn reasons(&self, text: &mut String) {
        for Judged { finding, reset_helps } in &self.wrong {
            let code = finding_code(finding);
            if let Some(when) = reset_helps {
                push(text, "helps", &format!("{} ({code}): {when}", finding.summary));
                continue;
            }
            push(text, "first", &format!("{} ({code}): a reset does not mend it", finding.summary));
            fixes(text, finding);
            for reason in &finding.explained_by {
                fixes(text, reason);
            }
        }
    }

    fn circumstances(&self, text: &mut String) {
        match (self.datastore, &self.told_by) {
            (Some(kind), Some(file)) => {
                push(text, "seen", &format!("{file}: the datastore is {}", kind.words()));
            }
            _ => push(
                text,
                "?",
                "which datastore: kubectl -n kube-system get daemonset calico-node -o yaml | grep -A1 DATASTORE_TYPE",
            ),
        }
        match &self.renamed {
            Some(Renamed { old, new, at_next_start: true }) => push(
                text,
                "name",
                &format!(
                    "{old} will be {new} after its next start: a reset before that takes the old name again"
                ),
            ),
            Some(Renamed { old, new, .. }) => {
                push(
                    text,
                    "name",
                    &format!("this node was {old} and is {new}: to Calico these are two nodes"),
                );
            }
            None => {}
        }
        if self.verdict == Need::Nothing || self.verdict == Need::NotByReset {
            push(
                text,
                "next",
                "leave calico-node as it is; the steps below are for those who need them all the same",
            );
        }
    }

    fn pods_to_restart(&self, text: &mut String) {
        let which = match self.datastore {
            Some(DatastoreKind::Etcd) => {
                "restart all pods of this node, so that they get addresses and routes anew"
            }
            Some(DatastoreKind::Kubernetes) => {
                "restart those pods alone that `reset follow` or `verify` names; all of them would be"
            }
            None => {
                "with etcd restart all pods of this node; otherwise those alone that `reset follow` or `verify` names"
            }
        };
        push(text, "pods", which);
        if self.pods.iter().any(|pod| pod.bare == Some(true)) {
            push(
                text,
                "risk",
                "a pod marked BARE has no owner: deleted, it is gone for good; save it before",
            );
        } else if self.pods.iter().any(|pod| pod.bare.is_none()) {
            push(
                text,
                "risk",
                "a bare pod, which no controller owns, is gone for good once it is deleted: --facts tells which are",
            );
        }
        push(text, "risk", "this asks no PodDisruptionBudget: one at a time where few replicas run");
        for pod in self.pods.iter().take(MOST_PODS) {
            push(text, "do", &pod_words(pod));
        }
        if self.pods.len() > MOST_PODS {
            push(text, "do", &format!("{} more pods; -o json has them all", self.pods.len() - MOST_PODS));
        }
    }
}

fn blank(text: &mut String) {
    push(text, "", "");
}

fn one_step(text: &mut String, number: usize, step: &Step) {
    let only = step.only_with.map_or_else(String::new, |kind| format!("[with {} only] ", kind.words()));
    let place = match step.on {
        Place::ThisNode => "on this node: ",
        Place::Kubectl | Place::Calicoctl => "",
    };
    push(text, &format!("{number}."), &format!("{only}{place}{}", step.run));
    push(text, "why", &step.why);
    if step.changes {
        push(text, "risk", &step.risk);
        push(text, "undo", &step.undo);
    }
    push(text, "takes", &step.takes);
}

/// The command, with what is known of who makes the pod anew.
fn pod_words(pod: &ResetPod) -> String {
    match (&pod.owner, pod.bare) {
        (_, Some(true)) => format!("{}   # BARE: nobody makes it again", pod.run),
        (Some(owner), _) => format!("{}   # {owner} makes it again", pod.run),
        (None, _) => pod.run.clone(),
    }
}

fn not_seen(model: &Model<'_>, plan: &ResetPlan) -> Vec<NotSeen> {
    let mut not_seen = NotSeen::of_lines(model.sample);
    let mut add = |what: &str, why: &str| {
        not_seen.push(NotSeen { what: what.to_owned(), why: why.to_owned() });
    };
    if let Some(why) = plan.datastore.absent() {
        add("the datastore", why);
    }
    if let Some(why) = model.sample.cni_results.absent() {
        add("the names of pods", why);
    }
    if let Some(why) = model.sample.datastore.absent().filter(|_| !plan.pods.is_empty()) {
        add("who owns the pods", why);
    }
    not_seen
}

#[cfg(test)]
mod tests;
