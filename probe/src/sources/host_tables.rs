//! How full the kernel's tables are: connection tracking, neighbours, the CPUs' backlogs.

use std::path::Path;

use anyhow::Context as _;

use super::files::read_text;
use crate::sample::{ConntrackTable, Fact, HostTables, NeighbourTable, SoftnetCpu};

pub fn read(root: &Path) -> HostTables {
    HostTables {
        conntrack: Fact::from_result(conntrack(root)),
        neighbours: Fact::from_result(neighbours(root)),
        softnet: Fact::from_result(softnet(root)),
    }
}

fn conntrack(root: &Path) -> anyhow::Result<ConntrackTable> {
    let setting = |name: &str| number(root, &format!("proc/sys/net/netfilter/{name}"));
    let statistics = Statistics::read(root, "nf_conntrack")?;
    Ok(ConntrackTable {
        count: setting("nf_conntrack_count")?,
        max: setting("nf_conntrack_max")?,
        drop: statistics.sum("drop"),
        early_drop: statistics.sum("early_drop"),
        insert_failed: statistics.sum("insert_failed"),
    })
}

fn neighbours(root: &Path) -> anyhow::Result<NeighbourTable> {
    let statistics = Statistics::read(root, "arp_cache")?;
    Ok(NeighbourTable {
        entries: statistics.first("entries").context("the kernel does not count its neighbours")?,
        limit: number(root, "proc/sys/net/ipv4/neigh/default/gc_thresh3").ok(),
        table_fulls: statistics.sum("table_fulls"),
    })
}

fn number(root: &Path, path: &str) -> anyhow::Result<u64> {
    let path = root.join(path);
    let text = read_text(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.trim().parse().with_context(|| format!("{} holds no number", path.display()))
}

/// A file of `/proc/net/stat`: names, then a row of hexadecimal numbers each CPU.
struct Statistics {
    names: Vec<String>,
    rows: Vec<Vec<u64>>,
}

impl Statistics {
    fn read(root: &Path, name: &str) -> anyhow::Result<Self> {
        // /proc/net is the namespace of the process's first thread; this thread may be in another.
        let path = root.join("proc/thread-self/net/stat").join(name);
        let text = read_text(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let names = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        Self { names, rows: lines.map(hexadecimal).collect() }
    }

    /// A counter of each CPU, added up; `None` where this kernel does not have it.
    fn sum(&self, name: &str) -> Option<u64> {
        let column = self.column(name)?;
        let values = self.rows.iter().filter_map(|row| row.get(column));
        Some(values.fold(0, |sum, value| sum.wrapping_add(*value)))
    }

    /// A number that is the same in every row.
    fn first(&self, name: &str) -> Option<u64> {
        self.rows.first()?.get(self.column(name)?).copied()
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| other == name)
    }
}

fn hexadecimal(line: &str) -> Vec<u64> {
    line.split_whitespace().map_while(|word| u64::from_str_radix(word, 16).ok()).collect()
}

/// Columns of `/proc/net/softnet_stat` (`net/core/net-procfs.c`): processed, dropped, `time_squeeze`.
fn softnet(root: &Path) -> anyhow::Result<Vec<SoftnetCpu>> {
    let path = root.join("proc/thread-self/net/softnet_stat");
    let text = read_text(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().filter_map(|line| cpu(&hexadecimal(line))).collect())
}

fn cpu(row: &[u64]) -> Option<SoftnetCpu> {
    let [processed, dropped, time_squeeze, ..] = *row else { return None };
    Some(SoftnetCpu { processed, dropped, time_squeeze })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_added_up_over_cpus() {
        let statistics =
            Statistics::parse("entries  allocs table_fulls\n00000007 00000001 00000002\n00000007 0a 01\n");
        assert_eq!(statistics.first("entries"), Some(7));
        assert_eq!((statistics.sum("table_fulls"), statistics.sum("allocs")), (Some(3), Some(11)));
        assert_eq!((statistics.first("drop"), statistics.sum("drop")), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in any::<String>()) {
            let statistics = Statistics::parse(&text);
            statistics.sum("drop");
            cpu(&hexadecimal(&text));
        }
    }
}
