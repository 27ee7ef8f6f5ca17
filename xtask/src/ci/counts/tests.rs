use super::*;

#[track_caller]
fn check(lines: &[&str], want: &str) {
    assert_eq!(read(lines.iter().copied()).to_string(), want);
}

#[test]
fn summaries_of_nextest_are_read() {
    check(&["     Summary [   0.1s] 12 tests run: 12 passed, 3 skipped"], "12 passed, 0 failed, 3 skipped");
    check(
        &["     Summary [   0.1s] 1 test run: 1 passed (1 slow), 0 skipped"],
        "1 passed, 0 failed, 0 skipped",
    );
    let mixed = "     Summary [ 9.1s] 9/20 tests run: 4 passed (1 leaky), 2 failed, 2 timed out, 1 exec failed, 0 skipped";
    check(&["noise", mixed, "noise"], "4 passed, 5 failed, 0 skipped");
}

#[test]
fn summaries_of_libtest_are_added_up() {
    check(
        &[
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.1s",
        ],
        "4 passed, 2 failed, 1 skipped",
    );
}

#[test]
fn a_test_that_failed_counts_once() {
    let shown = "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 36 filtered out; finished in 0.11s";
    let summary = "     Summary [   4.3s] 155 tests run: 154 passed, 1 failed, 0 skipped";
    check(&[shown, summary], "154 passed, 1 failed, 0 skipped");
}

#[test]
fn other_lines_count_nothing() {
    check(
        &["12 passed, 1 failed", "test a::b ... ok", "Summary of 3 tests run: 3 passed", ""],
        "0 passed, 0 failed, 0 skipped",
    );
    assert!(!read([""].into_iter()).any());
}
