use super::*;

#[test]
fn wire_names_and_exit_codes_are_unique() {
    let mut names: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
    let mut exits: Vec<_> = Code::ALL.iter().map(|c| c.exit()).collect();
    names.sort_unstable();
    exits.sort_unstable();
    assert!(names.windows(2).all(|w| w[0] != w[1]));
    assert!(exits.windows(2).all(|w| w[0] != w[1]));
    // 0 is success, 1 a panic's neighbour, 2 the usage error of the argument parser, ≥ 126 the shell's own.
    assert!(exits.iter().all(|&e| (3..126).contains(&e)));
}

#[test]
fn every_code_survives_the_wire() {
    for &code in Code::ALL {
        let json = serde_json::to_string(&code).unwrap();
        assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
        assert!(!code.meaning().is_empty());
    }
    assert_eq!(serde_json::from_str::<Code>("\"from_the_future\"").unwrap(), Code::Internal);
}

#[test]
fn retry_follows_the_status() {
    for &code in Code::ALL {
        let transient = matches!(code.http(), 429 | 503 | 504 | 507) || code == Code::Io;
        assert_eq!(code.retry() == Retry::Later, transient, "{code}");
    }
}
