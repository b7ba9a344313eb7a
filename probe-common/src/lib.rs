//! What crosses the boundary between the kernel programs and user space. Fixed widths, explicit padding, sizes
//! asserted. Addresses are in network byte order, as four bytes; all else is in host byte order.
#![no_std]

pub mod ledger;
pub mod trace;
