use super::*;

fn function(lines: usize) -> String {
    format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
}

#[test]
fn a_function_may_reach_the_budget_and_not_pass_it() {
    assert_eq!(check(&Sources::of(&[("a.rs", &function(70))])), []);
    let problems = check(&Sources::of(&[("a.rs", &function(71))]));
    assert_eq!(problems, [Problem::new("a.rs", 1, "this function has 71 lines; the budget is 70")]);
}

#[test]
fn a_file_may_reach_the_budget_and_not_pass_it() {
    assert_eq!(check(&Sources::of(&[("a.rs", &"//\n".repeat(600))])), []);
    assert_eq!(check(&Sources::of(&[("a.rs", &"//\n".repeat(601))])).len(), 1);
    assert_eq!(check(&Sources::of(&[("a.md", &"-\n".repeat(601))])), []);
}

#[track_caller]
fn check_entry(listed: usize, lines: usize, want: &str) {
    let table = [("a.rs::f", listed)];
    let mut ledger = Ledger::new("function", 70, &table);
    ledger.measured("a.rs::f", "a.rs", 1, lines);
    let found: Vec<_> = ledger.problems().into_iter().map(|p| p.message).collect();
    assert_eq!(found.join("|"), want);
}

#[test]
fn the_grandfathered_may_only_shrink() {
    check_entry(80, 80, "");
    check_entry(80, 81, "this function grew from 80 to 81 lines; make it shorter");
    check_entry(80, 75, "this function has 75 lines now; lower its entry to that");
    check_entry(80, 70, "this function is within the budget now (70 lines, was 80); remove its entry");
    let problems = Ledger::new("function", 70, &[("gone.rs::f", 80)]).problems();
    assert_eq!(problems.len(), 1);
}

#[test]
fn of_functions_with_one_name_the_longest_counts() {
    let mut ledger = Ledger::new("function", 70, &[]);
    ledger.measured("a.rs::new", "a.rs", 1, 3);
    ledger.measured("a.rs::new", "a.rs", 9, 90);
    ledger.measured("a.rs::new", "a.rs", 99, 5);
    assert_eq!(ledger.problems(), [Problem::new("a.rs", 9, "this function has 90 lines; the budget is 70")]);
}
