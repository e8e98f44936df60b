use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// A tar.gz whose names are written without any check, as an attacker would.
fn tar_gz_of(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/hostname").unwrap();
        }
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Unpacks into `outer/into`, so that an escape would show in `outer`.
fn try_unpack(bytes: &[u8], format: Format) -> (TempDir, Result<()>) {
    let outer = tempfile::tempdir().unwrap();
    let archive = outer.path().join("archive");
    fs::write(&archive, bytes).unwrap();
    let into = outer.path().join("into");
    fs::create_dir(&into).unwrap();
    let result = unpack(&archive, format, "kept.gz", &into);
    (outer, result)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_tar_gz_unpacks() {
    let bytes = tar_gz_of(&[
        ("set/", EntryType::Directory, b""),
        ("set/a.bin", EntryType::Regular, b"alpha"),
        ("./set/deep/b.bin", EntryType::Regular, b"beta"),
    ]);
    let (outer, result) = try_unpack(&bytes, Format::TarGz);
    result.unwrap();
    assert_eq!(
        fs::read(outer.path().join("into/set/a.bin")).unwrap(),
        b"alpha"
    );
    assert_eq!(
        fs::read(outer.path().join("into/set/deep/b.bin")).unwrap(),
        b"beta"
    );
}

#[test]
fn a_zip_unpacks() {
    let (outer, result) = try_unpack(
        &zip_of(&[("set/a.bin", b"alpha"), ("set/deep/b.bin", b"beta")]),
        Format::Zip,
    );
    result.unwrap();
    assert_eq!(
        fs::read(outer.path().join("into/set/deep/b.bin")).unwrap(),
        b"beta"
    );
}

#[test]
fn a_plain_file_is_kept_as_it_is() {
    let (outer, result) = try_unpack(b"bytes", Format::Plain);
    result.unwrap();
    assert_eq!(
        fs::read(outer.path().join("into/kept.gz")).unwrap(),
        b"bytes"
    );
}

#[test]
fn names_that_lead_outside_are_refused() {
    let elsewhere = tempfile::tempdir().unwrap();
    let absolute = elsewhere.path().join("evil");
    let absolute = absolute.to_str().unwrap();
    for name in ["../evil", "set/../../evil", absolute, "set\\..\\evil"] {
        let (outer, result) = try_unpack(
            &tar_gz_of(&[(name, EntryType::Regular, b"x")]),
            Format::TarGz,
        );
        let error = format!("{:#}", result.expect_err(name));
        assert!(error.contains("outside"), "{name}: {error}");
        assert_eq!(names(outer.path()), ["archive", "into"], "{name}");
        assert!(names(&outer.path().join("into")).is_empty(), "{name}");
    }
    for name in ["../evil", absolute, "set\\..\\evil"] {
        let (outer, result) = try_unpack(&zip_of(&[(name, b"x")]), Format::Zip);
        assert!(result.is_err(), "{name}");
        assert_eq!(names(outer.path()), ["archive", "into"], "{name}");
    }
    assert!(names(elsewhere.path()).is_empty());
}

#[test]
fn links_are_refused() {
    for kind in [EntryType::Symlink, EntryType::Link] {
        let (outer, result) = try_unpack(&tar_gz_of(&[("set", kind, b"")]), Format::TarGz);
        assert!(format!("{:#}", result.unwrap_err()).contains("refused"));
        assert!(names(&outer.path().join("into")).is_empty());
    }
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer
        .add_symlink("set", "/etc", SimpleFileOptions::default())
        .unwrap();
    let (outer, result) = try_unpack(&writer.finish().unwrap().into_inner(), Format::Zip);
    assert!(format!("{:#}", result.unwrap_err()).contains("refused"));
    assert!(names(&outer.path().join("into")).is_empty());
}

#[test]
fn an_entry_that_comes_twice_is_refused() {
    let twice = [
        ("a", EntryType::Regular, b"1".as_slice()),
        ("a", EntryType::Regular, b"2"),
    ];
    assert!(try_unpack(&tar_gz_of(&twice), Format::TarGz).1.is_err());
}

#[test]
fn damaged_archives_are_errors() {
    let noise: Vec<u8> = (0..200_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let tar = tar_gz_of(&[("set/a.bin", EntryType::Regular, &noise)]);
    let zip = zip_of(&[("set/a.bin", &noise)]);
    for (bytes, format) in [(tar, Format::TarGz), (zip, Format::Zip)] {
        for damaged in [&bytes[..bytes.len() / 2], b"not an archive at all", b""] {
            let (_outer, result) = try_unpack(damaged, format);
            assert!(
                result.is_err(),
                "{format:?}: {} bytes passed",
                damaged.len()
            );
        }
    }
}
