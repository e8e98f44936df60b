//! Buffers that begin with a cache line: a vector that lies across two lines is loaded and stored twice.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// Numbers of a cache line.
pub(crate) const LINE: usize = 16;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Numbers from a cache line's start on, in whole lines.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    pub(crate) const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// At least `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self {
            lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)],
        }
    }

    /// The first `len` numbers of a scratch buffer that only ever grows; their values are whatever was there.
    pub(crate) fn first(&mut self, len: usize) -> &mut [f32] {
        if self.len() < len {
            self.lines.resize(len.div_ceil(LINE), Line([0.0; LINE]));
        }
        &mut self[..len]
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is `LINE` numbers and nothing else.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), LINE * self.lines.len()) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        let len = LINE * self.lines.len();
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}

/// A buffer that a thread lends out, and keeps for the next time: fresh pages cost more time than most kernels need to
/// fill them.
pub(crate) struct Lent {
    buffer: Aligned,
    len: usize,
    from: &'static LocalKey<Cell<Aligned>>,
}

impl Lent {
    /// `len` numbers; their values are whatever was there.
    pub(crate) fn new(from: &'static LocalKey<Cell<Aligned>>, len: usize) -> Self {
        let mut buffer = from.take();
        buffer.first(len);
        Self { buffer, len, from }
    }

    pub(crate) fn values(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

impl Deref for Lent {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.from.set(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_with_a_line_and_keeps_its_numbers() {
        let mut buffer = Aligned::new();
        for len in [0, 1, 16, 17, 1000] {
            let zeros = Aligned::zeros(len);
            assert!(zeros.len() >= len && zeros.iter().all(|x| *x == 0.0));
            let numbers = buffer.first(len);
            assert_eq!(numbers.len(), len);
            assert!(len == 0 || numbers.as_ptr().addr().is_multiple_of(64));
            numbers.fill(len as f32);
            assert_eq!(buffer.first(len / 2), vec![len as f32; len / 2]);
        }
    }
}
