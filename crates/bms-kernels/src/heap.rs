//! What was freed goes back to the system.

/// Gives memory that was freed back to the system, where the allocator (glibc's) would keep it for later. Worth its
/// milliseconds after work that takes much memory once, such as loading a model.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call only looks at memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
