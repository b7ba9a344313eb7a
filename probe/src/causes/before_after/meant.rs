//! What a clean-up plan takes away: what of it went was meant, and what of it is there is left to do.

use super::{Change, Happened, Meaning, devices::have_one_address};
use crate::{
    causes::routing::route_words,
    model::Model,
    plan::{Action, Plan, Step},
    report::document::SubjectKind,
    sample::{Hop, Link, Route},
};

/// The steps of a plan; none without one.
#[derive(Default)]
pub struct Meant<'p> {
    steps: &'p [Step],
}

impl<'p> Meant<'p> {
    pub fn of(plan: &'p Plan) -> Self {
        Self { steps: &plan.steps }
    }

    /// Whether a step takes the route away, or every device by which it leads.
    pub fn names_route(&self, model: &Model<'_>, route: &Route) -> bool {
        let by_itself = self.steps.iter().any(|step| {
            matches!(&step.action, Action::DeleteRoute { route: planned, devices }
                if is_planned(model, route, planned, devices))
        });
        let leads_by_meant =
            |hop: &Hop| hop.link.and_then(|link| model.link(link)).is_some_and(|link| self.names_link(link));
        by_itself || (!route.hops.is_empty() && route.hops.iter().all(leads_by_meant))
    }

    /// Whether a step sets the device down or deletes it.
    pub fn names_link(&self, link: &Link) -> bool {
        self.steps.iter().any(|step| match &step.action {
            Action::SetLinkDown { link: planned } | Action::DeleteLink { link: planned, .. } => {
                is_one(planned, link)
            }
            Action::DeleteRoute { .. } => false,
        })
    }

    /// What is there though the plan takes it away.
    pub fn unfinished(&self, after: &Model<'_>) -> Vec<Change> {
        let left = |kind, value: String, summary| {
            Some(Change::new((Happened::Stayed, Meaning::Unfinished), (kind, value), summary))
        };
        let find = |planned: &Link| after.sample.links.iter().find(|link| is_one(planned, link));
        let is_deleted = |planned: &Link| {
            self.steps
                .iter()
                .any(|step| matches!(&step.action, Action::DeleteLink { link, .. } if is_one(planned, link)))
        };
        let steps = self.steps.iter().filter_map(|step| match &step.action {
            Action::DeleteRoute { route: planned, devices } => {
                let mut routes = after.sample.routes.iter();
                let route = routes.find(|route| is_planned(after, route, planned, devices))?;
                let summary = format!("{} is still there", route_words(after, route));
                left(SubjectKind::Route, route.destination.to_string(), summary)
            }
            Action::SetLinkDown { link } => {
                let name = &find(link).filter(|now| now.up && !is_deleted(link))?.name;
                left(SubjectKind::Interface, name.clone(), format!("{name} is still up"))
            }
            Action::DeleteLink { link, .. } => {
                let name = &find(link)?.name;
                let why = if step.is_reversible() {
                    ""
                } else {
                    ": that step cannot be undone, and `cleanup apply --include-irreversible` alone takes it"
                };
                left(SubjectKind::Interface, name.clone(), format!("{name} is still there{why}"))
            }
        });
        steps.collect()
    }
}

/// A veth is known by its index, any other device also where it was made anew as it was.
fn is_one(planned: &Link, link: &Link) -> bool {
    let is_alike = (&planned.name, &planned.kind) == (&link.name, &link.kind);
    let is_made_as_it_was = link.kind.as_deref() != Some("veth") && have_one_address(planned, link);
    is_alike && (planned.index == link.index || is_made_as_it_was)
}

fn is_planned(model: &Model<'_>, route: &Route, planned: &Route, devices: &[Option<String>]) -> bool {
    let bare = |route: &Route| {
        let hop = |hop: &Hop| Hop { link: None, dead: false, link_down: false, ..hop.clone() };
        Route { hops: route.hops.iter().map(hop).collect(), ..route.clone() }
    };
    let names =
        route.hops.iter().map(|hop| hop.link.and_then(|link| model.link(link)).map(|link| &link.name));
    bare(route) == bare(planned) && names.eq(devices.iter().map(Option::as_ref))
}
