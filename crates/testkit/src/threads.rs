/// Runs `f` on a rayon pool of `threads` threads.
///
/// # Panics
/// If the pool cannot be made.
pub fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("a thread pool")
        .install(f)
}

/// Asserts that `f` gives equal results on pools of 1, 2 and 4 threads, and returns the result.
///
/// # Panics
/// If it does not.
pub fn assert_thread_independent<R: Send + PartialEq>(what: &str, f: impl Fn() -> R + Sync) -> R {
    let one = with_threads(1, &f);
    for threads in [2, 4] {
        assert!(
            with_threads(threads, &f) == one,
            "{what}: {threads} threads differ from one"
        );
    }
    one
}
