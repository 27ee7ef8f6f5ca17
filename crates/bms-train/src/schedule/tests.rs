use super::*;

#[test]
fn rises_linearly_then_falls_to_the_floor() {
    let schedule = Schedule { peak: 0.1, warmup_steps: 4, steps: 104 };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    close(schedule.rate(0), 0.025);
    close(schedule.rate(3), 0.1);
    close(schedule.rate(4), 0.1);
    // Half way down the cosine: the mean of peak and floor.
    close(schedule.rate(54), 0.1 * (0.01 + 0.99 * 0.5));
    close(schedule.rate(104), 0.001);
    close(schedule.rate(5_000), 0.001);
}

#[test]
fn never_rises_after_the_warm_up() {
    let schedule = Schedule { peak: 1.0, warmup_steps: 0, steps: 50 };
    assert!((1..50).all(|step| schedule.rate(step) <= schedule.rate(step - 1)));
}

#[test]
fn a_run_shorter_than_its_warm_up_has_finite_rates() {
    let schedule = Schedule { peak: 1.0, warmup_steps: 10, steps: 3 };
    assert!((0..12).all(|step| schedule.rate(step).is_finite() && 0.0 < schedule.rate(step)));
}
