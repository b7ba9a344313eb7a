//! Memory that is not needed any more.

/// Gives back to the kernel what reading the node has freed: it is scattered, and glibc keeps all that lies below the
/// last piece in use, which on a large node is several times what the daemon holds.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: malloc_trim(3) has no preconditions, and changes no memory that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}
