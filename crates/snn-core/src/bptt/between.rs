//! What changes maps without weights: dropout, average pooling and flattening, image by image from the spikes' bits.

use std::cell::RefCell;

use rayon::prelude::*;

use super::plan;
use crate::Result;
use crate::network::Batch;
use crate::ops::avg_pool::{pool, spread};
use crate::ops::bits::Bits;
use crate::ops::cpu::{Unwritten, scratch};

/// One change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Dropout of layer `index`, the same at every step.
    Mask {
        index: usize,
        probability: f64,
    },
    Pool {
        kernel: usize,
    },
    Flatten,
}

/// A chain of changes.
#[derive(Debug)]
pub(super) struct Between {
    changes: Vec<Change>,
    /// Shapes before each change and after the last, without batch and time.
    shapes: Vec<Vec<usize>>,
}

/// What the chain starts from, a row for each step and image.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Spikes(&'a Bits),
    Dense(&'a [f32]),
}

#[derive(Default)]
struct Scratch {
    from: Vec<f32>,
    to: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::default();
}

impl Between {
    /// No change of maps of this shape.
    pub(super) fn new(shape: &[usize]) -> Self {
        Self {
            changes: Vec::new(),
            shapes: vec![shape.to_vec()],
        }
    }

    pub(super) fn push(&mut self, change: Change) {
        let before = &self.shapes[self.changes.len()];
        let after = match (change, &before[..]) {
            (Change::Pool { kernel }, &[c, h, w]) => vec![c, h / kernel, w / kernel],
            (Change::Flatten, shape) => vec![shape.iter().product()],
            (_, shape) => shape.to_vec(),
        };
        self.changes.push(change);
        self.shapes.push(after);
    }

    /// Whether it gives what it takes.
    pub(super) fn is_nothing(&self) -> bool {
        self.changes
            .iter()
            .all(|change| matches!(change, Change::Flatten))
    }

    pub(super) fn masks(&self, batch: Batch) -> Result<Vec<Vec<f32>>> {
        let changes = self.changes.iter().zip(&self.shapes);
        changes
            .filter_map(|(change, shape)| match *change {
                Change::Mask { index, probability } => {
                    Some(plan::mask(batch, index, shape, probability))
                }
                _ => None,
            })
            .collect()
    }

    fn inputs(&self) -> usize {
        self.shapes[0].iter().product()
    }

    fn outputs(&self) -> usize {
        self.shapes[self.changes.len()].iter().product()
    }

    /// The maps of `rows` steps and images after the changes; row r is of image `r % images`.
    pub(super) fn forward(
        &self,
        source: Source,
        rows: usize,
        images: usize,
        masks: &[Vec<f32>],
    ) -> Vec<f32> {
        let size = self.outputs();
        let mut all = Unwritten::new(rows * size);
        let places = all.places();
        (0..rows).into_par_iter().for_each(|row| {
            BUFFERS.with_borrow_mut(|buffers| {
                let from = scratch(&mut buffers.from, self.inputs());
                match source {
                    Source::Spikes(bits) => bits.unpack(row, from),
                    Source::Dense(values) => {
                        from.copy_from_slice(&values[row * from.len()..][..from.len()]);
                    }
                }
                let mut masks = masks.iter();
                for (change, shape) in self.changes.iter().zip(&self.shapes) {
                    let len = shape.iter().product();
                    match *change {
                        Change::Mask { .. } => {
                            let mask = masks.next().expect("a mask for each dropout");
                            times(&mut buffers.from[..len], mask, row % images);
                        }
                        Change::Pool { kernel } => {
                            let to = scratch(&mut buffers.to, len / (kernel * kernel));
                            to.fill(0.0);
                            pool(&buffers.from[..len], to, shape[2] / kernel, kernel);
                            std::mem::swap(&mut buffers.from, &mut buffers.to);
                        }
                        Change::Flatten => {}
                    }
                }
                let from = &buffers.from[..size];
                // SAFETY: a row is its task's alone.
                unsafe {
                    places
                        .at(row * size)
                        .copy_from_nonoverlapping(from.as_ptr(), size)
                };
            });
        });
        // SAFETY: every row was written.
        unsafe { all.written() }
    }

    /// Gradient of what it took.
    pub(super) fn backward(
        &self,
        gradient: Vec<f32>,
        images: usize,
        masks: &[Vec<f32>],
    ) -> Vec<f32> {
        if self.is_nothing() {
            return gradient;
        }
        let (size, rows) = (self.inputs(), gradient.len() / self.outputs());
        let mut all = Unwritten::new(rows * size);
        let places = all.places();
        gradient
            .par_chunks(self.outputs())
            .enumerate()
            .for_each(|(row, gradient)| {
                BUFFERS.with_borrow_mut(|buffers| {
                    scratch(&mut buffers.from, self.outputs()).copy_from_slice(gradient);
                    let mut masks = masks.iter().rev();
                    for (change, shape) in self.changes.iter().zip(&self.shapes).rev() {
                        let len = shape.iter().product();
                        match *change {
                            Change::Mask { .. } => {
                                let mask = masks.next().expect("a mask for each dropout");
                                times(&mut buffers.from[..len], mask, row % images);
                            }
                            Change::Pool { kernel } => {
                                let to = scratch(&mut buffers.to, len);
                                let from = &buffers.from[..len / (kernel * kernel)];
                                spread(from, to, shape[2] / kernel, kernel);
                                std::mem::swap(&mut buffers.from, &mut buffers.to);
                            }
                            Change::Flatten => {}
                        }
                    }
                    let from = &buffers.from[..size];
                    // SAFETY: a row is its task's alone.
                    unsafe {
                        places
                            .at(row * size)
                            .copy_from_nonoverlapping(from.as_ptr(), size)
                    };
                });
            });
        // SAFETY: every row was written.
        unsafe { all.written() }
    }
}

/// Multiplies a map with an image's row of a mask.
fn times(map: &mut [f32], mask: &[f32], image: usize) {
    let mask = &mask[image * map.len()..][..map.len()];
    for (x, m) in map.iter_mut().zip(mask) {
        *x *= m;
    }
}
