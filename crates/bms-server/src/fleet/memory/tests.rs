use super::*;

#[test]
fn a_version_is_expected_to_take_its_files_a_process_and_a_language_models_keys() {
    let graph = About { bytes: 400 << 20, task: "image-classification".to_owned() };
    assert_eq!(graph.expected(Some(1 << 30)), (400 + 100 + 64) << 20);
    let language = About { task: "text-generation".to_owned(), ..graph };
    assert_eq!(language.expected(Some(1 << 30)), (400 + 100 + 64 + 1024) << 20);
    assert_eq!(language.expected(None), (400 + 100 + 64 + 512) << 20);
    assert_eq!(About { bytes: u64::MAX, ..language }.expected(None), u64::MAX);
}

#[test]
fn the_tightest_group_counts_of_either_kind() {
    let files = |path: &Path| {
        let text = match path.to_str()? {
            "/sys/fs/cgroup/a/b/memory.max" | "/sys/fs/cgroup/memory.max" => "max",
            "/sys/fs/cgroup/a/memory.max" => "1000\n",
            "/sys/fs/cgroup/a/memory.current" => "400\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "700\n",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes" => "10\n",
            _ => return None,
        };
        Some(text.to_owned())
    };
    assert_eq!(left_in_group("0::/a/b\n", files), Some(600));
    assert_eq!(left_in_group("0::/\n", files), None, "without a limit");
    assert_eq!(left_in_group("12:cpu:/x\n4:memory:/docker/1234\n", files), Some(690));
    assert_eq!(left_in_group("", files), None);
    assert_eq!(share(1000), 800);
}

#[test]
fn what_never_fits_is_told_apart_from_what_may_fit_later() {
    let never = no_room("m@1", 8 << 30, 0, 4 << 30);
    assert!(never.body().hint.unwrap().contains("never fits"));
    let later = no_room("m@1", 2 << 30, 3 << 30, 4 << 30);
    assert!(later.to_string().contains("2048 MiB, 3072 of 4096 MiB"), "{later}");
    assert!(later.body().hint.unwrap().contains("after a pause"));
}
