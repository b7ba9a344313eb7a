//! Traces that are asked for and told.

use std::time::Duration;

use anyhow::Result;
use caliprobe::sample::Fact;

use crate::{
    certificates::VALID,
    node::{Failure, NODE, Node, Observed, facts, flow, refusal},
};

#[tokio::test]
async fn a_node_that_watches_says_so_and_tells_what_it_saw_once_all_is_sent() -> Result<()> {
    let node = Node::start()?;
    let peer = node.ask().await?;
    assert!(node.observed.ended.lock().unwrap().is_empty(), "it watches until it is told to end");
    assert_eq!(Fact::from_result(peer.finish().await), Fact::Known(facts()));
    let traces = node.observed.traces.lock().unwrap();
    assert_eq!((&traces[0].flow, traces[0].length), (&flow(), Duration::from_secs(8)));
    assert!(!traces[0].without_bpf);
    assert_eq!(*node.observed.ended.lock().unwrap(), [true]);
    Ok(())
}

#[tokio::test]
async fn one_trace_runs_at_a_time() -> Result<()> {
    let node = Node::start()?;
    let first = node.ask().await?;
    let second = refusal(node.ask().await);
    assert!(second.contains("another trace runs on this node"), "{second}");
    first.finish().await?;
    node.ask().await?.finish().await?;
    Ok(())
}

#[tokio::test]
async fn each_certificate_has_six_a_minute() -> Result<()> {
    let node = Node::start()?;
    for _ in 0..6 {
        node.ask().await?.finish().await?;
    }
    let seventh = refusal(node.ask().await);
    assert!(seventh.contains("has asked for 6 traces within a minute; ask again in "), "{seventh}");
    let other = node.authority.certify(&node.folder.path().join("other"), &["paas-186"], VALID)?;
    node.ask_as(&other).await?.finish().await?;
    assert_eq!(node.traces(), 7);
    Ok(())
}

#[tokio::test]
async fn who_hangs_up_ends_the_watch_and_makes_room() -> Result<()> {
    let node = Node::start()?;
    drop(node.ask().await?);
    let again = node.ask_once_it_is_free().await?;
    assert_eq!(*node.observed.ended.lock().unwrap(), [false]);
    again.finish().await?;
    Ok(())
}

#[tokio::test]
async fn what_fails_there_is_told_here() -> Result<()> {
    let failing = |fails| Node::with(Observed { fails: Some(fails), ..Observed::default() }, &[NODE]);
    let node = failing(Failure::AtOnce)?;
    let at_once = refusal(node.ask().await);
    assert!(at_once.contains("caliprobe there: no privileges"), "{at_once}");
    let node = failing(Failure::InTheEnd)?;
    let late = refusal(node.ask().await?.finish().await);
    assert!(late.contains("caliprobe there: the second look failed"), "{late}");
    Ok(())
}
