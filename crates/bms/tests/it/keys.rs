//! Keys that whoever runs a server brings along.

use std::path::Path;

use bms_wire::Code;
use bms_wire::client::ServerKey;

use crate::program::{Server, bms, fails, ok};

fn secret(digit: char) -> String {
    format!("bms_{}_{}", digit.to_string().repeat(10), digit.to_string().repeat(64))
}

/// A server that others could reach, with the keys of a folder.
fn start(home: &Path, keys: &Path) -> Server {
    let mut up = bms(home);
    up.args(["up", "--keys", "required", "--plain-http", "--keys-from"]).arg(keys);
    Server::spawn_at(&mut up, "0.0.0.0:0")
}

/// How a server answers who asks with this key for its models.
fn asked(server: &Server, key: Option<&str>) -> Result<(), Code> {
    let key = key.map(|key| ServerKey::new(key).unwrap());
    server.client.clone().with_key(key).models().map(drop).map_err(|error| error.code())
}

#[test]
fn a_server_starts_with_the_keys_of_a_folder_and_another_secret_takes_the_place_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let (home, keys) = (dir.path().join("home"), dir.path().join("keys"));
    std::fs::create_dir(&keys).unwrap();
    let write = |name: &str, text: &str| std::fs::write(keys.join(name), text).unwrap();
    let mut up = bms(&home);
    up.args(["up", "--listen", "127.0.0.1:0", "--keys-from"]).arg(&keys);
    let (_, said) = fails(&mut up);
    assert!(said.to_string().contains("NAME.admin"), "an empty folder lets nobody in: {said}");
    write("shop.user", &secret('b'));
    let (_, said) = fails(&mut up);
    assert!(said.to_string().contains("no admin has a key yet"), "{said}");
    write("root.admin", "hunter2");
    let (_, said) = fails(&mut up);
    assert!(said.to_string().contains("root.admin") && !said.to_string().contains("hunter2"), "{said}");

    write("root.admin", &format!("{}\n", secret('a')));
    let server = start(&home, &keys);
    assert_eq!(asked(&server, None), Err(Code::Unauthenticated));
    assert_eq!(asked(&server, Some(&secret('c'))), Err(Code::Unauthenticated));
    assert_eq!(asked(&server, Some(&secret('b'))), Err(Code::PermissionDenied));
    assert_eq!(asked(&server, Some(&secret('a'))), Ok(()));
    let base = server.client.base().to_owned();
    let made = ok(bms(&home)
        .args(["key", "create", "web", "--role", "user", "--server", &base])
        .arg("--api-key-file")
        .arg(keys.join("root.admin")));
    assert!(made["secret"].as_str().unwrap().starts_with("bms_"), "{made}");
    server.stop();

    write("root.admin", &secret('c'));
    let server = start(&home, &keys);
    assert_eq!(asked(&server, Some(&secret('a'))), Err(Code::Unauthenticated));
    assert_eq!(asked(&server, Some(&secret('c'))), Ok(()));
    server.stop();
}
