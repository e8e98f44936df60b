//! The allocator's habits.

/// Keeps freed memory for the next tensor. By default glibc maps every large tensor afresh and gives it back when it is
/// dropped, and the page faults of that cost more than a cheap operation on the tensor itself. Elsewhere than on Linux
/// with glibc this does nothing.
pub fn keep_freed_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` only sets numbers of the allocator; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            // -1: nothing goes back to the system
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
            // one heap: a second one could not reuse what the first keeps
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}
