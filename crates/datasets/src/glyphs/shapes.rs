//! The symbols as signed distances: negative inside, in units in which a symbol reaches about 1 from its middle.
//! x points right, y down.

/// Names of the ten classes, in the order of their labels.
pub const CLASS_NAMES: [&str; 10] = [
    "ring",
    "triangle",
    "square",
    "cross",
    "star",
    "heart",
    "crescent",
    "arrow",
    "bolt",
    "hourglass",
];

type Point = [f32; 2];

const TRIANGLE: [Point; 3] = [[0.0, -0.95], [0.92, 0.65], [-0.92, 0.65]];

const SQUARE: [Point; 4] = [[-0.74, -0.74], [0.74, -0.74], [0.74, 0.74], [-0.74, 0.74]];

const CROSS: [Point; 12] = [
    [-0.25, -0.92],
    [0.25, -0.92],
    [0.25, -0.25],
    [0.92, -0.25],
    [0.92, 0.25],
    [0.25, 0.25],
    [0.25, 0.92],
    [-0.25, 0.92],
    [-0.25, 0.25],
    [-0.92, 0.25],
    [-0.92, -0.25],
    [-0.25, -0.25],
];

/// Five points at radius 1, five between them at radius 0.4.
const STAR: [Point; 10] = [
    [0.0, -1.0],
    [0.235, -0.324],
    [0.951, -0.309],
    [0.380, 0.124],
    [0.588, 0.809],
    [0.0, 0.4],
    [-0.588, 0.809],
    [-0.380, 0.124],
    [-0.951, -0.309],
    [-0.235, -0.324],
];

const ARROW: [Point; 7] = [
    [-0.98, -0.2],
    [0.08, -0.2],
    [0.08, -0.7],
    [0.98, 0.0],
    [0.08, 0.7],
    [0.08, 0.2],
    [-0.98, 0.2],
];

const BOLT: [Point; 6] = [
    [0.36, -1.0],
    [-0.74, 0.18],
    [-0.1, 0.18],
    [-0.36, 1.0],
    [0.74, -0.26],
    [0.08, -0.26],
];

const HOURGLASS: [Point; 6] = [
    [-0.74, -0.9],
    [0.74, -0.9],
    [0.12, 0.0],
    [0.74, 0.9],
    [-0.74, 0.9],
    [-0.12, 0.0],
];

/// Radius of the circle in the middle of the ring's stroke.
const RING: f32 = 0.78;

/// Signed distance from `point` to the filled symbol of `class`; the ring is given as its circle and needs an outline.
pub(super) fn distance(class: usize, point: Point) -> f32 {
    match class {
        0 => length(point) - RING,
        1 => polygon(&TRIANGLE, point),
        2 => polygon(&SQUARE, point),
        3 => polygon(&CROSS, point),
        4 => polygon(&STAR, point),
        5 => heart(point),
        6 => crescent(point),
        7 => polygon(&ARROW, point),
        8 => polygon(&BOLT, point),
        _ => polygon(&HOURGLASS, point),
    }
}

fn length([x, y]: Point) -> f32 {
    (x * x + y * y).sqrt()
}

/// Distance to the nearest edge, with the sign from the parity of crossings.
fn polygon(corners: &[Point], [x, y]: Point) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    let mut previous = corners[corners.len() - 1];
    for &[bx, by] in corners {
        let [ax, ay] = previous;
        let (ex, ey, px, py) = (bx - ax, by - ay, x - ax, y - ay);
        let along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
        let (dx, dy) = (px - ex * along, py - ey * along);
        nearest = nearest.min(dx * dx + dy * dy);
        if (ay > y) != (by > y) && (x - ax) * (by - ay).abs() < ex * (y - ay) * ey.signum() {
            inside = !inside;
        }
        previous = [bx, by];
    }
    if inside {
        -nearest.sqrt()
    } else {
        nearest.sqrt()
    }
}

/// Two half discs over a square that stands on its corner, tip down.
fn heart([x, y]: Point) -> f32 {
    const SCALE: f32 = 1.7;
    let (x, y) = (x.abs() / SCALE, 0.55 - y / SCALE);
    let d = if x + y > 1.0 {
        length([x - 0.25, y - 0.75]) - 0.353_553_4
    } else {
        let foot = 0.5 * (x + y).max(0.0);
        let nearest = length([x, y - 1.0]).min(length([x - foot, y - foot]));
        if x > y { nearest } else { -nearest }
    };
    d * SCALE
}

/// A disc less a disc to its right. Exact outside the horns only, which is where it matters.
fn crescent([x, y]: Point) -> f32 {
    let disc = length([x - 0.15, y]) - 0.95;
    let bite = length([x - 0.62, y]) - 0.8;
    disc.max(-bite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_far_and_border() {
        for class in 1..CLASS_NAMES.len() {
            // The crescent's body is left of the middle.
            let middle = if class == 6 { [-0.5, 0.0] } else { [0.0, 0.0] };
            assert!(distance(class, middle) < -0.04, "class {class}");
            for corner in [[-1.1, -1.1], [1.1, -1.1], [1.1, 1.1], [-1.1, 1.1]] {
                assert!(distance(class, corner) > 0.15, "class {class}");
            }
        }
        assert_eq!(distance(0, [0.78, 0.0]), 0.0);
    }

    #[test]
    fn polygon_distance_of_a_square() {
        for (point, expected) in [
            ([0.0, 0.0], -0.74),
            ([0.5, 0.1], -0.24),
            ([1.0, 0.0], 0.26),
            ([1.04, 1.14], 0.5),
        ] {
            assert!((polygon(&SQUARE, point) - expected).abs() < 1e-6);
        }
    }

    // Neighbouring points never differ by more than their distance, save inside the crescent's horns.
    #[test]
    fn distances_are_continuous() {
        for class in 0..CLASS_NAMES.len() {
            for i in 0..120 {
                for j in 0..120 {
                    let point = [i as f32 / 50.0 - 1.2, j as f32 / 50.0 - 1.2];
                    let next = [point[0] + 0.02, point[1]];
                    let step = (distance(class, point) - distance(class, next)).abs();
                    assert!(step < 0.0201, "class {class} at {point:?}: {step}");
                }
            }
        }
    }
}
