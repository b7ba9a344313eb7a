//! What crosses the boundary between the kernel programs and user space.
#![no_std]
