use super::*;

fn secret(digit: char) -> String {
    format!("bms_{}_{}\n", digit.to_string().repeat(10), digit.to_string().repeat(64))
}

#[test]
fn files_are_keys_and_what_begins_with_a_dot_is_not() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("..2026_11_28")).unwrap();
    std::fs::write(dir.path().join("..2026_11_28/root.admin"), secret('a')).unwrap();
    std::os::unix::fs::symlink("..2026_11_28", dir.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/root.admin", dir.path().join("root.admin")).unwrap();
    std::fs::write(dir.path().join("my.shop.user"), secret('b')).unwrap();
    std::fs::write(dir.path().join("prometheus.monitor"), secret('c')).unwrap();
    let given = Given::read(dir.path()).unwrap();
    assert_eq!(given.monitors, [MonitorKey::new(&secret('c')).unwrap()]);
    assert_eq!(given.keys.iter().map(GivenKey::name).collect::<Vec<_>>(), ["my.shop", "root"]);
}

#[test]
fn what_is_no_key_is_refused_with_its_file_and_without_its_text() {
    let good = secret('a');
    for (name, text, says) in [
        ("root", good.as_str(), "NAME.ROLE"),
        ("root.king", good.as_str(), "NAME.ROLE"),
        (".admin.", good.as_str(), ""),
        ("Root.admin", good.as_str(), "Root.admin"),
        ("root.admin", "my-password", "hexadecimal"),
        ("root.admin", "", "hexadecimal"),
        ("prometheus.monitor", "my-password", "hexadecimal"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        if says.is_empty() {
            assert!(Given::read(dir.path()).unwrap().keys.is_empty(), "{name}");
            continue;
        }
        let refused = Given::read(dir.path()).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidRequest, "{refused}");
        assert!(refused.to_string().contains(says), "{refused}");
        assert!(text.is_empty() || !format!("{refused:?}").contains(text.trim()), "{refused:?}");
    }
    assert!(Given::read(Path::new("/nowhere")).is_err());
}
