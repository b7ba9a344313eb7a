//! What Prometheus makes of a daemon's metrics: its own tools judge the pages, the rules and the dashboard. Where
//! neither `CALIPROBE_PROMETHEUS`, PATH nor xtask's cache has its programs, these tests say so and are skipped.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod dashboard;
#[cfg(test)]
mod history;
#[cfg(test)]
mod node;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod server;
