//! Files at an address, folders of this machine, and servers that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bms_wire::Code;

use crate::harness::{HOSTILE, Here, entries, numbers, sha256};
use crate::server::{Reply, Server};

fn nowhere() -> Here {
    Here::new("http://127.0.0.1:9")
}

#[test]
fn a_file_is_pulled_by_its_digest() {
    let content = numbers(100_000);
    let digest = sha256(&content);
    let server = Server::start(move |asked| Reply::file(asked, &content, "\"v1\""));
    let here = nowhere();
    let source = format!("{}/m.safetensors#sha256={digest}", server.base);
    let pulled = here.pull(&source).unwrap();
    assert_eq!(pulled.files[0].sha256, digest);
    assert_eq!(std::fs::read(here.path("out")).unwrap(), numbers(100_000));
    assert!(here.pull(&source).unwrap().unchanged);
    // An existing folder gets the file inside.
    let mut here = nowhere();
    std::fs::create_dir(here.path("out")).unwrap();
    here.options.sha256 = Some(digest);
    here.pull(&format!("{}/m.safetensors", server.base)).unwrap();
    assert_eq!(entries(&here.path("out")), ["m.safetensors"]);
    let here = nowhere();
    here.refused(&format!("{}/m.safetensors#sha256={}", server.base, "0".repeat(64)), Code::Tampered);
    assert_eq!(here.waiting("part") + here.waiting("done"), 0);
}

#[test]
fn what_changes_between_two_tries_is_not_mixed() {
    let round = Arc::new(AtomicUsize::new(0));
    let counted = round.clone();
    let server = Server::start(move |asked| {
        let mut content = numbers(100_000);
        match counted.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::file(asked, &content, "\"v1\"").cut(40_000),
            _ => {
                content[20_000] ^= 2;
                Reply::file(asked, &content, "\"v2\"")
            }
        }
    });
    let here = nowhere();
    here.pull(&format!("{}/m.safetensors", server.base)).unwrap();
    let mut new = numbers(100_000);
    new[20_000] ^= 2;
    assert_eq!(std::fs::read(here.path("out")).unwrap(), new);
    let asked = server.asked();
    assert_eq!(
        (asked[1].header("range"), asked[1].header("if-range")),
        (Some("bytes=40000-"), Some("\"v1\""))
    );
}

#[test]
fn a_server_that_ignores_the_condition_is_noticed() {
    let round = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        let content = numbers(100_000);
        match round.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::file(asked, &content, "\"v1\"").cut(40_000),
            // A part of another version, as if it were the same.
            1 => {
                let range = format!("bytes 40000-{}/{}", content.len() - 1, content.len());
                Reply::new(206, vec![7; content.len() - 40_000])
                    .with("content-range", range)
                    .with("etag", "\"v2\"")
            }
            _ => Reply::file(asked, &content, "\"v1\""),
        }
    });
    let here = nowhere();
    here.pull(&format!("{}/m.safetensors", server.base)).unwrap();
    assert_eq!(std::fs::read(here.path("out")).unwrap(), numbers(100_000));
}

#[test]
fn wrong_ranges_are_not_taken() {
    for range in ["bytes 0-9/10", "bytes 39999-100/5", "items 1-2/3", "bytes 40000-40001/40002", ""] {
        let round = AtomicUsize::new(0);
        let server = Server::start(move |asked| {
            let content = numbers(100_000);
            match round.fetch_add(1, Ordering::Relaxed) {
                0 => Reply::file(asked, &content, "\"v1\"").cut(40_000),
                1 => Reply::new(206, "xx").with("content-range", range).with("etag", "\"v1\""),
                _ => Reply::file(asked, &content, "\"v1\""),
            }
        });
        let here = nowhere();
        let digest = sha256(&numbers(100_000));
        here.pull(&format!("{}/m.safetensors#sha256={digest}", server.base)).unwrap();
        assert_eq!(std::fs::read(here.path("out")).unwrap(), numbers(100_000), "{range}");
    }
}

#[test]
fn an_endless_body_ends_at_the_limit() {
    let server = Server::start(|_| Reply { endless: true, ..Reply::new(200, "") });
    let mut here = nowhere();
    here.options.bytes_max = 1 << 20;
    here.refused(&format!("{}/m.bin", server.base), Code::TooLarge);
    assert!(server.asked().len() == 1, "it is not asked again");
}

#[test]
fn a_promise_that_is_not_kept_is_a_failure() {
    let server = Server::start(|_| Reply { promised: Some(1000), ..Reply::new(200, vec![b'x'; 10]) });
    nowhere().refused(&format!("{}/m.txt", server.base), Code::Unavailable);
    assert!(2 < server.asked().len() && server.asked().len() < 20, "{}", server.asked().len());
}

#[test]
fn an_overloaded_server_is_asked_again_later() {
    for status in [429, 500, 503] {
        let round = AtomicUsize::new(0);
        let server = Server::start(move |asked| match round.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Reply::new(status, "").with("retry-after", 0),
            _ => Reply::file(asked, b"hello", "\"v1\""),
        });
        nowhere().pull(&format!("{}/m.txt", server.base)).unwrap();
        assert_eq!(server.asked().len(), 3);
    }
    let server = Server::start(|_| Reply::new(429, "").with("retry-after", 100_000));
    let error = nowhere().refused(&format!("{}/m.txt", server.base), Code::Unavailable);
    assert!(error.message().contains("100000 s"), "{error}");
    assert_eq!(server.asked().len(), 1);
    let server = Server::start(|_| Reply::new(500, "no"));
    nowhere().refused(&format!("{}/m.txt", server.base), Code::Unavailable);
    assert!(server.asked().len() < 20);
}

#[test]
fn redirections_are_bounded_and_stay_safe() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/to/m.txt" => Reply::new(302, "").with("location", "/m.txt"),
        "/m.txt" => Reply::file(asked, b"hello", "\"v1\""),
        "/loop/m.txt" => Reply::new(302, "").with("location", "/loop/m.txt"),
        "/plain/m.txt" => Reply::new(302, "").with("location", "http://192.0.2.1/m.txt"),
        "/file/m.txt" => Reply::new(302, "").with("location", "file:///etc/passwd"),
        _ => Reply::new(302, ""),
    });
    nowhere().pull(&format!("{}/to/m.txt", server.base)).unwrap();
    for (path, code) in [
        ("loop", Code::Unavailable),
        ("plain", Code::PermissionDenied),
        ("file", Code::InvalidRequest),
        ("nowhere", Code::Unavailable),
    ] {
        nowhere().refused(&format!("{}/{path}/m.txt", server.base), code);
    }
    assert!(server.times("/loop/") < 10);
    nowhere().refused("http://192.0.2.1/m.txt", Code::PermissionDenied);
}

#[test]
fn what_attacks_is_refused() {
    let server = Server::start(|asked| Reply::file(asked, HOSTILE, "\"v1\""));
    let here = nowhere();
    here.refused(&format!("{}/m.bin", server.base), Code::MaliciousContent);
    assert_eq!(here.waiting("done") + here.waiting("part"), 0);
}

#[test]
fn a_folder_of_this_machine_is_pulled_without_links() {
    let here = nowhere();
    let from = here.path("from");
    std::fs::create_dir_all(from.join("a/b")).unwrap();
    std::fs::write(from.join("a/b/c.json"), "{}").unwrap();
    std::fs::write(from.join("empty.txt"), "").unwrap();
    here.pull(&format!("file://{}", from.display())).unwrap();
    here.holds(&[("a/b/c.json", b"{}"), ("empty.txt", b"")]);
    std::fs::remove_dir_all(here.path("out")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
    here.refused(&format!("file://{}", from.display()), Code::InvalidInput);
    here.refused(&format!("file://{}/none", from.display()), Code::NotFound);
}

#[test]
fn two_pulls_to_one_place_do_not_meet() {
    let server = Server::start(|asked| Reply {
        pause: Some(std::time::Duration::from_millis(20)),
        ..Reply::file(asked, &numbers(100_000), "\"v1\"")
    });
    let here = nowhere();
    let source = format!("{}/m.safetensors", server.base);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| here.pull(&source));
        while server.asked().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(here.pull(&source).unwrap_err().code(), Code::Conflict);
        first.join().unwrap().unwrap();
    });
    // A folder that somebody else could write to is not used.
    let here = nowhere();
    std::fs::create_dir(here.path(".out.pulling")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(here.path(".out.pulling"), open).unwrap();
    here.refused(&source, Code::PermissionDenied);
}
