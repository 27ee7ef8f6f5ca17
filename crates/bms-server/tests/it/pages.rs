//! The dashboard's files and what protects them.

use crate::harness::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_is_served_with_a_strict_policy() {
    let server = Server::with_registry(|_| {}).await;
    let mut connection = server.connect().await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/key.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/runs", "text/html; charset=utf-8"),
        ("/runs.js", "text/javascript; charset=utf-8"),
        ("/chat", "text/html; charset=utf-8"),
        ("/chat.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = connection.raw("GET", path, "", &[]).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], content_type);
        assert!(!answer.body().is_empty());
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers()["x-frame-options"], "DENY");
    }
    server.stop().await.0.unwrap();
}

#[test]
fn the_pages_keep_to_their_policy() {
    let pages = [
        include_str!("../../assets/index.html"),
        include_str!("../../assets/chat.html"),
        include_str!("../../assets/runs.html"),
    ];
    for page in pages {
        for forbidden in ["<style", "style=", " onclick=", " onload=", "javascript:", "=\"http", "=\"//"] {
            assert!(!page.contains(forbidden), "the policy forbids `{forbidden}` in the page");
        }
        for script in page.match_indices("<script").map(|(at, _)| &page[at..]) {
            let tag = &script[..script.find('>').unwrap()];
            assert!(tag.contains("src="), "the policy forbids inline scripts: {tag}");
        }
    }
}
