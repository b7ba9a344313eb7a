//! What is wrong with a node as it stands, without any traffic of its own: what the article looks at by hand, and
//! what else keeps a node's pod network from working.

mod calico;
mod duplicates;
mod explain;
mod firewall;
mod flapping;
mod interfaces;
mod names;
mod outputs;
mod peer_addresses;
mod pod;
mod pod_networks;
mod review;
mod routes;
mod sessions;
mod settings;
mod tables;
mod tunnel;
mod uplink;

pub use explain::explain;
pub use firewall::{admitted_peers, felix_anew_on};
pub use interfaces::has_errors;
pub use names::short_name;
pub use outputs::{is_enough, wanted};
pub use review::{Review, Topic};

use crate::{model::Model, report::document::Finding, sample::Sample};

/// Judges a node topic by topic, in the order in which a person reads them. An earlier look at the same node shows
/// which counters rise.
pub fn judge(model: &Model<'_>, earlier: Option<&Sample>) -> Vec<Review> {
    judge_with(model, earlier, Vec::new())
}

/// The same, with what other nodes show to be wrong with this one's routes.
pub fn judge_with(model: &Model<'_>, earlier: Option<&Sample>, of_others: Vec<Finding>) -> Vec<Review> {
    if model.is_inside_pod() {
        return vec![pod::review(model)];
    }
    let mut reviews = vec![
        calico::review(model),
        sessions::review(model),
        names::review(model),
        uplink::review(model),
        pod_networks::review(model),
        tunnel::review(model),
        routes::review(model, of_others),
        settings::review(model),
        interfaces::review(model, earlier),
        firewall::review(model),
        tables::review(model, earlier),
    ];
    explain::fold(model, &mut reviews);
    reviews
}

/// The reasons in the control plane that may explain a fault of the data path.
pub fn reasons(model: &Model<'_>) -> Vec<Finding> {
    [calico::review(model), sessions::review(model), uplink::review(model), pod_networks::review(model)]
        .into_iter()
        .flat_map(|review| review.findings)
        .collect()
}
