//! One picture: a random scene, then its pixels.

use super::{SIDE, shapes};
use crate::philox::Philox;

type Colour = [f32; 3];

/// Least difference in luminance between symbol and background.
const CONTRAST: f32 = 0.35;
/// How far the two colours of a background may be apart in each channel.
const BACKGROUND_SPAN: f32 = 0.2;

enum Pattern {
    Flat,
    /// From one colour to the other along a direction.
    Gradient([f32; 2]),
    /// Wave vector in turns per pixel, and phase in turns.
    Stripes([f32; 2], f32),
    /// Centre and radius of each, in pixels.
    Blotches([[f32; 3]; 4]),
}

struct Background {
    from: Colour,
    to: Colour,
    pattern: Pattern,
}

struct Symbol {
    class: usize,
    /// Middle in pixels.
    middle: [f32; 2],
    /// Radius in pixels.
    radius: f32,
    /// From pixels to the symbol's own units: rotation, aspect and scale.
    matrix: [f32; 4],
    /// Width of the outline in units; None if filled.
    outline: Option<f32>,
    /// Grown (or shrunk) by this much, in units.
    growth: f32,
    colour: Colour,
}

/// A small dot: middle, radius, strength.
type Speck = [f32; 4];

/// Draws picture `index` of `split` as bytes [3, 32, 32].
pub(super) fn picture(seed: u64, split: u32, index: usize, class: usize, planes: &mut [u8]) {
    let mut rng = Philox::new(seed, split, index as u64);
    let background = background(&mut rng);
    let symbol = symbol(class, &background, &mut rng);
    let specks = specks(&mut rng);
    let noise = rng.range(0.0, 0.04);
    let (red, rest) = planes.split_at_mut(SIDE * SIDE);
    let (green, blue) = rest.split_at_mut(SIDE * SIDE);
    for pixel in 0..SIDE * SIDE {
        let at = [(pixel % SIDE) as f32 + 0.5, (pixel / SIDE) as f32 + 0.5];
        let mut colour = background.at(at);
        for &[x, y, radius, strength] in &specks {
            let cover = strength * coverage(distance(at, [x, y]) - radius);
            colour = mix(colour, symbol.colour, cover);
        }
        colour = mix(colour, symbol.colour, symbol.cover(at));
        for (plane, value) in [&mut *red, &mut *green, &mut *blue].into_iter().zip(colour) {
            plane[pixel] = byte(value + noise * bell(&mut rng));
        }
    }
}

impl Background {
    fn at(&self, at: [f32; 2]) -> Colour {
        let share = match &self.pattern {
            Pattern::Flat => 0.0,
            Pattern::Gradient(direction) => {
                let half = SIDE as f32 / 2.0;
                let along = (at[0] - half) * direction[0] + (at[1] - half) * direction[1];
                0.5 + along / SIDE as f32
            }
            Pattern::Stripes(wave, phase) => {
                let turns = at[0] * wave[0] + at[1] * wave[1] + phase;
                // A triangle wave, steepened to stripes with soft edges.
                let triangle = 4.0 * (turns - turns.floor() - 0.5).abs() - 1.0;
                0.5 + 1.5 * triangle
            }
            Pattern::Blotches(blotches) => blotches
                .iter()
                .map(|&[x, y, radius]| 1.0 - distance(at, [x, y]) / radius)
                .fold(0.0, f32::max),
        };
        mix(self.from, self.to, share.clamp(0.0, 1.0))
    }
}

impl Symbol {
    /// Share of the pixel around `at` that the symbol covers.
    fn cover(&self, at: [f32; 2]) -> f32 {
        let (x, y) = (at[0] - self.middle[0], at[1] - self.middle[1]);
        let reach = 1.6 * self.radius;
        if x * x + y * y > reach * reach {
            return 0.0;
        }
        let [a, b, c, d] = self.matrix;
        let filled = shapes::distance(self.class, [a * x + b * y, c * x + d * y]) - self.growth;
        let edge = match self.outline {
            Some(width) => filled.max(-(filled + width)),
            None => filled,
        };
        coverage(edge * self.radius)
    }
}

fn background(rng: &mut Philox) -> Background {
    let from = [rng.unit(), rng.unit(), rng.unit()];
    let to =
        from.map(|value| (value + rng.range(-BACKGROUND_SPAN, BACKGROUND_SPAN)).clamp(0.0, 1.0));
    let pattern = match rng.below(4) {
        0 => Pattern::Flat,
        1 => Pattern::Gradient(direction(rng)),
        2 => {
            let turns = 1.0 / rng.range(4.0, 10.0);
            let [x, y] = direction(rng);
            Pattern::Stripes([x * turns, y * turns], rng.unit())
        }
        _ => {
            let side = SIDE as f32;
            let mut blotch = || {
                [
                    rng.range(0.0, side),
                    rng.range(0.0, side),
                    rng.range(6.0, 14.0),
                ]
            };
            Pattern::Blotches([blotch(), blotch(), blotch(), blotch()])
        }
    };
    Background { from, to, pattern }
}

fn symbol(class: usize, background: &Background, rng: &mut Philox) -> Symbol {
    let radius = rng.range(9.5, 14.0);
    let room = SIDE as f32 / 2.0 - radius - 0.5;
    let middle = [
        SIDE as f32 / 2.0 + rng.range(-room, room),
        SIDE as f32 / 2.0 + rng.range(-room, room),
    ];
    // tan(25 degrees / 2): cosine and sine follow from the tangent of half the angle without a library function.
    let tangent = rng.range(-0.2217, 0.2217);
    let norm = 1.0 + tangent * tangent;
    let (cos, sin) = ((1.0 - tangent * tangent) / norm, 2.0 * tangent / norm);
    let aspect = rng.range(0.88, 1.12);
    let (sx, sy) = (aspect / radius, 1.0 / (aspect * radius));
    let outlined = rng.unit() < 0.35;
    let width = rng.range(0.22, 0.34);
    let growth = rng.range(-0.04, 0.08);
    let (outline, growth) = match class {
        // The ring is its outline, half of it on each side of the circle.
        0 => (Some(width), 0.5 * width),
        1 | 2 | 4 | 5 if outlined => (Some(width), growth),
        _ => (None, growth),
    };
    Symbol {
        class,
        middle,
        radius,
        matrix: [cos * sx, sin * sx, -sin * sy, cos * sy],
        outline,
        growth,
        colour: contrasting(background, rng),
    }
}

/// A colour lighter or darker than both colours of the background. Tried at random, so that it may be any; black or
/// white is always far enough from a background that spans so little.
fn contrasting(background: &Background, rng: &mut Philox) -> Colour {
    let (from, to) = (luminance(background.from), luminance(background.to));
    for _ in 0..64 {
        let colour = [rng.unit(), rng.unit(), rng.unit()];
        let value = luminance(colour);
        if value > from.max(to) + CONTRAST || value < from.min(to) - CONTRAST {
            return colour;
        }
    }
    if from + to < 1.0 { [1.0; 3] } else { [0.0; 3] }
}

fn specks(rng: &mut Philox) -> Vec<Speck> {
    let side = SIDE as f32;
    let count = rng.below(4);
    (0..count)
        .map(|_| {
            [
                rng.range(0.0, side),
                rng.range(0.0, side),
                rng.range(0.7, 1.6),
                rng.range(0.3, 0.7),
            ]
        })
        .collect()
}

/// A unit vector, uniform over directions.
fn direction(rng: &mut Philox) -> [f32; 2] {
    loop {
        let (x, y) = (rng.range(-1.0, 1.0), rng.range(-1.0, 1.0));
        let square = x * x + y * y;
        if (0.01..=1.0).contains(&square) {
            let length = square.sqrt();
            return [x / length, y / length];
        }
    }
}

/// Sum of four uniforms, mean 0 and deviation 1: close to a normal deviate, and the same on every machine.
fn bell(rng: &mut Philox) -> f32 {
    let sum = rng.unit() + rng.unit() + rng.unit() + rng.unit();
    (sum - 2.0) * 1.732_050_8
}

/// Share of a pixel covered by a shape whose border is `distance` pixels from its middle.
fn coverage(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    let (x, y) = (a[0] - b[0], a[1] - b[1]);
    (x * x + y * y).sqrt()
}

/// Luminance of ITU-R BT.601.
fn luminance([red, green, blue]: Colour) -> f32 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

fn mix(from: Colour, to: Colour, share: f32) -> Colour {
    [
        from[0] + (to[0] - from[0]) * share,
        from[1] + (to[1] - from[1]) * share,
        from[2] + (to[2] - from[2]) * share,
    ]
}

fn byte(value: f32) -> u8 {
    // The cast saturates and drops the fraction.
    (value * 255.0 + 0.5) as u8
}
