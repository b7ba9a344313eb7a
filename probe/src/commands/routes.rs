//! `caliprobe routes`: what is each row of the route table for, what does it carry, what is wrong with it?

use std::{collections::BTreeMap, time::Duration};

use super::{
    look::{self, Look},
    progress::Progress,
    several,
};
use crate::{
    causes::route_table::{self, Fault},
    cli::{Global, RoutesArgs},
    exit::Exit,
    model::{
        Model, is_pod_link,
        pools::PoolSource,
        rows::{self, Role, Row, Tables},
    },
    report::{document::NotSeen, routes::RoutesDocument},
    sample::{Link, Part, Sample},
};

/// A pod that starts or stops looks faulty for less than this; Calico's own repairs take longer.
const SETTLED: Duration = Duration::from_millis(700);

/// Prints the rows. A view: what is wrong does not change its exit code.
pub async fn run(args: &RoutesArgs, global: &Global) -> anyhow::Result<Exit> {
    let tables = if args.all_tables { Tables::All } else { Tables::Main };
    let documents = match &args.input {
        Some(path) => {
            let samples = look::saved(path, global)?.into_iter();
            let seen = samples.map(|sample| Seen { sample, unread: BTreeMap::new() });
            seen.map(|seen| seen.document(tables, |_| true)).collect()
        }
        None => vec![standing(tables, global).await?],
    };
    several::print(&documents, global)?;
    Ok(Exit::Fine)
}

/// The rows of this node, with those faults that a second look still finds.
async fn standing(tables: Tables, global: &Global) -> anyhow::Result<RoutesDocument> {
    let _progress = Progress::of("looking at this node", global);
    let first = Seen::look(global).await?;
    let faults = first.faults(tables);
    if faults.is_empty() {
        return Ok(first.document(tables, |_| true));
    }
    tokio::time::sleep(SETTLED).await;
    let second = Seen::look(global).await?;
    Ok(second.document(tables, |fault| faults.iter().any(|before| before.is_same(fault))))
}

/// One look at a node.
struct Seen {
    sample: Sample,
    /// Why the pods behind some devices could not be looked into.
    unread: BTreeMap<u32, String>,
}

impl Seen {
    async fn look(global: &Global) -> anyhow::Result<Self> {
        let Look { sample, unread } = look::live(global).await?;
        Ok(Self { sample, unread })
    }

    fn faults(&self, tables: Tables) -> Vec<Fault> {
        let model = Model::new(&self.sample);
        let (rows, _) = rows::read(&model, tables);
        route_table::judge(&model, &rows)
    }

    fn document(&self, tables: Tables, keep: impl Fn(&Fault) -> bool) -> RoutesDocument {
        let model = Model::new(&self.sample);
        let (rows, shared) = rows::read(&model, tables);
        let mut faults = route_table::judge(&model, &rows);
        faults.retain(keep);
        let not_seen = self.not_seen(&model, &rows);
        RoutesDocument::new(&model, &rows, &shared, faults, not_seen)
    }

    fn not_seen(&self, model: &Model<'_>, rows: &[Row<'_>]) -> Vec<NotSeen> {
        let sample = &self.sample;
        let mut not_seen = NotSeen::of_lines(sample);
        let mut add = |what: &str, why: &str| {
            not_seen.push(NotSeen { what: what.to_owned(), why: why.to_owned() });
        };
        if let Some(why) = sample.missing.get(&Part::Routes) {
            add("every route", why);
        }
        let has = |wanted: fn(&Role) -> bool| rows.iter().any(|row| wanted(&row.role));
        let pools_are_guessed =
            model.pools.iter().all(|pool| pool.source == PoolSource::Routes) && has(Role::is_calico);
        if let Some(why) = sample.sets.pools.absent().filter(|_| pools_are_guessed) {
            add("the pools", why);
        }
        let has_remote = has(|role| matches!(role, Role::RemoteBlock { .. } | Role::RemoteAddress { .. }));
        if let Some(why) = sample.sets.hosts.absent().filter(|_| has_remote) {
            add("which addresses are nodes", why);
        }
        let has_pods = has(|role| matches!(role, Role::LocalPod { .. }));
        if let Some(why) = sample.cni_results.absent().filter(|_| has_pods) {
            add("the names of pods", why);
        }
        for (what, why) in self.pods_not_seen(model) {
            add(&what, &why);
        }
        not_seen
    }

    /// Pods that could not be looked into: one by one where no row leads to them, the others together.
    fn pods_not_seen(&self, model: &Model<'_>) -> Vec<(String, String)> {
        let looked_into = |link: &Link| self.sample.pod_interfaces.iter().any(|pod| pod.link == link.index);
        let why = |link: &Link| {
            self.unread.get(&link.index).map_or("the sample does not hold it", String::as_str).to_owned()
        };
        let unlooked = || self.sample.links.iter().filter(|link| is_pod_link(link) && !looked_into(link));
        let mut not_seen: Vec<(String, String)> = model
            .pod_links_without_route()
            .filter(|link| !looked_into(link))
            .map(|link| (format!("whether {} is of a pod that lost its route", link.name), why(link)))
            .collect();
        if let Some(first) = unlooked().next() {
            let count = unlooked().count();
            let pods = if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") };
            not_seen.push((format!("the inside of {pods}"), why(first)));
        }
        not_seen
    }
}
