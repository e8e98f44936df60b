//! Tiny-ImageNet folders, the JPEG decoder against libjpeg, and every way a folder can be bad.

use std::fs;
use std::path::Path;

use datasets::tiny_imagenet::{load, read_image};
use datasets::{Dataset, Error};

const CLASSES: [&str; 3] = ["n03", "n01", "n02"];

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/golden").join(name)).unwrap()
}

/// Three classes in an order that is not sorted; class i has i + 1 training pictures, numbers 2, 10, 11.
fn write_set(dir: &Path) {
    fs::write(dir.join("wnids.txt"), CLASSES.join("\n")).unwrap();
    fs::write(
        dir.join("words.txt"),
        "n01\tcat, house cat\nn03\ttruck\nn99\tother\n",
    )
    .unwrap();
    for (class, wnid) in CLASSES.iter().enumerate() {
        let images = dir.join("train").join(wnid).join("images");
        fs::create_dir_all(&images).unwrap();
        fs::write(images.join("notes.txt"), "not a picture").unwrap();
        let pictures = [(2, "flat.jpg"), (10, "grey.jpg"), (11, "flat.jpg")];
        for (number, picture) in &pictures[..=class] {
            let path = images.join(format!("{wnid}_{number}.JPEG"));
            fs::write(path, golden(picture)).unwrap();
        }
    }
    fs::create_dir_all(dir.join("val/images")).unwrap();
    fs::write(dir.join("val/images/val_0.JPEG"), golden("grey.jpg")).unwrap();
    fs::write(dir.join("val/images/val_2.JPEG"), golden("flat.jpg")).unwrap();
    let lines = [
        "val_0.JPEG\tn02\t0\t0\t9\t9",
        "val_1.JPEG\tn01\t0\t0\t9\t9",
        "val_2.JPEG\tn03\t0\t0\t9\t9",
    ];
    fs::write(dir.join("val/val_annotations.txt"), lines.join("\n")).unwrap();
}

fn pictures(split: &datasets::Split) -> Vec<Vec<u8>> {
    let all = split.images.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    all.chunks(3 * 64 * 64).map(<[u8]>::to_vec).collect()
}

#[test]
fn folders_load_in_the_order_of_wnids() {
    let dir = tempfile::tempdir().unwrap();
    write_set(dir.path());
    let Dataset {
        name,
        class_names,
        train,
        test,
        validation,
    } = load(dir.path()).unwrap();
    assert_eq!(name, "tinyimagenet");
    assert_eq!(class_names, ["truck", "cat", "n02"]);
    assert!(validation.is_none());
    assert_eq!(train.images.dims(), [6, 3, 64, 64]);
    assert_eq!(train.labels.to_vec1::<u32>().unwrap(), [0, 1, 1, 2, 2, 2]);
    let flat = golden("flat.bin");
    let grey = golden("grey.bin").repeat(3);
    assert!(pictures(&train) == [&flat, &flat, &grey, &flat, &grey, &flat].map(Clone::clone));
    // val_1 is annotated but not there.
    assert_eq!(test.labels.to_vec1::<u32>().unwrap(), [2, 0]);
    assert!(pictures(&test) == [grey, flat]);
}

#[test]
fn exact_pictures_decode_byte_for_byte() {
    let flat = read_image(Path::new("tests/golden/flat.jpg")).unwrap();
    assert!(flat == golden("flat.bin"));
    let grey = read_image(Path::new("tests/golden/grey.jpg")).unwrap();
    assert!(grey == golden("grey.bin").repeat(3));
}

/// JPEG leaves rounding and chroma interpolation to the decoder, so libjpeg's bytes are met within a few levels.
#[test]
fn subsampled_picture_is_close_to_libjpeg() {
    let ours = read_image(Path::new("tests/golden/smooth.jpg")).unwrap();
    let worst = ours
        .iter()
        .zip(golden("smooth.bin"))
        .map(|(&a, b)| a.abs_diff(b))
        .max();
    assert!(worst <= Some(3), "{worst:?}");
}

#[test]
fn words_are_optional() {
    let dir = tempfile::tempdir().unwrap();
    write_set(dir.path());
    fs::remove_file(dir.path().join("words.txt")).unwrap();
    assert_eq!(load(dir.path()).unwrap().class_names, CLASSES);
}

/// The message after `damage` was done to a good set.
fn complaint(damage: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    write_set(dir.path());
    damage(dir.path());
    load(dir.path()).unwrap_err().to_string()
}

#[test]
fn class_without_pictures_is_named() {
    let message = complaint(|dir| {
        fs::remove_file(dir.join("train/n03/images/n03_2.JPEG")).unwrap();
    });
    assert!(message.contains("class n03 has no image"), "{message}");
}

#[test]
fn missing_parts_are_named() {
    for part in [
        "wnids.txt",
        "val/val_annotations.txt",
        "val/images",
        "train/n01/images",
    ] {
        let message = complaint(|dir| {
            let path = dir.join(part);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        });
        assert!(message.contains(&format!("{part} is missing")), "{message}");
        assert!(
            message.contains("cargo xtask fetch tinyimagenet"),
            "{message}"
        );
    }
}

#[test]
fn bad_lists_are_refused() {
    for (file, content, reason) in [
        ("wnids.txt", "\n", "names no class"),
        (
            "wnids.txt",
            "n01\nn02\nn01\n",
            "class n01 twice, as number 1 and 3",
        ),
        ("wnids.txt", "n01\n../n02\n", "not a class name"),
        (
            "val/val_annotations.txt",
            "val_0.JPEG n01\n",
            "line 1 is not",
        ),
        (
            "val/val_annotations.txt",
            "val_0.JPEG\tn02\nval_2.JPEG\tn77\n",
            "line 2 names class n77",
        ),
    ] {
        let message = complaint(|dir| fs::write(dir.join(file), content).unwrap());
        assert!(
            message.contains(file) && message.contains(reason),
            "{message}"
        );
    }
    let message = complaint(|dir| fs::write(dir.join("wnids.txt"), [0xff, 0xfe]).unwrap());
    assert!(message.contains("UTF-8"), "{message}");
}

#[test]
fn bad_pictures_are_named() {
    let flat = golden("flat.jpg");
    // The first 2 bytes of the frame header's height, 5 bytes after its marker.
    let frame = flat.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let mut tall = flat.clone();
    tall[frame + 6] = 128;
    for (bytes, reason) in [
        (Vec::new(), "not a whole JPEG picture"),
        (b"GIF89a".to_vec(), "not a whole JPEG picture"),
        (flat[..flat.len() / 2].to_vec(), "not a whole JPEG picture"),
        (flat[..flat.len() - 2].to_vec(), "not a whole JPEG picture"),
        (tall, "64x128 pixels where 64x64"),
    ] {
        let message = complaint(|dir| {
            fs::write(dir.join("train/n02/images/n02_10.JPEG"), bytes).unwrap();
        });
        assert!(
            message.contains("n02_10.JPEG") && message.contains(reason),
            "{message}"
        );
    }
    assert!(matches!(
        read_image(Path::new("tests/golden/none.jpg")),
        Err(Error::Missing { .. })
    ));
}
