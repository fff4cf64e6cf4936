//! Memory that one step frees and the next takes again.

/// Has the C library keep what is freed, for the next to ask, instead of giving it back to the system.
///
/// A step of training frees as much as it took, hundreds of megabytes, and glibc would return all of it: the next step
/// then gets every page anew, empty and by way of a page fault. libtorch takes its memory from the same allocator. This is a setting of the
/// whole process, for a program to call before its first tensor and not for a library. Large blocks that other threads
/// than the main one take are still given back, and other systems than Linux with glibc keep theirs as they do.
#[allow(unsafe_code)] // A call into the C library.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets numbers of the allocator under its own lock, which hold for what is allocated from now on.
    unsafe {
        // Large blocks lie on the heap too, rather than being mapped and unmapped one by one, and the heap's end stays.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}

/// Gives freed memory back to the system, once: after work whose blocks the next work has no use for.
#[allow(unsafe_code)] // A call into the C library.
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: walks the allocator's free blocks under its own locks; nothing that is in use is touched.
    unsafe {
        libc::malloc_trim(0);
    }
}
