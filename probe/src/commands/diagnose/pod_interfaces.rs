//! Looks at pods' own ends of their veths, for those that the question may be about.

use crate::{
    cli::Global,
    diagnosis::Question,
    model::Model,
    sample::{PodInterface, Sample},
    sources::pod_interfaces,
};

/// How many pods without a route are looked into, at most.
const MOST_CANDIDATES: usize = 64;

/// What can be seen of them. What cannot be entered is left out: it is unknown.
pub fn look_into(sample: &Sample, question: &Question, global: &Global) -> Vec<PodInterface> {
    let model = Model::new(sample);
    let mut links: Vec<u32> = question.pod_links(&model);
    if model.remote_block(question.target).is_none() {
        links.extend(model.pod_links_without_route().take(MOST_CANDIDATES).map(|link| link.index));
    }
    links.sort_unstable();
    links.dedup();
    let links = links.into_iter().filter_map(|index| model.link(index));
    pod_interfaces::read(&global.root, links).read
}
