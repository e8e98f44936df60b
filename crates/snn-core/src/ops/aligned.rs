//! Buffers that begin with a cache line: a vector that lies across two lines is loaded and stored twice.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
            // freed first: nothing of it is kept
            *self = Self::new();
            *self = Self::zeros(len);
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

/// Buffers that wait for their next use: fresh pages cost more time than most kernels need to fill them. They are not a
/// thread's own, since who takes one and who gives it back may be two threads.
#[derive(Debug)]
pub(crate) struct Shelf(Mutex<Vec<Aligned>>);

impl Shelf {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Aligned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `len` numbers, which are back on the shelf when they are dropped; their values are whatever was there.
    pub(crate) fn lend(&'static self, len: usize) -> Lent {
        let mut buffers = self.buffers();
        let fits = (0..buffers.len()).filter(|&i| buffers[i].len() >= len);
        let best = fits.min_by_key(|&i| buffers[i].len());
        let buffer = match best {
            Some(i) => Some(buffers.swap_remove(i)),
            None => buffers.pop(),
        };
        drop(buffers);
        let mut buffer = buffer.unwrap_or_default();
        buffer.first(len);
        Lent {
            buffer,
            len,
            shelf: self,
        }
    }
}

/// A buffer from a [`Shelf`].
pub(crate) struct Lent {
    buffer: Aligned,
    len: usize,
    shelf: &'static Shelf,
}

impl Lent {
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
        let buffer = std::mem::take(&mut self.buffer);
        self.shelf.buffers().push(buffer);
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

    #[test]
    fn what_was_lent_is_lent_again() {
        static SHELF: Shelf = Shelf::new();
        let small = SHELF.lend(20);
        let mut large = SHELF.lend(300);
        large.values().fill(1.0);
        let start = large.as_ptr();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(large));
        });
        drop(small);
        let again = SHELF.lend(200);
        assert_eq!((again.as_ptr(), again.len()), (start, 200));
        assert!(again.iter().all(|x| *x == 1.0));
        assert_eq!(SHELF.buffers().len(), 1);
    }
}
