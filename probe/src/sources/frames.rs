//! How many frames the devices have received: their own counters alone, which is much less to read than whole links.

use anyhow::Context as _;
use bytes::BufMut as _;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::raw_netlink::{RawNetlink, attribute};
use crate::reading::Frames;

const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;
/// `IFLA_STATS_LINK_64`, and its bit in `struct if_stats_msg`.
const LINK_64: u16 = 1;
const WANTED: u32 = 1;
/// `struct if_stats_msg`, and where it has the device's index.
const HEADER: usize = 12;
const INDEX: usize = 4;
/// Where `struct rtnl_link_stats64` has them.
const RECEIVED_PACKETS: usize = 0;
const RECEIVED_BYTES: usize = 16;

/// Those of every device in the network namespace of the calling thread.
pub fn read() -> anyhow::Result<Vec<Frames>> {
    let mut request = Vec::with_capacity(HEADER);
    request.put_bytes(0, HEADER - size_of::<u32>());
    request.put_u32_ne(WANTED);
    let mut frames = Vec::new();
    RawNetlink::open(NETLINK_ROUTE)?
        .dump(RTM_GETSTATS, &request, |message| {
            if message.kind == RTM_NEWSTATS {
                frames.extend(read_frames(&message.payload));
            }
        })
        .context("cannot read the counters of devices")?;
    Ok(frames)
}

fn read_frames(payload: &[u8]) -> Option<Frames> {
    let link = u32::from_ne_bytes(*payload.get(INDEX..)?.first_chunk()?);
    let statistics = attribute(payload.get(HEADER..)?, LINK_64)?;
    let number = |at: usize| Some(u64::from_ne_bytes(*statistics.get(at..)?.first_chunk()?));
    Some(Frames { link, packets: number(RECEIVED_PACKETS)?, bytes: number(RECEIVED_BYTES)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::raw_netlink::put_attribute, *};

    #[test]
    fn counters_are_read_by_the_index_of_their_device() {
        let mut payload: Vec<u8> = Vec::new();
        for word in [0u32, 7, WANTED] {
            payload.put_u32_ne(word);
        }
        let statistics: Vec<u8> = [3u64, 1, 126, 42].iter().flat_map(|number| number.to_ne_bytes()).collect();
        put_attribute(&mut payload, LINK_64, &statistics).unwrap();
        assert_eq!(read_frames(&payload), Some(Frames { link: 7, packets: 3, bytes: 126 }));
    }

    #[test]
    fn this_namespaces_loopback_is_among_them() {
        assert!(read().unwrap().iter().any(|frames| frames.link == 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = read_frames(&bytes);
        }
    }
}
