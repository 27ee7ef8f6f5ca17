//! Repositories of a hub.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bms_sources::{Patterns, Token};
use bms_wire::Code;

use crate::harness::{HOSTILE, Here, git, numbers, sha256};
use crate::server::{Asked, Reply, Server};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONFIG: &[u8] = b"{\"model_type\": \"llama\"}";

/// An entry of a listing: a small file by git's digest, a large one by its own.
fn entry(path: &str, content: &[u8], large: bool) -> String {
    let (oid, size) = (git(content), content.len());
    match large {
        false => format!(r#"{{"type":"file","path":"{path}","oid":"{oid}","size":{size}}}"#),
        true => format!(
            r#"{{"type":"file","path":"{path}","oid":"{oid}","size":{size},"lfs":{{"oid":"{}","size":{size},"pointerSize":130}}}}"#,
            sha256(content)
        ),
    }
}

/// A hub with one repository; `tweak` may answer otherwise than a good hub.
fn hub(
    files: Vec<(&'static str, Vec<u8>, bool)>,
    tweak: impl Fn(&Asked, &Reply) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    Server::start(move |asked| {
        let path = asked.path.split('?').next().unwrap();
        let reply = if path.starts_with("/api/models/o/n/revision/") {
            Reply::new(200, format!(r#"{{"sha": "{COMMIT}", "siblings": []}}"#))
        } else if path == format!("/api/models/o/n/tree/{COMMIT}") {
            let list: Vec<_> =
                files.iter().map(|(path, content, large)| entry(path, content, *large)).collect();
            Reply::new(200, format!("[{}]", list.join(",")))
        } else if let Some(name) = path.strip_prefix(&format!("/o/n/resolve/{COMMIT}/")) {
            match files.iter().find(|(path, _, _)| *path == name) {
                Some((_, content, large)) => {
                    let digest = if *large { sha256(content) } else { git(content) };
                    let reply =
                        Reply::file(asked, content, &format!("\"{digest}\"")).with("x-repo-commit", COMMIT);
                    if *large { reply.with("x-linked-etag", format!("\"{digest}\"")) } else { reply }
                }
                None => Reply::new(404, "").with("x-error-code", "EntryNotFound"),
            }
        } else {
            Reply::new(404, "").with("x-error-code", "RepoNotFound")
        };
        tweak(asked, &reply).unwrap_or(reply)
    })
}

fn usual() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![("config.json", CONFIG.to_vec(), false), ("a/w.safetensors", numbers(300_000), true)]
}

#[test]
fn a_repository_is_pulled_verified_and_whole() {
    let server = hub(usual(), |_, _| None);
    let here = Here::new(&server.base);
    let pulled = here.pull("hf://o/n").unwrap();
    assert_eq!(pulled.revision.as_deref(), Some(COMMIT));
    let verified: Vec<_> = pulled.files.iter().map(|file| (file.path.as_str(), file.verified)).collect();
    assert_eq!(verified, [("a/w.safetensors", "sha256"), ("config.json", "git-blob-sha1")]);
    here.holds(&[("config.json", CONFIG), ("a/w.safetensors", &numbers(300_000))]);
    let asked = server.asked().len();
    // Again: nothing of the files is asked for.
    assert!(here.pull("hf://o/n").unwrap().unchanged);
    assert_eq!(server.asked().len(), asked + 2);
    // Something else at the target is in the way, unless it shall go.
    std::fs::write(here.path("out/config.json"), b"{}").unwrap();
    assert_eq!(here.pull("hf://o/n").unwrap_err().code(), Code::Conflict);
    let mut replacing = here;
    replacing.options.replace = true;
    replacing.pull("hf://o/n").unwrap();
    replacing.holds(&[("config.json", CONFIG), ("a/w.safetensors", &numbers(300_000))]);
}

#[test]
fn one_file_a_folder_or_a_pattern() {
    let server = hub(usual(), |_, _| None);
    let here = Here::new(&server.base);
    here.pull("hf://o/n@main/config.json").unwrap();
    assert_eq!(std::fs::read(here.path("out")).unwrap(), CONFIG);
    let here = Here::new(&server.base);
    here.pull("hf://o/n/a").unwrap();
    here.holds(&[("a/w.safetensors", &numbers(300_000))]);
    let mut here = Here::new(&server.base);
    here.options.patterns = Patterns::new(vec!["*.json".into()], vec![]).unwrap();
    here.pull("hf://o/n").unwrap();
    here.holds(&[("config.json", CONFIG)]);
    here.options.patterns = Patterns::new(vec!["nothing".into()], vec![]).unwrap();
    assert_eq!(here.pull("hf://o/n").unwrap_err().code(), Code::NotFound);
    Here::new(&server.base).refused("hf://o/other", Code::NotFound);
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let breaks = Arc::new(AtomicUsize::new(0));
    let counted = breaks.clone();
    let server = hub(usual(), move |asked, reply| {
        let large = asked.path.contains("/resolve/") && asked.path.ends_with(".safetensors");
        (large && counted.fetch_add(1, Ordering::Relaxed) < 4).then(|| reply.clone().cut(50_000))
    });
    let here = Here::new(&server.base);
    let pulled = here.pull("hf://o/n").unwrap();
    here.holds(&[("config.json", CONFIG), ("a/w.safetensors", &numbers(300_000))]);
    assert_eq!(pulled.bytes_moved, pulled.bytes, "no byte came twice");
    assert_eq!(server.times("w.safetensors"), 5);
}

#[test]
fn another_pull_goes_on_where_the_last_one_ended() {
    let broken = Arc::new(AtomicUsize::new(0));
    let switch = broken.clone();
    let server = hub(usual(), move |asked, reply| {
        let large = asked.path.ends_with(".safetensors");
        match (large, switch.load(Ordering::Relaxed)) {
            (true, 0) if asked.begin().is_none() => Some(reply.clone().cut(100_000)),
            (true, 0) => Some(Reply::new(404, "")),
            _ => None,
        }
    });
    let mut here = Here::new(&server.base);
    here.options.jobs = 1;
    here.refused("hf://o/n", Code::NotFound);
    assert_eq!((here.waiting("done"), here.waiting("part")), (1, 1));
    assert!(here.notes().iter().any(|note| note.contains("goes on")), "{:?}", here.notes());
    broken.store(1, Ordering::Relaxed);
    let pulled = here.pull("hf://o/n").unwrap();
    assert_eq!(pulled.bytes_moved, numbers(300_000).len() as u64 - 100_000);
    here.holds(&[("config.json", CONFIG), ("a/w.safetensors", &numbers(300_000))]);
}

#[test]
fn a_wrong_digest_is_refused_and_removed() {
    for name in ["config.json", "w.safetensors"] {
        let server = hub(usual(), move |asked, reply| {
            let mut reply = reply.clone();
            if asked.path.contains("/resolve/") && asked.path.ends_with(name) {
                *reply.body.last_mut().unwrap() ^= 1;
            }
            Some(reply)
        });
        let mut here = Here::new(&server.base);
        // One after the other: what another file stopped half-way stays.
        here.options.jobs = 1;
        here.refused("hf://o/n", Code::Tampered);
        assert_eq!(here.waiting("part"), 0);
    }
}

#[test]
fn a_stale_beginning_costs_one_new_one() {
    let server = hub(usual(), |_, _| None);
    let here = Here::new(&server.base);
    // What an earlier pull brought was another file by then.
    let broken = hub(usual(), |asked, reply| {
        let mut reply = reply.clone();
        match asked.begin() {
            _ if !asked.path.ends_with(".safetensors") => {}
            None => {
                reply.body[2000] ^= 1;
                reply = reply.cut(9000);
            }
            Some(_) => return Some(Reply::new(404, "")),
        }
        Some(reply)
    });
    let mut first = here;
    first.options.hub = broken.base.parse().unwrap();
    first.refused("hf://o/n", Code::NotFound);
    first.options.hub = server.base.parse().unwrap();
    first.pull("hf://o/n").unwrap();
    first.holds(&[("config.json", CONFIG), ("a/w.safetensors", &numbers(300_000))]);
    assert_eq!(server.times("w.safetensors"), 2);
}

#[test]
fn names_that_lead_elsewhere_are_refused_before_anything_is_written() {
    for bad in
        ["../evil", "/etc/evil", "a/../../evil", "a\\\\..\\\\evil", "C:evil", "a//b", "./a", "a/\\u0000"]
    {
        let listing = format!("[{}]", entry("x", b"x", false).replace("\"x\"", &format!("\"{bad}\"")));
        let server = hub(vec![], move |asked, _| {
            asked.path.contains("/tree/").then(|| Reply::new(200, listing.clone()))
        });
        let here = Here::new(&server.base);
        here.refused("hf://o/n", Code::InvalidBundle);
        assert_eq!(server.times("/resolve/"), 0, "{bad}");
        assert!(!here.path("evil").exists());
    }
    for pair in [["a", "A"], ["a", "a/b"]] {
        let files = pair.map(|name| entry(name, b"x", false)).join(",");
        let server = hub(vec![], move |asked, _| {
            asked.path.contains("/tree/").then(|| Reply::new(200, format!("[{files}]")))
        });
        Here::new(&server.base).refused("hf://o/n", Code::InvalidBundle);
    }
}

#[test]
fn what_attacks_is_refused_before_it_appears() {
    let mut files = usual();
    files.push(("pytorch_model.bin", HOSTILE.to_vec(), true));
    let server = hub(files, |_, _| None);
    let mut here = Here::new(&server.base);
    let error = here.refused("hf://o/n", Code::MaliciousContent);
    assert!(error.message().contains("pytorch_model.bin"), "{error}");
    here.options.patterns = Patterns::new(vec![], vec!["*.bin".into()]).unwrap();
    here.pull("hf://o/n").unwrap();
    here.holds(&[("config.json", CONFIG), ("a/w.safetensors", &numbers(300_000))]);
}

#[test]
fn pages_are_joined_and_bounded() {
    let server = hub(vec![("a", b"1".to_vec(), false), ("b", b"2".to_vec(), false)], |asked, reply| {
        if !asked.path.contains("/tree/") {
            return None;
        }
        let page =
            if asked.path.contains("cursor=1") { entry("b", b"2", false) } else { entry("a", b"1", false) };
        let next = (!asked.path.contains("cursor=1"))
            .then(|| format!("</api/models/o/n/tree/{COMMIT}?recursive=true&cursor=1>; rel=\"next\""));
        let reply = Reply { body: format!("[{page}]").into_bytes(), ..reply.clone() };
        Some(match next {
            Some(next) => reply.with("link", next),
            None => reply,
        })
    });
    let here = Here::new(&server.base);
    here.pull("hf://o/n").unwrap();
    here.holds(&[("a", b"1"), ("b", b"2")]);
    // One that leads to another host, where the token must not go, and one that never ends.
    for (to, code) in [("http://127.0.0.1:9/x", Code::Unavailable), ("?again", Code::TooLarge)] {
        let server = hub(usual(), move |asked, _| {
            asked
                .path
                .contains("/tree/")
                .then(|| Reply::new(200, "[]").with("link", format!("<{to}>; rel=next")))
        });
        Here::new(&server.base).refused("hf://o/n", code);
    }
}

#[test]
fn a_token_goes_to_the_hub_and_to_nobody_else() {
    let elsewhere = Server::start(|asked| Reply::file(asked, &numbers(300_000), "\"x\""));
    let target = format!("{}/blob", elsewhere.base);
    let server = hub(usual(), move |asked, _| {
        if asked.header("authorization") != Some("Bearer secret") {
            return Some(Reply::new(401, "").with("x-error-code", "RepoNotFound"));
        }
        let large = asked.path.contains("/resolve/") && asked.path.ends_with(".safetensors");
        large.then(|| Reply::new(302, "").with("location", &target).with("x-repo-commit", COMMIT))
    });
    let mut here = Here::new(&server.base);
    here.refused("hf://o/n", Code::Unauthenticated);
    here.options.token = Some(Token::new("secret\n").unwrap());
    here.pull("hf://o/n").unwrap();
    here.holds(&[("config.json", CONFIG), ("a/w.safetensors", &numbers(300_000))]);
    assert_eq!(elsewhere.asked().len(), 1);
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
}

#[test]
fn a_source_that_contradicts_itself_is_refused() {
    for (name, value) in
        [("x-repo-commit", "f".repeat(40)), ("x-linked-etag", format!("\"{}\"", "0".repeat(64)))]
    {
        let server = hub(usual(), move |asked, reply| {
            let mut reply = reply.clone();
            reply.headers.retain(|(known, _)| known != name);
            asked.path.contains("/resolve/").then(|| reply.with(name, &value))
        });
        Here::new(&server.base).refused("hf://o/n", Code::Tampered);
    }
    // Another length than listed, and more than promised.
    let server = hub(usual(), |asked, reply| {
        let longer = [reply.body.clone(), b"more".to_vec()].concat();
        asked.path.ends_with("config.json").then(|| Reply { body: longer, ..reply.clone() })
    });
    Here::new(&server.base).refused("hf://o/n", Code::Tampered);
    let server = hub(usual(), |asked, reply| {
        asked.path.ends_with("config.json").then(|| Reply { endless: true, ..reply.clone() })
    });
    Here::new(&server.base).refused("hf://o/n", Code::Tampered);
}

#[test]
fn what_the_hubs_own_client_fetched_is_used() {
    let server = hub(usual(), |_, _| None);
    let mut here = Here::new(&server.base);
    let (cache, content) = (here.path("cache"), numbers(300_000));
    let blobs = cache.join("models--o--n").join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(sha256(&content)), &content).unwrap();
    // A rotten one is not.
    std::fs::write(blobs.join(git(CONFIG)), b"rotten").unwrap();
    here.options.hub_cache = Some(cache);
    let pulled = here.pull("hf://o/n").unwrap();
    assert_eq!(pulled.bytes_moved, CONFIG.len() as u64);
    here.holds(&[("config.json", CONFIG), ("a/w.safetensors", &content)]);
}

#[test]
fn limits_hold_before_anything_comes() {
    let server = hub(usual(), |_, _| None);
    let mut here = Here::new(&server.base);
    here.options.bytes_max = 1000;
    here.refused("hf://o/n", Code::TooLarge);
    assert_eq!(server.times("/resolve/"), 0);
}
