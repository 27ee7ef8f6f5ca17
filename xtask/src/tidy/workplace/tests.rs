use super::*;

// The words looked for are put together here, so that this file is not itself a find.
fn path(top: &str, rest: &str) -> String {
    format!("/{top}/{rest}")
}

fn count(name: &str, line: &str) -> usize {
    check(&Sources::of(&[(name, line)])).len()
}

#[test]
fn paths_of_one_machine_are_found_wherever_they_stand() {
    for top in PRIVATE_FOLDERS {
        let path = path(top, "someone/model.onnx");
        for line in [
            path.clone(),
            format!("see {path}."),
            format!("let p = \"{path}\";"),
            format!("`{path}`"),
            format!("({path})"),
            format!("DIR={path}"),
            format!("file://{path}"),
        ] {
            assert_eq!(count("a.md", &line), 1, "{line}");
        }
    }
}

#[test]
fn other_paths_are_left_alone() {
    for line in [
        "/usr/lib/x",
        "crates/work/src",
        "a/home/b",
        "~/root/x",
        "https://example.org/home/page",
        "/homely/x",
        "$DIR/root/x",
        "${DIR}/work/x",
        "<dir>/work/x",
        "../work/x",
    ] {
        assert_eq!(count("a.md", line), 0, "{line}");
    }
    assert_eq!(count("a.md", "in /home"), 0);
}

#[test]
fn hosts_of_one_network_are_found() {
    for domain in PRIVATE_DOMAINS {
        assert_eq!(count("a.rs", &format!("https://user@packages.{domain}:8080/simple")), 1, "{domain}");
    }
    for line in
        ["http://127.0.0.1:8080", "http://localhost/x", "https://docs.rs/a.local", "a.local", "http://unix/"]
    {
        assert_eq!(count("a.rs", line), 0, "{line}");
    }
}

#[test]
fn settings_of_package_clients_are_found() {
    assert_eq!(count(".cargo/config.toml", "[source.crates-io]"), 1);
    assert_eq!(count("bindings/python/.npmrc", "registry=x"), 1);
    assert_eq!(count("requirements.txt", "--extra-index-url x"), 1);
    assert_eq!(count(".cargo/config.toml", "[alias]"), 0);
    assert_eq!(count("my-pip.conf", "index-url"), 0);
}

#[test]
fn the_lock_file_knows_one_source() {
    assert_eq!(count("Cargo.lock", &format!("source = \"{CRATES_IO}\"")), 0);
    assert_eq!(count("Cargo.lock", "source = \"sparse+https://example.org/index/\""), 1);
    assert_eq!(count("fuzz/Cargo.lock", "source = \"git+https://example.org/x\""), 1);
}
