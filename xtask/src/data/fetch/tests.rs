use std::path::PathBuf;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;
use crate::data::catalogue::{Digest, Source};
use crate::data::test_server::{Reply, Server, serve_file};

const CONTENT: &[u8] = b"one record";

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn sha256_of(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, bytes).unwrap();
    checksum::sha256(&path).unwrap()
}

/// A data set of one archive, which is expected to hold `toy/train.bin` with `CONTENT`.
fn toy(archive: &[u8]) -> DataSet {
    DataSet {
        homepage: "a test".into(),
        folder: "toy".into(),
        format: Format::TarGz,
        downloads: vec![source("toy.tar.gz", archive)],
        files: [("train.bin".to_owned(), digest(CONTENT))].into(),
        entries: Default::default(),
    }
}

fn digest(bytes: &[u8]) -> Digest {
    Digest {
        bytes: bytes.len() as u64,
        sha256: sha256_of(bytes),
    }
}

fn source(name: &str, bytes: &[u8]) -> Source {
    Source {
        url: format!("http://127.0.0.1:1/{name}"),
        bytes: bytes.len() as u64,
        sha256: sha256_of(bytes),
    }
}

fn policy() -> Policy {
    Policy {
        tries: 2,
        pause: Duration::from_millis(1),
        silence: Duration::from_millis(500),
        proxy: false,
    }
}

fn dir() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data/raw");
    (folder, dir)
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != ".toy.lock").collect();
    names.sort();
    names
}

#[test]
fn a_data_set_arrives_once() {
    let (_folder, dir) = dir();
    let bytes = archive(&[("toy/train.bin", CONTENT), ("toy/readme.txt", b"hello")]);
    let set = toy(&bytes);
    let server = Server::start(move |_, request| serve_file(request, &bytes));
    let url = server.url("toy.tar.gz");
    fetch("toy", &set, &dir, Some(&url), &policy()).unwrap();
    assert_eq!(fs::read(dir.join("toy/train.bin")).unwrap(), CONTENT);
    assert_eq!(names(&dir), ["toy"], "nothing else is left behind");
    let look = |dir: &Path| present("toy", &set, dir).unwrap();
    assert_eq!(look(&dir), Presence::Whole);
    assert_eq!(
        look(&dir.join("toy")),
        Presence::Whole,
        "the set's own folder will do"
    );
    assert_eq!(look(&dir.join("elsewhere")), Presence::Absent);
    fetch("toy", &set, &dir, Some(&url), &policy()).unwrap();
    assert_eq!(
        server.requests().len(),
        1,
        "a complete folder needs no download"
    );
}

#[test]
fn several_plain_files_come_from_one_mirror() {
    let (_folder, dir) = dir();
    let mut set = toy(b"");
    set.format = Format::Plain;
    set.files.clear();
    set.downloads = vec![
        source("images.gz", b"images"),
        source("labels.gz", b"labels"),
    ];
    let server = Server::start(|_, request| match request.path.as_str() {
        "/mirror/images.gz" => serve_file(request, b"images"),
        "/mirror/labels.gz" => serve_file(request, b"labels"),
        _ => Reply::new("404 Not Found", b""),
    });
    fetch("toy", &set, &dir, Some(&server.url("mirror/")), &policy()).unwrap();
    assert_eq!(fs::read(dir.join("toy/labels.gz")).unwrap(), b"labels");
    assert_eq!(names(&dir), ["toy"]);
    fs::write(dir.join("toy/labels.gz"), b"lab").unwrap();
    assert!(present("toy", &set, &dir).is_err());
}

#[test]
fn unpacked_files_do_instead_of_plain_downloads() {
    let (_folder, dir) = dir();
    let mut set = toy(b"");
    set.format = Format::Plain;
    set.files.clear();
    set.downloads = vec![
        source("images.gz", b"images"),
        source("labels.gz", b"labels"),
    ];
    let own = dir.join("toy");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("labels.gz"), b"labels").unwrap();
    assert!(present("toy", &set, &dir).is_err(), "images are missing");
    fs::write(own.join("images"), b"any size").unwrap();
    assert_eq!(present("toy", &set, &dir).unwrap(), Presence::Whole);
    assert_eq!(present("toy", &set, &own).unwrap(), Presence::Whole);
    fetch("toy", &set, &dir, None, &policy()).unwrap();
    // beside the packed file, which nobody reads then
    fs::write(own.join("images.gz"), b"cut").unwrap();
    assert_eq!(present("toy", &set, &dir).unwrap(), Presence::Whole);
    fs::write(own.join("labels.gz"), b"lost").unwrap();
    assert!(present("toy", &set, &dir).is_err());

    set.format = Format::TarGz;
    set.entries.clear();
    set.files = [("images.gz".to_owned(), digest(b"images"))].into();
    assert!(
        present("toy", &set, &dir).is_err(),
        "a file of an archive keeps its name"
    );
}

#[test]
fn a_wrong_checksum_is_deleted_and_named() {
    let (_folder, dir) = dir();
    let bytes = archive(&[("toy/train.bin", CONTENT)]);
    let set = toy(&bytes);
    let mut wrong = bytes;
    wrong[20] ^= 1;
    let server = Server::start(move |_, request| serve_file(request, &wrong));
    let url = server.url("toy.tar.gz");
    let error = format!(
        "{:#}",
        fetch("toy", &set, &dir, Some(&url), &policy()).unwrap_err()
    );
    assert!(
        error.contains(&url) && error.contains("sha256 is") && error.contains("deleted"),
        "{error}"
    );
    assert!(names(&dir).is_empty(), "{:?}", names(&dir));
}

#[test]
fn a_page_in_place_of_the_archive_is_deleted_and_named() {
    let (_folder, dir) = dir();
    let set = toy(&archive(&[("toy/train.bin", CONTENT)]));
    let server = Server::start(|_, _| Reply::new("200 OK", b"<html>please log in</html>"));
    let error = fetch(
        "toy",
        &set,
        &dir,
        Some(&server.url("toy.tar.gz")),
        &policy(),
    )
    .unwrap_err();
    assert!(
        format!("{error:#}").contains("26 bytes, expected"),
        "{error:#}"
    );
    assert!(names(&dir).is_empty());
}

#[test]
fn an_archive_with_other_files_is_never_taken_for_the_data_set() {
    for entries in [
        [("toy/train.bin", b"two records".as_slice())],
        [("toy/test.bin", CONTENT)],
        [("other/train.bin", CONTENT)],
    ] {
        let (_folder, dir) = dir();
        let bytes = archive(&entries);
        let set = toy(&bytes);
        let server = Server::start(move |_, request| serve_file(request, &bytes));
        let result = fetch(
            "toy",
            &set,
            &dir,
            Some(&server.url("toy.tar.gz")),
            &policy(),
        );
        assert!(result.is_err(), "{entries:?} passed");
        assert!(!dir.join("toy").exists());
    }
}

#[test]
fn a_half_unpacked_folder_is_swept_and_never_taken_for_whole() {
    let (_folder, dir) = dir();
    let bytes = archive(&[("toy/train.bin", CONTENT)]);
    let set = toy(&bytes);
    // as a killed run leaves it
    let left = dir.join(format!("{}abc/toy", unpack_prefix(&set)));
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("train.bin"), &CONTENT[..3]).unwrap();
    let server = Server::start(move |_, request| serve_file(request, &bytes));
    fetch(
        "toy",
        &set,
        &dir,
        Some(&server.url("toy.tar.gz")),
        &policy(),
    )
    .unwrap();
    assert_eq!(names(&dir), ["toy"]);
    assert_eq!(fs::read(dir.join("toy/train.bin")).unwrap(), CONTENT);
}

#[test]
fn a_damaged_folder_is_an_error_that_names_the_file() {
    let (_folder, dir) = dir();
    let set = toy(b"");
    fs::create_dir_all(dir.join("toy")).unwrap();
    let missing = format!("{:#}", present("toy", &set, &dir).unwrap_err());
    assert!(
        missing.contains("train.bin") && missing.contains("cargo xtask fetch toy"),
        "{missing}"
    );
    fs::write(dir.join("toy/train.bin"), &CONTENT[1..]).unwrap();
    let short = format!("{:#}", present("toy", &set, &dir).unwrap_err());
    assert!(short.contains("9 bytes, expected 10"), "{short}");
    fs::write(dir.join("toy/train.bin"), b"one-record").unwrap();
    assert_eq!(present("toy", &set, &dir).unwrap(), Presence::Whole);
    let swapped = format!(
        "{:#}",
        fetch("toy", &set, &dir, None, &policy()).unwrap_err()
    );
    assert!(
        swapped.contains("train.bin") && swapped.contains("sha256 is"),
        "{swapped}"
    );
    assert_eq!(
        fs::read(dir.join("toy/train.bin")).unwrap(),
        b"one-record",
        "the user's file is not touched"
    );
}

#[test]
fn entries_are_counted() {
    let (_folder, dir) = dir();
    let mut set = toy(b"");
    set.entries = [("val/images".to_owned(), 2)].into();
    set.files.clear();
    fs::create_dir_all(dir.join("toy/val/images")).unwrap();
    fs::write(dir.join("toy/val/images/1.jpeg"), b"").unwrap();
    let error = format!(
        "{:#}",
        fetch("toy", &set, &dir, None, &policy()).unwrap_err()
    );
    assert!(error.contains("1 entries, expected 2"), "{error}");
    fs::write(dir.join("toy/val/images/2.jpeg"), b"").unwrap();
    fetch("toy", &set, &dir, None, &policy()).unwrap();
}

#[test]
fn lost_pictures_are_counted_over_all_classes() {
    let (_folder, dir) = dir();
    let own = dir.join("toy");
    let mut set = toy(b"");
    set.files.clear();
    set.entries = [
        ("train/*/images".to_owned(), 4),
        ("val/images".to_owned(), 1),
    ]
    .into();
    for class in ["a", "b"] {
        fs::create_dir_all(own.join("train").join(class).join("images")).unwrap();
    }
    fs::write(own.join("train/boxes.txt"), b"").unwrap();
    for picture in ["a/images/1", "a/images/2", "b/images/1"] {
        fs::write(own.join("train").join(picture), b"").unwrap();
    }
    let missing = format!("{:#}", present("toy", &set, &dir).unwrap_err());
    assert!(missing.contains("val/images"), "{missing}");
    fs::create_dir_all(own.join("val/images")).unwrap();
    fs::write(own.join("val/images/1"), b"").unwrap();
    for folder in [&dir, &own] {
        let Presence::Partial(what) = present("toy", &set, folder).unwrap() else {
            panic!("not partial")
        };
        assert!(
            what.ends_with(
                "toy holds 4 of 5 pictures: 3 of 4 in train/*/images, 1 of 1 in val/images"
            ),
            "{what}"
        );
    }
    assert!(fetch("toy", &set, &dir, None, &policy()).is_err());
    fs::write(own.join("train/b/images/2"), b"").unwrap();
    assert_eq!(present("toy", &set, &dir).unwrap(), Presence::Whole);
    fetch("toy", &set, &dir, None, &policy()).unwrap();
}
