use std::net::TcpListener;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::data::test_server::{Reply, Server, serve_file};

fn hasty() -> Policy {
    Policy {
        tries: 3,
        pause: Duration::from_millis(1),
        silence: Duration::from_millis(500),
        proxy: false,
    }
}

fn file() -> Vec<u8> {
    (0..300_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("a.bin.part");
    (folder, part)
}

#[test]
fn a_whole_file_arrives() {
    let (_folder, part) = place();
    let server = Server::start(|_, request| serve_file(request, &file()));
    download(&server.url("a.bin"), &part, &hasty()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), file());
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/a.bin");
    // whole already: no further request
    download(&server.url("a.bin"), &part, &hasty()).unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_broken_connection_is_resumed_where_it_stopped() {
    let (_folder, part) = place();
    let server = Server::start(|number, request| {
        let reply = serve_file(request, &file()).header("ETag: \"v1\"");
        if number < 5 { reply.cut(40_000) } else { reply }
    });
    // five broken connections are more than three tries, but each one brought something
    download(&server.url("a.bin"), &part, &hasty()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), file());
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.range)
        .collect();
    assert_eq!(
        ranges,
        [
            None,
            Some(40_000),
            Some(80_000),
            Some(120_000),
            Some(160_000),
            Some(200_000)
        ]
    );
    assert_eq!(server.requests()[1].if_range.as_deref(), Some("\"v1\""));
}

#[test]
fn a_later_run_goes_on_from_the_part_file() {
    let (_folder, part) = place();
    let server = Server::start(|number, request| {
        let reply = serve_file(request, &file());
        match number {
            0 => reply.cut(100_000),
            1..=3 => Reply::new("503 Service Unavailable", b"later"),
            _ => reply,
        }
    });
    let error = format!(
        "{:#}",
        download(&server.url("a.bin"), &part, &hasty()).unwrap_err()
    );
    assert!(error.contains("100000 bytes are kept"), "{error}");
    assert!(
        error.contains("running again goes on from there"),
        "{error}"
    );
    assert!(error.contains("503"), "{error}");
    download(&server.url("a.bin"), &part, &hasty()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), file());
    assert_eq!(server.requests().last().unwrap().range, Some(100_000));
}

#[test]
fn a_server_without_ranges_starts_over() {
    let (_folder, part) = place();
    let server = Server::start(|number, _| {
        let reply = Reply::new("200 OK", &file());
        if number == 0 {
            reply.cut(100_000)
        } else {
            reply
        }
    });
    download(&server.url("a.bin"), &part, &hasty()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), file());
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_server_that_always_breaks_is_given_up() {
    let (_folder, part) = place();
    let server = Server::start(|_, _| Reply::new("200 OK", &file()).cut(100_000));
    let error = format!(
        "{:#}",
        download(&server.url("a.bin"), &part, &hasty()).unwrap_err()
    );
    assert!(
        error.contains("100000") && error.contains("running again"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn another_address_starts_over() {
    let (_folder, part) = place();
    let server = Server::start(|number, request| {
        if number == 0 {
            serve_file(request, &[7; 1000])
        } else {
            serve_file(request, &file())
        }
    });
    download(&server.url("old.bin"), &part, &hasty()).unwrap();
    download(&server.url("new.bin"), &part, &hasty()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), file());
    assert_eq!(server.requests()[1].range, None);
}

#[test]
fn a_part_of_unknown_origin_starts_over() {
    let (_folder, part) = place();
    fs::write(&part, [1; 5000]).unwrap();
    let server = Server::start(|_, request| serve_file(request, &file()));
    download(&server.url("a.bin"), &part, &hasty()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), file());
    assert_eq!(server.requests()[0].range, None);
}

#[test]
fn a_file_that_changed_at_the_server_starts_over() {
    let (_folder, part) = place();
    let newer: Vec<u8> = file().iter().rev().chain(&[1, 2, 3]).copied().collect();
    let expected = newer.clone();
    let server = Server::start(move |number, request| {
        if number == 0 {
            serve_file(request, &file()).cut(50_000)
        } else {
            serve_file(request, &newer)
        }
    });
    download(&server.url("a.bin"), &part, &hasty()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), expected);
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.range)
        .collect();
    assert_eq!(ranges, [None, Some(50_000), None]);
}

#[test]
fn an_unsatisfiable_range_starts_over() {
    let (_folder, part) = place();
    let server = Server::start(move |number, request| match number {
        0 => serve_file(request, &file()).cut(50_000),
        1 => Reply::new("416 Range Not Satisfiable", b"").header("Content-Range: bytes */20"),
        _ => serve_file(request, &file()),
    });
    download(&server.url("a.bin"), &part, &hasty()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), file());
    assert_eq!(server.requests()[2].range, None);
}

#[test]
fn an_unsatisfiable_range_of_a_whole_file_is_the_end() {
    let (_folder, part) = place();
    let server = Server::start(|_, request| serve_file(request, &file()));
    let url = server.url("a.bin");
    fs::write(&part, file()).unwrap();
    remember(
        &part,
        &Remembered {
            url: url.clone(),
            total: None,
            validator: None,
        },
    )
    .unwrap();
    download(&url, &part, &hasty()).unwrap();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(fs::read(&part).unwrap(), file());
}

#[test]
fn not_found_is_final_and_names_the_address() {
    let (_folder, part) = place();
    let server = Server::start(|_, _| Reply::new("404 Not Found", b"no such page"));
    let error = format!(
        "{:#}",
        download(&server.url("a.bin"), &part, &hasty()).unwrap_err()
    );
    assert!(
        error.contains("404") && error.contains("/a.bin") && error.contains("--url"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
    assert!(!part.exists());
}

#[test]
fn a_redirect_is_followed() {
    let (_folder, part) = place();
    let server = Server::start(|_, request| match request.path.as_str() {
        "/old" => Reply::new("302 Found", b"").header("Location: /new"),
        _ => serve_file(request, &file()),
    });
    download(&server.url("old"), &part, &hasty()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), file());
}

#[test]
fn a_refused_connection_is_an_error_with_a_way_out() {
    let (_folder, part) = place();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}/a.bin");
    let error = format!("{:#}", download(&url, &part, &hasty()).unwrap_err());
    assert!(
        error.contains(&url) && error.contains("3 tries") && error.contains("--url"),
        "{error}"
    );
}

#[test]
fn a_silent_server_times_out() {
    let (_folder, part) = place();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.bin", listener.local_addr().unwrap());
    let policy = Policy {
        tries: 1,
        silence: Duration::from_millis(100),
        ..hasty()
    };
    let error = format!("{:#}", download(&url, &part, &policy).unwrap_err());
    assert!(error.contains("timeout"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_names_the_path() {
    let (_folder, part) = place();
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let server = Server::start(|_, request| serve_file(request, &file()));
    let error = format!(
        "{:#}",
        download(&server.url("a.bin"), &part, &hasty()).unwrap_err()
    );
    assert!(
        error.contains(&part.display().to_string()) && error.contains("No space left"),
        "{error}"
    );
    assert_eq!(
        server.requests().len(),
        1,
        "a full disk is not worth a second try"
    );
}

#[test]
fn content_ranges_are_read() {
    let read = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
        content_range(&headers)
    };
    assert_eq!(read("bytes 5-9/10"), Some((5, Some(10))));
    assert_eq!(read("bytes 5-9/*"), Some((5, None)));
    assert_eq!(read("bytes */10"), Some((0, Some(10))));
    assert_eq!(read("bytes x-9/10"), None);
    assert_eq!(read("lines 5-9/10"), None);
    assert_eq!(read("bytes"), None);
}
