//! Artifacts of an OCI registry.

use bms_wire::Code;

use crate::harness::{Here, numbers, sha256};
use crate::server::{Asked, Reply, Server};

fn manifest() -> String {
    let layer = |name: &str, content: &[u8]| {
        format!(
            r#"{{"mediaType":"application/octet-stream","digest":"sha256:{}","size":{},
                "annotations":{{"org.opencontainers.image.title":"{name}"}}}}"#,
            sha256(content),
            content.len()
        )
    };
    let layers = [layer("config.json", b"{}"), layer("w/m.safetensors", &numbers(9000))].join(",");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{layers}]}}"#
    )
}

fn registry(tweak: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Server {
    Server::start(move |asked| {
        if let Some(reply) = tweak(asked) {
            return reply;
        }
        let rest = asked.path.strip_prefix("/v2/team/model/").unwrap_or_default();
        match rest.split_once('/') {
            Some(("manifests", _)) => Reply::new(200, manifest()),
            Some(("blobs", digest)) if digest.ends_with(&sha256(b"{}")) => Reply::file(asked, b"{}", "\"a\""),
            Some(("blobs", digest)) if digest.ends_with(&sha256(&numbers(9000))) => {
                Reply::file(asked, &numbers(9000), "\"b\"")
            }
            _ => Reply::new(404, ""),
        }
    })
}

fn name(server: &Server, end: &str) -> String {
    format!("oci://{}/team/model{end}", server.base.strip_prefix("http://").unwrap())
}

#[test]
fn an_artifact_is_pulled_by_tag_and_by_digest() {
    let server = registry(|_| None);
    let here = Here::new(&server.base);
    let digest = format!("sha256:{}", sha256(manifest().as_bytes()));
    let pulled = here.pull(&name(&server, ":v1")).unwrap();
    assert_eq!(pulled.revision.as_deref(), Some(digest.as_str()));
    here.holds(&[("config.json", b"{}"), ("w/m.safetensors", &numbers(9000))]);
    assert!(here.pull(&name(&server, &format!("@{digest}"))).unwrap().unchanged);
    assert_eq!(server.times("manifests/v1"), 1);
    let wrong = name(&server, &format!("@sha256:{}", "0".repeat(64)));
    Here::new(&server.base).refused(&wrong, Code::Tampered);
}

#[test]
fn a_token_is_fetched_when_the_registry_asks_for_one() {
    let token_server = Server::start(|asked| {
        assert!(asked.path.contains("scope=repository%3Ateam%2Fmodel%3Apull"), "{}", asked.path);
        Reply::new(200, r#"{"token": "granted"}"#)
    });
    let challenge = format!(r#"Bearer realm="{}/token",service="here""#, token_server.base);
    let server = registry(move |asked| match asked.header("authorization") {
        Some("Bearer granted") => None,
        _ => Some(Reply::new(401, "").with("www-authenticate", &challenge)),
    });
    let here = Here::new(&server.base);
    here.pull(&name(&server, "")).unwrap();
    here.holds(&[("config.json", b"{}"), ("w/m.safetensors", &numbers(9000))]);
    let server = registry(|_| Some(Reply::new(401, "").with("www-authenticate", "Basic realm=x")));
    Here::new(&server.base).refused(&name(&server, ""), Code::Unauthenticated);
}

#[test]
fn a_wrong_blob_is_refused() {
    let server = registry(|asked| asked.path.contains("/blobs/").then(|| Reply::new(200, "[]")));
    Here::new(&server.base).refused(&name(&server, ":v1"), Code::Tampered);
}
