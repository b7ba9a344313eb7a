//! What Prometheus makes of a daemon's metrics: its own tools judge the pages, the rules and the dashboard. Where
//! neither `CALIPROBE_PROMETHEUS`, PATH nor xtask's cache has its programs, these tests say so and are skipped.

mod node;
mod pages;
mod programs;
