//! Netlink for the families that rtnetlink does not speak: namespace identities and netfilter.
//! Requests are small and blocking; every length that the kernel gives is checked.

use std::io;

use anyhow::{Context as _, bail};
use bytes::BufMut as _;
use netlink_sys::{Socket, SocketAddr};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub const DUMP: u16 = 0x300;
const NLA_HEADER: usize = 4;
/// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const NLA_TYPE_MASK: u16 = 0x3fff;
/// What one dump may hold at most, so that a broken peer cannot fill the memory.
const LARGEST_DUMP: usize = 64 << 20;
/// The kernel sends at most 32 KiB at once.
const RECEIVE_BUFFER: usize = 64 << 10;

/// One message of an answer: its type and what follows the header.
pub struct Message {
    pub kind: u16,
    pub payload: Vec<u8>,
}

/// A socket of one netlink family, in the network namespace in which it was opened.
pub struct RawNetlink {
    socket: Socket,
}

impl RawNetlink {
    pub fn open(family: isize) -> anyhow::Result<Self> {
        let mut socket = Socket::new(family).context("cannot open a netlink socket")?;
        socket.bind_auto().context("cannot bind a netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("cannot connect a netlink socket")?;
        Ok(Self { socket })
    }

    /// Sends one request and collects its answers. The kernel's own error keeps its number.
    pub fn request(&self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<Message>> {
        self.send(kind, flags, payload)?;
        self.collect()
    }

    fn send(&self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + payload.len());
        message.put_u32_ne(length);
        message.put_u16_ne(kind);
        let acknowledge = if flags & DUMP == DUMP { 0 } else { NLM_F_ACK };
        message.put_u16_ne(NLM_F_REQUEST | acknowledge | flags);
        message.put_u32_ne(1);
        message.put_u32_ne(0);
        message.put_slice(payload);
        self.socket.send(&message, 0).map(drop)
    }

    /// Asks for a dump of any length, and hands out its messages as they come.
    pub fn dump(&self, kind: u16, payload: &[u8], mut each: impl FnMut(&Message)) -> io::Result<()> {
        self.send(kind, DUMP, payload)?;
        let mut messages = Vec::new();
        loop {
            let (_, complete) = self.receive(&mut messages)?;
            messages.drain(..).for_each(|message| each(&message));
            if complete {
                return Ok(());
            }
        }
    }

    fn collect(&self) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        let mut total = 0;
        loop {
            let (length, complete) = self.receive(&mut messages)?;
            total += length;
            if total > LARGEST_DUMP {
                return Err(io::Error::other("the answer has no end"));
            }
            if complete {
                return Ok(messages);
            }
        }
    }

    /// Appends what comes next; how long it was, and whether the answer is complete.
    fn receive(&self, messages: &mut Vec<Message>) -> io::Result<(usize, bool)> {
        let mut buffer = Vec::with_capacity(RECEIVE_BUFFER);
        let length = self.socket.recv(&mut buffer, 0)?;
        if length == 0 {
            return Err(io::Error::other("the answer has no end"));
        }
        Ok((length, read_messages(&buffer, messages)?))
    }
}

/// Splits what was received; `true` where the answer is complete.
fn read_messages(mut rest: &[u8], messages: &mut Vec<Message>) -> io::Result<bool> {
    while let Some((header, _)) = rest.split_first_chunk::<HEADER>() {
        let length =
            usize::try_from(u32::from_ne_bytes([header[0], header[1], header[2], header[3]])).unwrap_or(0);
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(payload) = rest.get(HEADER..length) else {
            return Err(io::Error::other("a netlink message is cut off"));
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
            _ => messages.push(Message { kind, payload: payload.to_vec() }),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Appends an attribute, padded to four bytes.
pub fn put_attribute(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) -> anyhow::Result<()> {
    let Ok(length) = u16::try_from(NLA_HEADER + value.len()) else { bail!("an attribute is too long") };
    buffer.put_u16_ne(length);
    buffer.put_u16_ne(kind);
    buffer.put_slice(value);
    buffer.resize(buffer.len().next_multiple_of(4), 0);
    Ok(())
}

/// The attributes of a message, in order; it ends at the first that is malformed.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header: &[u8; NLA_HEADER] = rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = rest.get(NLA_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A string attribute, without its terminating zero.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_are_read_back() {
        let mut buffer = Vec::new();
        put_attribute(&mut buffer, 1, b"abc\0").unwrap();
        put_attribute(&mut buffer, 0x8002, &[7]).unwrap();
        let read: Vec<_> = attributes(&buffer).collect();
        assert_eq!(read, vec![(1, &b"abc\0"[..]), (2, &[7][..])]);
        assert_eq!(text(read[0].1), "abc");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = attributes(&bytes).count();
            let _ = read_messages(&bytes, &mut Vec::new());
        }
    }
}
