//! Pictures of ten symbols, drawn from a seed. No file is needed.
//!
//! 3x32x32, classes [`CLASS_NAMES`]. Position, size, rotation (up to 25 degrees either way), aspect, stroke width,
//! filled or outlined, colours, background (flat, gradient, stripes, blotches), specks and noise are random. The symbol
//! is lighter than the background as often as darker, so a linear classifier on the pixels does not get far (about 20 %
//! of the test pictures; a test holds it below 60 %), while a small convolutional network passes 97 %.
//!
//! Each picture is a function of (seed, split, index) alone: more pictures in a split leave the earlier ones as they
//! were, and the number of threads changes nothing. Only operations that IEEE 754 rounds exactly are used, so the bytes
//! are the same on every machine. Picture i of a split is of class i mod 10.

mod draw;
mod shapes;

use rayon::prelude::*;

use crate::{Dataset, Error, Result, Split};

pub use shapes::CLASS_NAMES;

/// Height and width of a picture.
pub const SIDE: usize = 32;

const PIXELS: usize = 3 * SIDE * SIDE;

/// How many pictures to draw, and from which seed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlyphsConfig {
    /// Training pictures; default 10 000.
    pub train: usize,
    /// Validation pictures, 0 for no such split; default 1 000.
    pub validation: usize,
    /// Test pictures; default 2 000.
    pub test: usize,
    /// Seed of all pictures; default 0.
    pub seed: u64,
}

impl Default for GlyphsConfig {
    fn default() -> Self {
        Self {
            train: 10_000,
            validation: 1_000,
            test: 2_000,
            seed: 0,
        }
    }
}

/// Draws the set: u8 [N, 3, 32, 32] per split.
///
/// # Errors
/// [`Error::Argument`] if there is no training or no test picture, or more than 1 000 000 in a split.
pub fn generate(config: &GlyphsConfig) -> Result<Dataset> {
    for (name, count, least) in [
        ("glyphs.train", config.train, 1),
        ("glyphs.validation", config.validation, 0),
        ("glyphs.test", config.test, 1),
    ] {
        if !(least..=1_000_000).contains(&count) {
            return Err(Error::argument(
                name,
                format!("{least} to 1000000 pictures can be drawn, got {count}"),
            ));
        }
    }
    let validation = match config.validation {
        0 => None,
        count => Some(split(config.seed, 1, count)?),
    };
    Ok(Dataset {
        name: "glyphs".to_string(),
        class_names: CLASS_NAMES.iter().map(ToString::to_string).collect(),
        train: split(config.seed, 0, config.train)?,
        test: split(config.seed, 2, config.test)?,
        validation,
    })
}

fn split(seed: u64, split: u32, count: usize) -> Result<Split> {
    let classes = CLASS_NAMES.len();
    let mut pixels = vec![0; count * PIXELS];
    pixels
        .par_chunks_exact_mut(PIXELS)
        .enumerate()
        .for_each(|(index, planes)| draw::picture(seed, split, index, index % classes, planes));
    let labels = (0..count).map(|index| (index % classes) as u32).collect();
    Split::new(pixels, labels, [3, SIDE, SIDE])
}
