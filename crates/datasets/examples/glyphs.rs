//! Draws a few glyphs, prints the class counts and writes a contact sheet, one row per class, as a PPM picture.
//!
//! `cargo run --release -p datasets --example glyphs -- glyphs.ppm`

use datasets::glyphs::{GlyphsConfig, SIDE, generate};

const COLUMNS: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dataset = generate(&GlyphsConfig::default())?;
    let classes = dataset.classes();
    let counts = dataset.train.class_counts(classes)?;
    println!("{}: {} classes", dataset.name, classes);
    for (name, count) in dataset.class_names.iter().zip(counts) {
        println!("{name:>10} {count:5} training pictures");
    }

    let Some(path) = std::env::args().nth(1) else {
        println!("name a file to write a contact sheet to, such as glyphs.ppm");
        return Ok(());
    };
    let images = dataset.train.subset(0..COLUMNS * classes)?.images;
    let pixels = images.flatten_all()?.to_vec1::<u8>()?;
    let (width, height) = (COLUMNS * SIDE, classes * SIDE);
    let mut ppm = format!("P6 {width} {height} 255\n").into_bytes();
    for y in 0..height {
        for x in 0..width {
            // Picture i is of class i mod classes, so row r holds pictures r, r + classes, ...
            let picture = (x / SIDE) * classes + y / SIDE;
            for channel in 0..3 {
                let plane = (picture * 3 + channel) * SIDE * SIDE;
                ppm.push(pixels[plane + (y % SIDE) * SIDE + x % SIDE]);
            }
        }
    }
    std::fs::write(&path, ppm)?;
    println!("wrote {path}");
    Ok(())
}
