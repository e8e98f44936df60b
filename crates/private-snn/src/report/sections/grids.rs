//! Grids of images.

use std::fmt::Write;

use super::section;
use crate::report::html::{Cell, escape, table};
use crate::report::pictures::Pictures;
use crate::report::png::data_uri;

/// Grids of images.
pub fn pictures(html: &mut String, pictures: &[(String, Pictures)]) {
    const SCALE: usize = 2;
    let mut body = String::new();
    for (name, pictures) in pictures {
        let head: Vec<String> = std::iter::once("Class".to_string())
            .chain(pictures.columns.iter().cloned())
            .collect();
        let lines: Vec<(String, Vec<Cell>)> = pictures
            .classes
            .iter()
            .zip(&pictures.strips)
            .map(|(class, strips)| {
                let cells =
                    pictures
                        .columns
                        .iter()
                        .zip(strips)
                        .map(|(column, strip)| match strip {
                            Some(picture) => Cell::Markup(format!(
                                "<img src=\"{}\" width=\"{}\" height=\"{}\" alt=\"{}\">",
                                data_uri(&picture.png),
                                picture.width * SCALE,
                                picture.height * SCALE,
                                escape(&format!("{column}: images of class {class}"))
                            )),
                            None => Cell::Text("–".into()),
                        });
                (class.clone(), cells.collect())
            })
            .collect();
        let caption = "Up to four images per class. Synthetic images were asked for the class of their row; their soft \
                       target may favour another.";
        let _ = write!(
            body,
            "<h3>{}</h3>{}",
            escape(name),
            table("grids", caption, &head, &lines)
        );
    }
    section(html, "Images: real, synthetic, rebuilt", &body);
}
