use super::*;
use crate::{
    causes::{Cause, case::finding, reset},
    report::document::{Finding, SubjectKind},
    sample::{
        CniNetwork, CniResult, ContainerLog, Datastore, DatastorePod, Fact, Hop, Link, NodeIdentity,
        PodOwner, Route, RouteKind, Sample,
    },
};

fn route(destination: &str, link: Option<u32>, gateway: Option<&str>) -> Route {
    let hop = |link| Hop {
        link: Some(link),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        weight: 1,
        ..Hop::default()
    };
    Route {
        destination: destination.parse().unwrap(),
        kind: if link.is_some() { RouteKind::Unicast } else { RouteKind::Blackhole },
        table: 254,
        protocol: 12,
        hops: link.map(hop).into_iter().collect(),
        ..Route::default()
    }
}

fn log(of: &str) -> ContainerLog {
    ContainerLog { of: of.to_owned(), path: String::new(), errors: Vec::new() }
}

/// A node with a pod, a block of its own and another node's.
fn node(datastore: Option<&str>) -> Sample {
    let link = |index, name: &str| Link { index, name: name.to_owned(), up: true, ..Link::default() };
    let mut sample = Sample {
        node: NodeIdentity {
            hostname: "paas-188".to_owned(),
            calico_node_name: Fact::Known("paas-188".to_owned()),
            ..NodeIdentity::default()
        },
        links: vec![link(3, "tunl0"), link(7, "cali1")],
        routes: vec![
            route("10.200.55.193/32", Some(7), None),
            route("10.200.55.192/26", None, None),
            route("10.200.153.64/26", Some(3), Some("172.30.10.187")),
        ],
        given_pools: vec!["10.200.0.0/16".parse().unwrap()],
        cni_results: Fact::Known(vec![CniResult {
            namespace: Some("default".to_owned()),
            pod: Some("web-188".to_owned()),
            container_id: String::new(),
            host_interface: Some("cali1".to_owned()),
            addresses: vec![[10, 200, 55, 193].into()],
            network_namespace: None,
        }]),
        ..Sample::default()
    };
    sample.control_plane.logs = Fact::Known(vec![log("kube-system/calico-node-2wtkj"), log("felix")]);
    sample.control_plane.cni_networks = Fact::Known(vec![CniNetwork {
        file: "10-calico.conflist".to_owned(),
        name: String::new(),
        plugins: vec!["calico".to_owned()],
        node_name: None,
        datastore: datastore.map(str::to_owned),
    }]);
    sample
}

fn document(sample: &Sample, findings: Vec<Finding>) -> ResetPlanDocument {
    let model = Model::new(sample);
    let document = ResetPlanDocument::new(&model, reset::plan(&model, findings));
    assert!(document.quiet().chars().count() <= QUIET_WIDTH);
    document
}

fn wrong(cause: Cause, summary: &str) -> Finding {
    finding(cause, SubjectKind::Node, "paas-188", summary)
}

#[test]
fn a_healthy_node_with_kubernetes_as_datastore() {
    insta::assert_snapshot!(document(&node(Some("kubernetes")), Vec::new()).text());
}

#[test]
fn a_renamed_node_with_etcd_as_datastore() {
    let mut sample = node(Some("etcdv3"));
    sample.node.calico_node_name = Fact::Known("paas-old".to_owned());
    let pod = |name: &str, owner| DatastorePod {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        node: Some("paas-old".to_owned()),
        addresses: Vec::new(),
        host_network: false,
        phase: "Running".to_owned(),
        waiting: Vec::new(),
        owner,
    };
    let controller = PodOwner::Controller("ReplicaSet/web".to_owned());
    let pods = vec![pod("db-188", PodOwner::Nobody), pod("web-188", controller)];
    sample.datastore = Fact::Known(Datastore { pods, ..Datastore::default() });
    let summary = "the host is named paas-188, Calico calls it paas-old";
    insta::assert_snapshot!(document(&sample, vec![wrong(Cause::NodeNameChanged, summary)]).text());
}

#[test]
fn a_node_that_tells_no_datastore_and_has_two_faults() {
    let findings = vec![
        wrong(Cause::IpForwardOff, "this node does not forward")
            .cure("paas-188", "sysctl -w net.ipv4.ip_forward=1"),
        wrong(Cause::BirdNotRunning, "BIRD does not run"),
    ];
    insta::assert_snapshot!(document(&node(None), findings).text());
}

#[test]
fn a_fault_that_no_reset_mends_is_said_first() {
    let document = document(&node(None), vec![wrong(Cause::IpipNotAllowed, "protocol 4 is dropped")]);
    assert_eq!(
        document.headline(),
        "NOT BY A RESET  paas-188: it does not mend protocol 4 is dropped (ipip-not-allowed)"
    );
    // What explains a fault is what is to be mended.
    let mut session = wrong(Cause::BgpSessionDown, "a session is down");
    session.explained_by.push(wrong(Cause::NetfilterDrop, "a rule drops port 179"));
    assert_eq!(reset::plan(&Model::new(&node(None)), vec![session]).need, Need::NotByReset);
}

#[test]
fn a_name_is_one_word_for_the_shell() {
    let mut sample = node(Some("etcdv3"));
    sample.node.calico_node_name = Fact::Known("-f;$(reboot)".to_owned());
    sample.control_plane.logs =
        Fact::Known(vec![log("kube-system/calico-node-a"), log("kube-system/calico-node-b")]);
    let document = document(&sample, Vec::new());
    let deletion: Vec<&str> =
        document.steps.iter().filter(|step| step.changes).map(|step| step.run.as_str()).collect();
    assert_eq!(
        deletion,
        [
            "calicoctl delete node -- '-f;$(reboot)'",
            "kubectl -n kube-system delete pod -l k8s-app=calico-node --field-selector \
             'spec.nodeName=-f;$(reboot)'"
        ]
    );
}

#[test]
fn a_name_that_changes_with_the_next_start_is_not_deleted_now() {
    let mut sample = node(Some("etcdv3"));
    sample.control_plane.configured_hostname = Fact::Known("paas-new".to_owned());
    let document = document(&sample, vec![wrong(Cause::NodeNameChanged, "it will be paas-new")]);
    assert!(document.renamed.as_ref().is_some_and(|renamed| renamed.at_next_start));
    assert!(document.steps.iter().any(|step| step.run == "calicoctl delete node paas-188"));
    assert!(!document.steps.iter().any(|step| step.run.starts_with("kubectl delete node")));
}
