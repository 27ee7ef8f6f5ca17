use super::*;

#[test]
fn works_are_named_once_and_found_by_name() {
    assert_eq!(Work::parse_list(None).unwrap(), Work::ALL);
    assert_eq!(Work::parse_list(Some("itl, pp")).unwrap(), [Work::Pauses, Work::Prompt]);
    let refused = Work::parse_list(Some("pp,speed")).unwrap_err().to_string();
    assert!(refused.contains("`speed`") || refused.contains("speed"), "{refused}");
}

#[test]
fn numbers_are_whole_and_positive() {
    assert_eq!(number(None, "--rounds").unwrap(), None);
    assert_eq!(number(Some("3".to_owned()), "--rounds").unwrap(), Some(3));
    for wrong in ["0", "-1", "many"] {
        assert!(number(Some(wrong.to_owned()), "--rounds").is_err(), "{wrong}");
    }
}

#[test]
fn prompts_repeat_by_seed_and_share_nothing_otherwise() {
    let [mut one, mut same, mut other] = [1, 1, 2].map(|seed| prompts::Prompts::new(seed, 1000));
    let (first, second) = (one.take(100), one.take(100));
    assert_eq!(first, same.take(100));
    assert_ne!(first, second);
    assert_ne!(first[..4], other.take(100)[..4]);
    assert!(first.iter().all(|token| (250..750).contains(token)));
}

#[test]
fn the_memory_of_this_process_is_found() {
    if cfg!(target_os = "linux") {
        assert!(1 << 20 < memory::peak_bytes(std::process::id()));
    }
}
