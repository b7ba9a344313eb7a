//! Queueing disciplines of the devices, and what they dropped.

use anyhow::Context as _;
use bytes::BufMut as _;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::raw_netlink::{DUMP, RawNetlink, attribute, text};
use crate::sample::Queue;

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
/// `struct tcmsg`.
const HEADER: usize = 20;
/// Where `struct gnet_stats_basic` has its packets, and `struct gnet_stats_queue` its drops.
const PACKETS: usize = 8;
const DROPS: usize = 8;

/// Those of the network namespace of the calling thread, but for devices that keep no queue.
pub fn read() -> anyhow::Result<Vec<Queue>> {
    let netlink = RawNetlink::open(NETLINK_ROUTE)?;
    let mut request = Vec::with_capacity(HEADER);
    request.put_bytes(0, HEADER);
    let answer =
        netlink.request(RTM_GETQDISC, DUMP, &request).context("cannot read the queues of devices")?;
    let queues = answer.iter().filter(|message| message.kind == RTM_NEWQDISC);
    Ok(queues
        .filter_map(|message| read_queue(&message.payload))
        .filter(|queue| queue.kind != "noqueue")
        .collect())
}

fn read_queue(payload: &[u8]) -> Option<Queue> {
    let attributes = payload.get(HEADER..)?;
    let statistics = attribute(attributes, TCA_STATS2)?;
    Some(Queue {
        link: number(payload, 4)?,
        handle: number(payload, 8)?,
        kind: text(attribute(attributes, TCA_KIND)?),
        passed: number(attribute(statistics, TCA_STATS_BASIC)?, PACKETS)?,
        dropped: number(attribute(statistics, TCA_STATS_QUEUE)?, DROPS)?,
    })
}

/// A number in the machine's own byte order.
fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::raw_netlink::put_attribute, *};

    #[test]
    fn a_queue_is_read_with_its_drops() {
        let mut payload: Vec<u8> = Vec::new();
        for word in [0u32, 2, 0x8001_0000, 0xffff_ffff, 2] {
            payload.put_u32_ne(word);
        }
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let mut stats = Vec::new();
        put_attribute(&mut stats, TCA_STATS_BASIC, &words(&[0, 0, 5, 0])).unwrap();
        put_attribute(&mut stats, TCA_STATS_QUEUE, &words(&[0, 0, 7, 0, 0])).unwrap();
        put_attribute(&mut payload, TCA_KIND, b"netem\0").unwrap();
        put_attribute(&mut payload, TCA_STATS2, &stats).unwrap();
        let queue = Queue { link: 2, handle: 0x8001_0000, kind: "netem".to_owned(), passed: 5, dropped: 7 };
        assert_eq!(read_queue(&payload), Some(queue));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_queue(&bytes);
        }
    }
}
