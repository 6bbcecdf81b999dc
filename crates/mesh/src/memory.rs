//! Gives memory back to the system. The allocator keeps what is freed between what is not, and of
//! many closed connections that is nearly all.

/// Returns every free page of the allocator's to the system. Takes milliseconds, in which other
/// threads may wait to allocate.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(
    unsafe_code,
    reason = "the one call to the allocator that the standard library lacks"
)]
pub(crate) fn trim() {
    // SAFETY: takes no pointer and may be called at any time from any thread (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators return pages on their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim() {}
