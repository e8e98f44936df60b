//! Tiny-ImageNet (Stanford CS231n): 200 classes of 64x64 JPEG pictures.
//!
//! ```text
//! wnids.txt                          one class per line
//! words.txt                          wnid, tab, names (optional)
//! train/<wnid>/images/*.JPEG
//! val/images/*.JPEG
//! val/val_annotations.txt            file, tab, wnid, tab, a box
//! ```
//!
//! The official test pictures have no labels, so `val` is the test split here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::file::{failed, malformed, read, read_text};
use crate::{Dataset, Error, Result, Split};

const SET: &str = "tinyimagenet";
const SIDE: usize = 64;
const PIXELS: usize = 3 * SIDE * SIDE;

/// Tiny-ImageNet from its unpacked folder, u8 [N, 3, 64, 64].
///
/// Class i is line i of `wnids.txt`, in the order of that file (not sorted). Class names are the first name in
/// `words.txt`, or the wnid where there is none. Training pictures come class by class, in the order of the number in
/// their file names; test pictures in the order of `val_annotations.txt`. Grey pictures become three equal channels.
///
/// A class may have any number of its pictures, and annotated val pictures that are not there are passed over, so a
/// part of the set loads too.
///
/// # Errors
/// A missing file or folder, a class without any training picture, no val picture at all, an annotation of an unknown
/// class, a file that is not a JPEG picture of 64x64 pixels or is cut short: each names the file or the class.
pub fn load(dir: &Path) -> Result<Dataset> {
    let wnids = read_wnids(&dir.join("wnids.txt"))?;
    let class_names = read_names(&dir.join("words.txt"), &wnids)?;
    let mut train = Vec::new();
    for (class, wnid) in wnids.iter().enumerate() {
        let images = list_images(&dir.join("train").join(wnid).join("images"), wnid)?;
        train.extend(images.into_iter().map(|path| (path, class as u32)));
    }
    let test = list_val(&dir.join("val"), &wnids)?;
    Ok(Dataset {
        name: SET.to_string(),
        class_names,
        train: decode_all(train)?,
        test: decode_all(test)?,
        validation: None,
    })
}

/// One JPEG picture of 64x64 pixels, grey or colour, as 3 * 64 * 64 bytes [C, H, W].
///
/// # Errors
/// A missing file, or one that is not such a picture.
pub fn read_image(path: &Path) -> Result<Vec<u8>> {
    let mut planes = vec![0; PIXELS];
    decode(path, &mut planes)?;
    Ok(planes)
}

fn read_wnids(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path, SET)?;
    let wnids: Vec<String> = text.split_whitespace().map(String::from).collect();
    if wnids.is_empty() {
        return Err(malformed(path, "names no class"));
    }
    let mut seen = HashMap::new();
    for (line, wnid) in wnids.iter().enumerate() {
        if wnid.contains(['/', '\\']) || wnid.starts_with('.') {
            return Err(malformed(path, format!("{wnid:?} is not a class name")));
        }
        if let Some(before) = seen.insert(wnid, line) {
            let (before, line) = (before + 1, line + 1);
            return Err(malformed(
                path,
                format!("names class {wnid} twice, as number {before} and {line}"),
            ));
        }
    }
    Ok(wnids)
}

fn read_names(path: &Path, wnids: &[String]) -> Result<Vec<String>> {
    let text = match read_text(path, SET) {
        Err(Error::Missing { .. }) => String::new(),
        other => other?,
    };
    let names: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    Ok(wnids
        .iter()
        .map(|wnid| {
            let names = names.get(wnid.as_str()).copied().unwrap_or(wnid);
            names.split(',').next().unwrap_or(wnid).trim().to_string()
        })
        .collect())
}

fn list_images(folder: &Path, wnid: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|source| failed(folder, SET, source))?;
    let mut images = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| failed(folder, SET, source))?.path();
        let jpeg = path.extension().is_some_and(|extension| {
            extension.eq_ignore_ascii_case("jpeg") || extension.eq_ignore_ascii_case("jpg")
        });
        if jpeg {
            images.push(path);
        }
    }
    if images.is_empty() {
        return Err(Error::EmptyClass {
            path: folder.into(),
            class: wnid.to_string(),
        });
    }
    // Shorter names first, so that picture 2 comes before picture 10.
    images.sort_by_cached_key(|path| (path.as_os_str().len(), path.clone()));
    Ok(images)
}

fn list_val(dir: &Path, wnids: &[String]) -> Result<Vec<(PathBuf, u32)>> {
    let annotations = dir.join("val_annotations.txt");
    let classes: HashMap<&str, u32> = wnids
        .iter()
        .enumerate()
        .map(|(class, wnid)| (wnid.as_str(), class as u32))
        .collect();
    let mut images = Vec::new();
    for (line, text) in read_text(&annotations, SET)?.lines().enumerate() {
        let line = line + 1;
        let mut fields = text.split('\t');
        let (Some(name), Some(wnid)) = (fields.next(), fields.next()) else {
            return Err(malformed(
                &annotations,
                format!("line {line} is not a file, a tab and a class"),
            ));
        };
        let Some(&class) = classes.get(wnid) else {
            return Err(malformed(
                &annotations,
                format!("line {line} names class {wnid}, which is not in wnids.txt"),
            ));
        };
        let path = dir.join("images").join(name);
        if path.is_file() {
            images.push((path, class));
        }
    }
    if images.is_empty() {
        return Err(Error::Missing {
            path: dir.join("images"),
            set: SET.to_string(),
        });
    }
    Ok(images)
}

fn decode_all(images: Vec<(PathBuf, u32)>) -> Result<Split> {
    let mut pixels = vec![0; images.len() * PIXELS];
    // Collected before the first failure is looked for, so that the error does not depend on the threads.
    let outcomes: Vec<Result<()>> = pixels
        .par_chunks_mut(PIXELS)
        .zip(&images)
        .map(|(planes, (path, _))| decode(path, planes))
        .collect();
    outcomes.into_iter().collect::<Result<()>>()?;
    let labels = images.into_iter().map(|(_, class)| class).collect();
    Split::new(pixels, labels, [3, SIDE, SIDE])
}

/// Decodes a picture into planes [C, H, W].
fn decode(path: &Path, planes: &mut [u8]) -> Result<()> {
    let bytes = read(path, SET)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes[..]), options);
    let broken = |what: String| malformed(path, format!("is not a whole JPEG picture: {what}"));
    decoder
        .decode_headers()
        .map_err(|error| broken(error.to_string()))?;
    let size = decoder.dimensions();
    if size != Some((SIDE, SIDE)) {
        let (width, height) = size.unwrap_or_default();
        return Err(malformed(
            path,
            format!("is {width}x{height} pixels where {SIDE}x{SIDE} are expected"),
        ));
    }
    // The decoder fills a cut picture with grey without a word.
    if !bytes.windows(2).any(|pair| pair == [0xff, 0xd9]) {
        return Err(broken("its end marker is missing".to_string()));
    }
    let rgb = decoder
        .decode()
        .map_err(|error| broken(error.to_string()))?;
    if rgb.len() != PIXELS {
        return Err(broken(format!("{} bytes came out of it", rgb.len())));
    }
    for (channel, plane) in planes.chunks_exact_mut(SIDE * SIDE).enumerate() {
        for (pixel, value) in plane.iter_mut().enumerate() {
            *value = rgb[3 * pixel + channel];
        }
    }
    Ok(())
}
