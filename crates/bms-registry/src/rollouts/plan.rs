//! What a plan may say.

use bms_wire::api::RolloutPlan;
use bms_wire::{Code, Error, Result, limits};

/// Bytes of the name of a header.
const HEADER_NAME_BYTES_MAX: usize = 100;

/// Refuses a plan that contradicts itself or is out of its limits.
pub(super) fn check(plan: &RolloutPlan) -> Result<()> {
    let refuse = |what: String| Err(Error::new(Code::InvalidRequest, what));
    if plan.steps.is_empty() || limits::ROLLOUT_STEPS_MAX < plan.steps.len() {
        return refuse(format!("a rollout has 1 to {} steps", limits::ROLLOUT_STEPS_MAX));
    }
    if plan.steps.iter().any(|percent| !(0.0..=100.0).contains(percent)) {
        return refuse("each of `steps` is a percentage from 0 to 100".to_owned());
    }
    if plan.steps.windows(2).any(|pair| pair[1] < pair[0]) {
        return refuse("`steps` never go down".to_owned());
    }
    let rest = &plan.steps[..plan.steps.len() - 1];
    if rest.contains(&100.0) {
        return refuse("a step of 100 % is the last one: it promotes the candidate".to_owned());
    }
    if plan.automatic && plan.steps.contains(&0.0) && plan.shadow_percent <= 0.0 {
        return refuse("a step of 0 % needs `shadow_percent`: nothing else could be judged in it".to_owned());
    }
    let shares = [
        ("shadow_percent", plan.shadow_percent, 100.0),
        ("max_error_increase", plan.max_error_increase, 1.0),
        ("max_latency_increase", plan.max_latency_increase, 1000.0),
        ("min_agreement", plan.min_agreement, 1.0),
        ("tolerance", plan.tolerance, f64::MAX),
    ];
    for (name, value, most) in shares {
        if !(0.0..=most).contains(&value) {
            return refuse(format!("`{name}` is {value}, and has to be from 0 to {most}"));
        }
    }
    let most = limits::ROLLOUT_SECONDS_MAX;
    if [plan.step_seconds, plan.keep_warm_seconds, plan.give_up_seconds].iter().any(|s| most < *s) {
        return refuse(format!("the times of a rollout are at most {most} s"));
    }
    if plan.automatic && plan.max_error_increase == 0.0 {
        return refuse(
            "`max_error_increase` is 0: no number of requests shows that there are no more".to_owned(),
        );
    }
    if plan.automatic && 0.0 < plan.shadow_percent && plan.min_agreement == 1.0 {
        return refuse("`min_agreement` is 1: no number of answers shows that all agree".to_owned());
    }
    check_sticky(&plan.sticky)
}

fn check_sticky(sticky: &str) -> Result<()> {
    let header = |name: &str| {
        !name.is_empty()
            && name.len() <= HEADER_NAME_BYTES_MAX
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    match sticky {
        "caller" | "request" | "none" => Ok(()),
        other if other.strip_prefix("header:").is_some_and(header) => Ok(()),
        other => {
            let shown: String = other.chars().take(80).collect();
            Err(Error::new(Code::InvalidRequest, format!("`{shown}` is no way to keep callers on one side"))
                .hint("Take `caller`, `request`, `header:NAME` or `none`."))
        }
    }
}
