//! Reads of kernel memory, and of packets, that may fail.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skb_load_bytes, bpf_skb_load_bytes_relative};

const BPF_HDR_START_NET: u32 = 1;
/// Where kernel addresses begin on 64-bit machines.
pub(crate) const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;
/// `PROC_DYNAMIC_FIRST`: no namespace has a smaller inode (fs/proc/generic.c).
pub(crate) const LEAST_NAMESPACE: u32 = 0xf000_0000;

/// Kernel memory at an address; `None` where there is none.
#[inline(always)]
pub(crate) fn read<T: Copy>(address: u64) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly size_of::<T>() bytes to `value`, or fails on a bad address.
    let result = unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _)
    };
    // SAFETY: all types that are read are integers and arrays of them, valid for any bytes.
    if result == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// Bytes of a packet from its network header on, on every kind of device, whether or not it has a link-layer
/// header.
#[inline(always)]
pub(crate) fn load_from_network_header<T: Copy>(skb: *mut core::ffi::c_void, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly size_of::<T>() bytes to `value`, or fails.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            skb.cast(),
            offset,
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            BPF_HDR_START_NET,
        )
    };
    // SAFETY: all types that are loaded are integers and arrays of them, valid for any bytes.
    if result == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// Bytes of a packet from its first on, also where they are not in its linear part.
#[inline(always)]
pub(crate) fn load<T: Copy>(skb: *mut core::ffi::c_void, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly size_of::<T>() bytes to `value`, or fails.
    let result =
        unsafe { bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32) };
    // SAFETY: all types that are loaded are integers and arrays of them, valid for any bytes.
    if result == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// The inode of the namespace that a device or socket names; 0 where the pointer is none. `skb->dev` shares its
/// place with other things, so that only a kernel address that leads to a sane inode counts.
#[inline(always)]
pub(crate) fn namespace_of(object: u64, offset: u32, inode: u32) -> u32 {
    if object < KERNEL_HALF {
        return 0;
    }
    let namespace: u64 = read(object + u64::from(offset)).unwrap_or(0);
    if namespace < KERNEL_HALF {
        return 0;
    }
    let inode: u32 = read(namespace + u64::from(inode)).unwrap_or(0);
    if inode < LEAST_NAMESPACE { 0 } else { inode }
}
