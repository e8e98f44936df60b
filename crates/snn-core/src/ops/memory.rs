//! Large buffers.

/// Bytes from which a buffer is worth large pages.
#[cfg(target_os = "linux")]
const LARGE: usize = 1 << 22;

/// `len` zeros. What is large lies in large pages where the system has them: to touch a fresh buffer page by page costs
/// more time than most kernels need to fill it.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    #[cfg_attr(not(target_os = "linux"), allow(unused_mut))]
    let mut buffer = vec![0f32; len];
    #[cfg(target_os = "linux")]
    if size_of_val(&buffer[..]) >= LARGE {
        const PAGE: usize = 1 << 12;
        let bytes = buffer.as_mut_ptr().cast::<u8>();
        let skipped = bytes.align_offset(PAGE);
        let whole = (size_of_val(&buffer[..]) - skipped) / PAGE * PAGE;
        // SAFETY: the range lies in the buffer; the advice changes no content. It may be refused, at no loss.
        unsafe { libc::madvise(bytes.add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
    }
    buffer
}
