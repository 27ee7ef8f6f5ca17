use super::*;

fn passes(_: &mut Run) -> Result<Verdict> {
    Ok(Verdict::Passed)
}

fn fails(_: &mut Run) -> Result<Verdict> {
    bail!("failed to do it")
}

fn results(keep_going: bool) -> Vec<String> {
    let steps = [
        Step { name: "one", run: passes },
        Step { name: "two", run: fails },
        Step { name: "three", run: |_| Ok(Verdict::Skipped("no need")) },
    ];
    let mut run =
        Run { root: PathBuf::from("."), environment: None, services: None, tests: Counts::default() };
    all(steps.iter(), &mut run, keep_going).into_iter().map(|line| line.result).collect()
}

#[test]
fn a_failure_stops_the_run_unless_told_otherwise() {
    assert_eq!(results(false), ["passed", "FAILED", "not run"]);
    assert_eq!(results(true), ["passed", "FAILED", "skipped: no need"]);
}

#[test]
fn steps_have_names_of_their_own_and_unknown_ones_are_refused() {
    let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    let arguments = ["--step", "nope"].map(str::to_owned).into_iter();
    assert!(super::run(Arguments::new(arguments)).is_err());
}
