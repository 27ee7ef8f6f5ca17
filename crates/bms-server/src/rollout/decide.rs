//! The rule of promotion, without clocks and databases: what was counted goes in, what to do comes out.
//!
//! Going back needs strong evidence that the candidate is worse, since it is looked for again and again; going on needs
//! evidence that it is no worse, which is looked at once a step has lasted. Everything between waits. Reasons and numbers:
//! `docs/adr/0023-the-rule-of-promotion.md`.

use bms_registry::{RolloutCount, RolloutMove};
use bms_wire::api::{Rollout, RolloutState};

/// Standard deviations of evidence before it goes back: 99.87 % on one side, for each look.
const Z_BACK: f64 = 3.0;
/// Standard deviations of evidence before it goes on: 95 % on one side.
const Z_ON: f64 = 1.645;
/// Requests on the candidate's side before it is judged at all.
const JUDGED_FROM: u64 = 20;
/// Requests above a percentile before it is relied on.
const TAIL_MIN: f64 = 5.0;
/// Milliseconds by which latencies may always differ: below that it is the machine's noise.
const NOISE_MS: f64 = 2.0;
/// Percentiles for going back, and for going on. The median shows gross slowness early.
const BACK_PERCENTILES: [f64; 3] = [0.5, 0.95, 0.99];
const ON_PERCENTILES: [f64; 2] = [0.95, 0.99];

/// How the candidate's slot stands on the replica that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Starting, or being warmed up.
    Coming,
    /// It can take traffic.
    Ready,
    /// It cannot be loaded, keeps failing to start, failed its warm-up, or may not be loaded any more.
    Unusable(String),
}

/// What a decision rests on.
#[derive(Clone, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) rollout: &'a Rollout,
    /// The database's clock.
    pub(crate) now_ms: i64,
    pub(crate) candidate_slot: Sight,
    /// Stable, candidate, copies; since the step began.
    pub(crate) counted: &'a [RolloutCount; 3],
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing, and why.
    Wait(String),
    /// This, and why.
    Move(RolloutMove, String),
}

/// What the counts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good(String),
    Bad(String),
    Open(String),
}

/// What to do with a rollout that is under way.
pub(crate) fn decide(evidence: &Evidence<'_>) -> Decision {
    let rollout = evidence.rollout;
    let back = |why: String| match rollout.plan.automatic {
        true => Decision::Move(RolloutMove::RollBack, why),
        false => Decision::Wait(format!("{why}; it waits for an order")),
    };
    match rollout.state {
        RolloutState::Paused => return Decision::Wait("it is paused".to_owned()),
        RolloutState::Preparing | RolloutState::Running => {}
        over => return Decision::Wait(format!("it is {}", over.as_str())),
    }
    if let Sight::Unusable(why) = &evidence.candidate_slot {
        return back(format!("version {} cannot serve: {why}", rollout.candidate));
    }
    let give_up_ms = i64::try_from(rollout.plan.give_up_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    let too_long = give_up_ms < evidence.now_ms.saturating_sub(rollout.created_ms);
    let next = match rollout.state {
        RolloutState::Preparing => prepared(evidence),
        _ => run(evidence),
    };
    match next {
        Decision::Wait(why) if too_long && rollout.plan.automatic => Decision::Move(
            RolloutMove::RollBack,
            format!("it was not decided in {} s: {why}", rollout.plan.give_up_seconds),
        ),
        Decision::Move(RolloutMove::RollBack, why) => back(why),
        next => next,
    }
}

/// A candidate that is loaded and warm gets its first share, or all of it.
fn prepared(evidence: &Evidence<'_>) -> Decision {
    if evidence.candidate_slot == Sight::Coming {
        return Decision::Wait("the candidate is being loaded and warmed up".to_owned());
    }
    match enter(evidence.rollout, 0) {
        Some(to) => Decision::Move(to, "the candidate is loaded and warm".to_owned()),
        None => Decision::Wait("the candidate is loaded and warm; it waits for an order".to_owned()),
    }
}

/// How a step is entered; `None` where only an order leads further.
fn enter(rollout: &Rollout, step: u64) -> Option<RolloutMove> {
    let percent = rollout.plan.steps.get(step as usize)?;
    match (*percent == 100.0, rollout.plan.automatic) {
        (true, true) => Some(RolloutMove::Promote),
        (true, false) => None,
        // The first step of one that does not decide by itself is what was asked for.
        (false, automatic) => (automatic || step == 0).then_some(RolloutMove::Step(step)),
    }
}

fn run(evidence: &Evidence<'_>) -> Decision {
    let rollout = evidence.rollout;
    let why = match judge(evidence) {
        Verdict::Bad(why) => return Decision::Move(RolloutMove::RollBack, why),
        Verdict::Open(why) => return Decision::Wait(why),
        Verdict::Good(why) => why,
    };
    let step_ms = i64::try_from(rollout.plan.step_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    let left_ms = rollout.step_ms.saturating_add(step_ms).saturating_sub(evidence.now_ms);
    if 0 < left_ms {
        return Decision::Wait(format!("{why}; the step goes on for {:.0} s", left_ms as f64 / 1e3));
    }
    match enter(rollout, rollout.step + 1) {
        Some(to) => Decision::Move(to, why),
        None => Decision::Wait(format!("{why}; it waits for an order")),
    }
}

/// What was counted in the step says of the candidate.
pub(crate) fn judge(evidence: &Evidence<'_>) -> Verdict {
    let [stable, candidate, copies] = evidence.counted;
    let plan = &evidence.rollout.plan;
    let mut verdicts = Vec::new();
    if 0.0 < evidence.rollout.percent {
        verdicts.push(enough(candidate.requests, plan.min_requests, "requests to the candidate"));
        verdicts.push(errors(stable, candidate, plan.max_error_increase));
        verdicts.push(latency(stable, candidate, plan.max_latency_increase));
    } else {
        verdicts.push(enough(copies.requests, plan.min_requests, "answers compared"));
    }
    if 0.0 < plan.shadow_percent {
        verdicts.push(agreement(copies, plan.min_agreement));
    }
    let (mut good, mut open) = (Vec::new(), Vec::new());
    for verdict in verdicts {
        match verdict {
            Verdict::Bad(why) => return Verdict::Bad(why),
            Verdict::Open(why) => open.push(why),
            Verdict::Good(why) => good.push(why),
        }
    }
    match open.is_empty() {
        true => Verdict::Good(good.join("; ")),
        false => Verdict::Open(open.join("; ")),
    }
}

fn enough(has: u64, wants: u64, of: &str) -> Verdict {
    match has < wants {
        true => Verdict::Open(format!("{has} of {wants} {of}")),
        false => Verdict::Good(format!("{has} {of}")),
    }
}

fn errors(stable: &RolloutCount, candidate: &RolloutCount, most: f64) -> Verdict {
    let (c, s) = ((candidate.errors, candidate.requests), (stable.errors, stable.requests));
    let shares = format!("errors {} of {}, against {} of {}", c.0, c.1, s.0, s.1);
    if JUDGED_FROM <= candidate.requests && most < difference(c, s, Z_BACK).0 {
        return Verdict::Bad(shares);
    }
    match difference(c, s, Z_ON).1 <= most {
        true => Verdict::Good(shares),
        false => Verdict::Open(format!("{shares}: too few to tell")),
    }
}

fn latency(stable: &RolloutCount, candidate: &RolloutCount, increase: f64) -> Verdict {
    let allowed = |ms: f64| ms * (1.0 + increase) + NOISE_MS;
    for q in BACK_PERCENTILES {
        if candidate.timed() < JUDGED_FROM || !is_reliable(stable, q) || !is_reliable(candidate, q) {
            continue;
        }
        let fastest = candidate.ranked_ms(ranks(candidate.timed(), q, Z_BACK).0);
        let slowest = stable.ranked_ms(ranks(stable.timed(), q, Z_BACK).1);
        if let (Some(c), Some(s)) = (fastest, slowest)
            && allowed(s) < c
        {
            let p = q * 100.0;
            return Verdict::Bad(format!("p{p:.0} of at least {c:.1} ms, against at most {s:.1} ms"));
        }
    }
    let mut shown = Vec::new();
    for q in ON_PERCENTILES {
        if !is_reliable(stable, q) || !is_reliable(candidate, q) {
            continue;
        }
        let (c, s) = (candidate.percentile_ms(q), stable.percentile_ms(q));
        let shows = format!("p{:.0} {c:.1} ms, against {s:.1} ms", q * 100.0);
        if allowed(s) < c {
            return Verdict::Open(shows);
        }
        shown.push(shows);
    }
    match shown.is_empty() {
        true => Verdict::Open("too few latencies to compare".to_owned()),
        false => Verdict::Good(shown.join(", ")),
    }
}

fn agreement(copies: &RolloutCount, least: f64) -> Verdict {
    let agreed = copies.requests.saturating_sub(copies.errors);
    let share = format!("{agreed} of {} answers agree", copies.requests);
    if JUDGED_FROM <= copies.requests && wilson(agreed, copies.requests, Z_BACK).1 < least {
        return Verdict::Bad(share);
    }
    match least <= wilson(agreed, copies.requests, Z_ON).0 {
        true => Verdict::Good(share),
        false => Verdict::Open(format!("{share}: too few to tell")),
    }
}

/// Whether enough requests lie above a percentile.
fn is_reliable(counted: &RolloutCount, q: f64) -> bool {
    TAIL_MIN <= counted.timed() as f64 * (1.0 - q)
}

/// The ranks between which a percentile of `n` values lies, by the binomial distribution's normal form.
fn ranks(n: u64, q: f64, z: f64) -> (u64, u64) {
    let (middle, spread) = (n as f64 * q, z * (n as f64 * q * (1.0 - q)).sqrt());
    ((middle - spread).floor().max(1.0) as u64, (middle + spread).ceil() as u64 + 1)
}

/// The score interval of a share (E. B. Wilson, 1927): it holds for few trials and for shares near 0 and 1 as well.
fn wilson(hits: u64, of: u64, z: f64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (of as f64, hits.min(of) as f64 / of as f64);
    let (z2, scale) = (z * z, 1.0 + z * z / of as f64);
    let middle = (p + z2 / (2.0 * n)) / scale;
    let spread = z / scale * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((middle - spread).max(0.0), (middle + spread).min(1.0))
}

/// The interval of the difference of two shares, of their score intervals (R. G. Newcombe, 1998, method 10).
fn difference((hits, of): (u64, u64), (base_hits, base_of): (u64, u64), z: f64) -> (f64, f64) {
    let share = |hits: u64, of: u64| if of == 0 { 0.5 } else { hits.min(of) as f64 / of as f64 };
    let (p, base) = (share(hits, of), share(base_hits, base_of));
    let ((low, high), (base_low, base_high)) = (wilson(hits, of, z), wilson(base_hits, base_of, z));
    let below = ((p - low).powi(2) + (base_high - base).powi(2)).sqrt();
    let above = ((high - p).powi(2) + (base - base_low).powi(2)).sqrt();
    (p - base - below, p - base + above)
}

#[cfg(test)]
mod tests;
