//! One picture of all sources of images, with the names of sources and classes, that stands alone.

use std::fmt::Write;

use anyhow::{Result, bail};

use super::grid::Picture;
use super::html::escape;
use super::png::data_uri;
use super::svg::wrap;

/// Largest width of the drawing.
const WIDTH: f64 = 1100.0;
/// Largest length of the embedded picture.
const BYTES: usize = 600_000;
/// Side of a drawn pixel where there is room.
const SCALE: f64 = 2.0;
const FONT: f64 = 13.0;
/// Mean width of a letter, generously.
const LETTER: f64 = 0.62 * FONT;
const LINE: f64 = 1.25 * FONT;
const MARGIN: f64 = 6.0;

/// The drawing of as many of `classes` as fit, from the first on: `picture(n)` gives the grid of the first `n`, one row
/// per class, in equal parts per column of `columns`. The embedded PNG stays below 600 kB, the drawing within 1100 units.
///
/// # Errors
/// No column or class; a picture of one class that is too large already; what `picture` answers.
pub fn svg(
    columns: &[String],
    classes: &[String],
    mut picture: impl FnMut(usize) -> Result<Picture>,
) -> Result<String> {
    if columns.is_empty() || classes.is_empty() {
        bail!("a picture of all sources needs a source and a class");
    }
    let mut shown = classes.len();
    loop {
        let grid = picture(shown)?;
        let uri = data_uri(&grid.png);
        if uri.len() < BYTES {
            return Ok(draw(columns, &classes[..shown], &grid, &uri));
        }
        if shown == 1 {
            bail!(
                "the pictures of one class take {} bytes, more than {BYTES}",
                uri.len()
            );
        }
        // a row takes about the same whatever its class
        shown = (shown * BYTES / uri.len()).clamp(1, shown - 1);
    }
}

fn draw(columns: &[String], classes: &[String], grid: &Picture, uri: &str) -> String {
    let longest = classes
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0);
    let left = (longest as f64 * LETTER + 2.0 * MARGIN).min(WIDTH / 3.0);
    let scale = SCALE.min((WIDTH - left - MARGIN) / grid.width as f64);
    let (drawn, tall) = (grid.width as f64 * scale, grid.height as f64 * scale);
    let column = drawn / columns.len() as f64;
    let names: Vec<Vec<String>> = columns
        .iter()
        .map(|name| wrap(name, ((column - MARGIN) / LETTER) as usize))
        .collect();
    let lines = names.iter().map(Vec::len).max().unwrap_or(1);
    let top = lines as f64 * LINE + MARGIN;
    let (width, height) = (left + drawn + MARGIN, top + tall + MARGIN);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.1} {height:.1}" font-family="sans-serif" font-size="{FONT}" fill="#111827"><title>Images of each class, from left to right: {}</title><rect width="{width:.1}" height="{height:.1}" fill="#fff"/>"##,
        escape(&columns.join(", "))
    );
    for (i, name) in names.iter().enumerate() {
        let middle = left + column * (i as f64 + 0.5);
        for (j, line) in name.iter().enumerate() {
            let below = (name.len() - 1 - j) as f64 * LINE;
            let _ = write!(
                svg,
                r##"<text x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
                top - MARGIN - below,
                escape(line)
            );
        }
    }
    let row = tall / classes.len() as f64;
    for (i, name) in classes.iter().enumerate() {
        let _ = write!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
            left - MARGIN,
            top + row * (i as f64 + 0.5) + 0.35 * FONT,
            escape(name)
        );
    }
    let _ = write!(
        svg,
        r##"<image x="{left:.1}" y="{top:.1}" width="{drawn:.1}" height="{tall:.1}" preserveAspectRatio="none" style="image-rendering:pixelated" href="{uri}"/>"##,
    );
    for i in 1..columns.len() {
        let x = left + column * i as f64 - 0.25 * scale;
        let _ = write!(
            svg,
            r##"<line x1="{x:.1}" x2="{x:.1}" y1="{top:.1}" y2="{:.1}" stroke="#111827"/>"##,
            top + tall
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    fn picture(bytes: usize, width: usize, height: usize) -> Picture {
        Picture {
            png: vec![0; bytes],
            width,
            height,
        }
    }

    #[test]
    fn every_source_and_class_is_named() {
        let svg = svg(
            &names(&["real", "A1 on <x>"]),
            &names(&["cat", "dog"]),
            |_| Ok(picture(30, 100, 60)),
        )
        .unwrap();
        for part in [
            ">real<",
            ">cat<",
            ">dog<",
            "&lt;x&gt;",
            "image-rendering:pixelated",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(svg.contains(r#"width="200.0" height="120.0""#), "{svg}");
    }

    #[test]
    fn what_is_too_large_is_shown_smaller() {
        let columns = names(&["real"]);
        let classes = names(&["a", "b", "c", "d"]);
        let mut asked = Vec::new();
        let text = svg(&columns, &classes, |n| {
            asked.push(n);
            Ok(picture(n * 160_000, 2000, n * 32))
        })
        .unwrap();
        assert_eq!(asked, [4, 2]);
        assert!(text.len() < 610_000 && !text.contains(">c<"));
        let width: f64 = text
            .split("width=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(width <= WIDTH, "{width}");
        assert!(svg(&columns, &classes, |_| Ok(picture(500_000, 20, 20))).is_err());
        assert!(svg(&columns, &[], |_| Ok(picture(4, 20, 20))).is_err());
    }
}
