//! `/metrics` stays small on any node: metrics with a series for each of something have a most, and what is cut
//! is itself counted.

use super::{
    Facts,
    catalogue::{CUT_SERIES, Metric},
    encoding::Family,
    series::Series,
};

/// The whole page, in bytes.
pub(super) const MOST_BYTES: usize = 100 << 10;
/// What a line has beside its name and labels: braces, a value, a line feed.
const LINE: usize = 32;
/// What a label has beside its name and value: `=""` and a comma.
const LABEL: usize = 4;
/// What `# HELP` and `# TYPE` cost beside the name, which they repeat, and the help.
const HEAD: usize = 48;

/// The families, of which the open-ended ones are cut to their most and, one after the other, to what the page has
/// room for.
pub(super) fn fit(metrics: &'static [Metric], facts: &Facts<'_>) -> Vec<Family> {
    let mut families: Vec<Family> = metrics.iter().map(|metric| metric.family(facts)).collect();
    let open_ended = metrics.iter().filter(|metric| metric.most.is_some());
    let cut_metric = Family { metric: &CUT_SERIES, series: open_ended.map(|it| cut(it, 0)).collect() };
    let fixed = families.iter().filter(|family| family.metric.most.is_none()).chain([&cut_metric]);
    let mut room = MOST_BYTES.saturating_sub(fixed.map(cost).sum());
    let mut cut_series = Vec::new();
    for family in &mut families {
        if let Some(most) = family.metric.most {
            cut_series.push(cut(family.metric, keep(family, most, &mut room)));
        }
    }
    families.push(Family { series: cut_series, ..cut_metric });
    families
}

/// Keeps the first series; returns how many it cut.
fn keep(family: &mut Family, most: usize, room: &mut usize) -> usize {
    let all = family.series.len();
    let mut left = room.saturating_sub(head_cost(family.metric));
    let fits = |series: &&Series| {
        let cost = line_cost(family.metric, series);
        let fits = cost <= left;
        left = left.saturating_sub(cost);
        fits
    };
    let kept = family.series.iter().take(most).take_while(fits).count();
    family.series.truncate(kept);
    if kept > 0 {
        *room = left;
    }
    all - kept
}

fn cut(metric: &Metric, series: usize) -> Series {
    Series::whole(series as u64).with("metric", metric.name)
}

fn cost(family: &Family) -> usize {
    let lines: usize = family.series.iter().map(|series| line_cost(family.metric, series)).sum();
    head_cost(family.metric) + lines
}

fn head_cost(metric: &Metric) -> usize {
    HEAD + 2 * metric.name.len() + metric.help.len()
}

/// At most what the line of a series takes.
fn line_cost(metric: &Metric, series: &Series) -> usize {
    let escaped = |value: &str| value.matches(['"', '\\', '\n']).count();
    let labels = series.labels.iter().map(|(name, value)| LABEL + name.len() + value.len() + escaped(value));
    LINE + metric.name.len() + labels.sum::<usize>()
}
