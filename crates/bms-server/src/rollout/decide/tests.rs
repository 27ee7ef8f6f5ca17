use std::collections::BTreeMap;

use bms_wire::api::RolloutPlan;

use super::super::example;
use super::*;

/// A small generator of numbers that look drawn: `xorshift64*`.
struct Draw(u64);

impl Draw {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn rollout(state: RolloutState, step: u64, plan: RolloutPlan) -> Rollout {
    let percent = if state == RolloutState::Preparing { 0.0 } else { plan.steps[step as usize] };
    Rollout { state, step, percent, ..example::rollout(plan) }
}

fn count(side: usize, requests: u64, errors: u64, ms: f64) -> RolloutCount {
    let step = RolloutCount::latency_step(ms / 1e3);
    let latency = BTreeMap::from([(step, requests - errors)]);
    RolloutCount { rollout: 1, step: 0, side, requests, errors, dropped: 0, latency }
}

fn decided(rollout: &Rollout, now_ms: i64, slot: Sight, counted: [RolloutCount; 3]) -> Decision {
    decide(&Evidence { rollout, now_ms, candidate_slot: slot, counted: &counted })
}

#[track_caller]
fn goes(decision: &Decision, want: &RolloutMove) {
    assert!(matches!(decision, Decision::Move(to, _) if to == want), "{decision:?}");
}

#[track_caller]
fn waits(decision: &Decision, word: &str) {
    assert!(matches!(decision, Decision::Wait(why) if why.contains(word)), "{decision:?}");
}

fn nothing() -> [RolloutCount; 3] {
    std::array::from_fn(|side| count(side, 0, 0, 1.0))
}

const MINUTE: i64 = 60_000;

#[test]
fn a_candidate_that_is_warm_takes_its_first_share_and_one_that_cannot_serve_none() {
    let preparing = rollout(RolloutState::Preparing, 0, RolloutPlan::default());
    waits(&decided(&preparing, 0, Sight::Coming, nothing()), "loaded");
    goes(&decided(&preparing, 0, Sight::Ready, nothing()), &RolloutMove::Step(0));
    let unusable = || Sight::Unusable("tampered".into());
    goes(&decided(&preparing, 0, unusable(), nothing()), &RolloutMove::RollBack);
    let running = rollout(RolloutState::Running, 0, RolloutPlan::default());
    goes(&decided(&running, 0, unusable(), nothing()), &RolloutMove::RollBack);
    // A slot that is restarted for once is no reason.
    waits(&decided(&running, 0, Sight::Coming, nothing()), "0 of 100");
}

#[test]
fn blue_and_green_switch_at_once_and_orders_are_waited_for() {
    let plan = RolloutPlan { steps: vec![100.0], ..RolloutPlan::default() };
    let preparing = rollout(RolloutState::Preparing, 0, plan.clone());
    goes(&decided(&preparing, 0, Sight::Ready, nothing()), &RolloutMove::Promote);
    let by_hand = rollout(RolloutState::Preparing, 0, RolloutPlan { automatic: false, ..plan });
    waits(&decided(&by_hand, 0, Sight::Ready, nothing()), "order");
    let plan = RolloutPlan { steps: vec![10.0], automatic: false, ..RolloutPlan::default() };
    let split = rollout(RolloutState::Preparing, 0, plan.clone());
    goes(&decided(&split, 0, Sight::Ready, nothing()), &RolloutMove::Step(0));
    let split = rollout(RolloutState::Running, 0, plan);
    let bad = [count(0, 1000, 0, 5.0), count(1, 1000, 900, 5.0), count(2, 0, 0, 1.0)];
    waits(&decided(&split, MINUTE, Sight::Ready, bad), "errors 900");
}

#[test]
fn a_good_step_lasts_its_time_and_leads_to_the_next() {
    let good = || [count(0, 2000, 2, 5.0), count(1, 400, 0, 5.0), count(2, 0, 0, 1.0)];
    let running = |step| rollout(RolloutState::Running, step, RolloutPlan::default());
    waits(&decided(&running(0), MINUTE / 2, Sight::Ready, good()), "goes on for 30 s");
    goes(&decided(&running(0), MINUTE, Sight::Ready, good()), &RolloutMove::Step(1));
    goes(&decided(&running(2), MINUTE, Sight::Ready, good()), &RolloutMove::Promote);
    let paused = rollout(RolloutState::Paused, 0, RolloutPlan::default());
    waits(&decided(&paused, MINUTE, Sight::Ready, good()), "paused");
}

#[test]
fn little_traffic_is_waited_for_and_not_for_ever() {
    let running = rollout(RolloutState::Running, 0, RolloutPlan::default());
    let few = || [count(0, 50, 0, 5.0), count(1, 12, 0, 5.0), count(2, 0, 0, 1.0)];
    waits(&decided(&running, 10 * MINUTE, Sight::Ready, few()), "12 of 100");
    // More than asked for, and still too few to say that errors did not increase by two in a hundred.
    let more = || [count(0, 5000, 0, 5.0), count(1, 110, 0, 5.0), count(2, 0, 0, 1.0)];
    waits(&decided(&running, 10 * MINUTE, Sight::Ready, more()), "too few to tell");
    let day = 24 * 60 * MINUTE;
    goes(&decided(&running, day + 1, Sight::Ready, few()), &RolloutMove::RollBack);
}

#[test]
fn errors_latency_and_answers_send_it_back() {
    let running = rollout(RolloutState::Running, 0, RolloutPlan::default());
    let copies = || count(2, 0, 0, 1.0);
    let failing = [count(0, 400, 2, 5.0), count(1, 20, 12, 5.0), copies()];
    goes(&decided(&running, 0, Sight::Ready, failing), &RolloutMove::RollBack);
    let slow = [count(0, 400, 0, 5.0), count(1, 30, 0, 50.0), copies()];
    goes(&decided(&running, 0, Sight::Ready, slow), &RolloutMove::RollBack);
    // Errors that both sides have are the callers'.
    let both = [count(0, 1000, 300, 5.0), count(1, 500, 150, 5.0), copies()];
    waits(&decided(&running, 0, Sight::Ready, both), "errors 150");
    // A few errors among few requests are chance, until there are more.
    let chance = [count(0, 400, 4, 5.0), count(1, 25, 2, 5.0), copies()];
    waits(&decided(&running, 0, Sight::Ready, chance), "25 of 100");

    let plan = RolloutPlan { steps: vec![0.0, 100.0], shadow_percent: 100.0, ..RolloutPlan::default() };
    let shadow = rollout(RolloutState::Running, 0, plan);
    let with =
        |agreed: u64, of: u64| [count(0, of, 0, 5.0), count(1, 0, 0, 1.0), count(2, of, of - agreed, 5.0)];
    goes(&decided(&shadow, 0, Sight::Ready, with(5, 20)), &RolloutMove::RollBack);
    waits(&decided(&shadow, MINUTE, Sight::Ready, with(50, 50)), "50 of 100");
    goes(&decided(&shadow, MINUTE, Sight::Ready, with(199, 200)), &RolloutMove::Promote);
}

#[test]
fn intervals_are_those_of_the_literature() {
    // Newcombe (1998), table II: 56/70 against 48/80, and 9/10 against 3/10, by method 10.
    let near = |got: (f64, f64), want: (f64, f64)| {
        assert!((got.0 - want.0).abs() < 1e-4 && (got.1 - want.1).abs() < 1e-4, "{got:?} {want:?}");
    };
    near(difference((56, 70), (48, 80), 1.959_964), (0.0524, 0.3339));
    near(difference((9, 10), (3, 10), 1.959_964), (0.1705, 0.8090));
    // Wilson's interval of 0 of 10 and of 81 of 263 (the same author's other paper of that year, table I).
    near(wilson(0, 10, 1.959_964), (0.0, 0.2775));
    near(wilson(81, 263, 1.959_964), (0.2553, 0.3662));
    assert_eq!(wilson(0, 0, 3.0), (0.0, 1.0));
}

#[test]
fn the_least_evidence_follows_from_what_is_allowed() {
    let least = |is_enough: &dyn Fn(u64) -> bool| (1..10_000).find(|n| is_enough(*n)).unwrap();
    let within = |most: f64| least(&|n| difference((0, n), (0, 1_000_000), Z_ON).1 <= most);
    let agree = least(&|n| 0.95 <= wilson(n, n, Z_ON).0);
    assert_eq!((within(0.02), within(0.01), agree), (133, 268, 52), "as in ADR 23");
}

#[test]
fn intervals_stay_in_order_whatever_is_counted() {
    let mut draw = Draw(7);
    for _ in 0..20_000 {
        let (n, m) = ((draw.share() * 500.0) as u64, (draw.share() * 500.0) as u64);
        let (a, b) = ((draw.share() * n as f64) as u64, (draw.share() * m as f64) as u64);
        let z = draw.share() * 5.0;
        let (low, high) = wilson(a, n, z);
        assert!(0.0 <= low && low <= high && high <= 1.0, "{a}/{n}");
        let (low, high) = difference((a, n), (b, m), z);
        assert!(low <= high && low.is_finite() && high.is_finite());
        let (first, last) = ranks(n.max(1), 0.95, z);
        assert!(1 <= first && first <= last);
        // More errors never look better.
        if a < n {
            assert!(low <= difference((a + 1, n), (b, m), z).0 + 1e-12);
        }
    }
}

/// A rollout on a simulated clock: requests come, sides answer with these shares of errors and times, and the rule looks
/// once a second. The seconds it took, and where it ended.
fn simulate(seed: u64, bad: f64, slower: f64, disagree: f64, plan: &RolloutPlan) -> (RolloutMove, u64) {
    let mut draw = Draw(seed);
    let mut stands = rollout(RolloutState::Running, 0, plan.clone());
    let mut counted = nothing();
    let add = |into: &mut RolloutCount, draw: &mut Draw, errors: f64, factor: f64| {
        into.requests += 1;
        match draw.share() < errors {
            true => into.errors += 1,
            // Exponential above a floor, 10 ms on average.
            false => {
                let ms = (3.0 - 7.0 * (1.0 - draw.share()).ln()) * factor;
                *into.latency.entry(RolloutCount::latency_step(ms / 1e3)).or_default() += 1;
            }
        }
    };
    for second in 0..86_400 {
        for _ in 0..100 {
            let [stable, candidate, copies] = &mut counted;
            match draw.share() * 100.0 < stands.percent {
                true => add(candidate, &mut draw, bad, slower),
                false => {
                    add(stable, &mut draw, 0.01, 1.0);
                    if draw.share() * 100.0 < plan.shadow_percent {
                        add(copies, &mut draw, disagree, 1.0);
                    }
                }
            }
        }
        let evidence = Evidence {
            rollout: &stands,
            now_ms: second * 1000,
            candidate_slot: Sight::Ready,
            counted: &counted,
        };
        match decide(&evidence) {
            Decision::Wait(_) => {}
            Decision::Move(RolloutMove::Step(step), _) => {
                stands.step = step;
                stands.step_ms = second * 1000;
                stands.percent = plan.steps[step as usize];
                counted = nothing();
            }
            Decision::Move(end, _) => return (end, second as u64),
        }
    }
    panic!("a rollout ends within a day");
}

#[test]
fn of_equal_versions_few_go_back_and_of_worse_ones_none_gets_through() {
    let plan = RolloutPlan { shadow_percent: 20.0, ..RolloutPlan::default() };
    let ends = |bad, slower, disagree| -> (usize, u64) {
        let ends: Vec<_> =
            (1..=200).map(|seed| simulate(seed * 7919, bad, slower, disagree, &plan)).collect();
        let back = ends.iter().filter(|(end, _)| *end == RolloutMove::RollBack).count();
        (back, ends.iter().map(|(_, seconds)| seconds).sum::<u64>() / 200)
    };
    let equal = ends(0.01, 1.0, 0.0);
    let failing = ends(0.10, 1.0, 0.0);
    let slow = ends(0.01, 2.5, 0.0);
    let wrong = ends(0.01, 1.0, 0.30);
    println!(
        "rolled back of 200, seconds: equal {equal:?} failing {failing:?} slow {slow:?} wrong {wrong:?}"
    );
    assert!(equal.0 <= 2, "at most one in a hundred good versions goes back: {equal:?}");
    assert_eq!((failing.0, slow.0, wrong.0), (200, 200, 200), "all bad versions do");
    assert!(failing.1 < 60 && slow.1 < 60 && wrong.1 < 60, "within the first step");
}
