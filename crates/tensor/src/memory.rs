//! Settings of the C library's allocator.

/// Has the C library keep freed memory for reuse instead of returning it to the system.
///
/// A training step frees the hundreds of megabytes that it allocated. By default glibc returns
/// them, and the next step gets every page back through a page fault. libtorch uses the same
/// allocator.
///
/// This is a setting of the whole process, for a program to call before its first tensor, not for a
/// library. It does nothing except on Linux with glibc, and does not hold for large blocks that
/// threads other than the main one allocate.
#[allow(unsafe_code)] // A call into the C library.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: changes settings of the allocator under its own lock.
    unsafe {
        // Allocate large blocks on the heap too, instead of mapping each, and never shrink the
        // heap.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}

/// Returns freed memory to the system once. Useful between phases that need different block sizes.
#[allow(unsafe_code)] // A call into the C library.
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: releases the allocator's free blocks under its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
