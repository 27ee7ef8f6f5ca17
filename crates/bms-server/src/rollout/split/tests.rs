use bms_wire::api::RolloutPlan;

use super::super::example;
use super::*;

fn split(id: u64, percent: f64, sticky: &str) -> Split {
    let plan = RolloutPlan { sticky: sticky.into(), shadow_percent: 25.0, ..RolloutPlan::default() };
    Split::new(&Rollout { id, percent, ..example::rollout(plan) })
}

fn with(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
}

#[test]
fn a_caller_stays_on_its_side_as_the_share_grows() {
    for (sticky, header) in
        [("caller", "x-api-key"), ("caller", "authorization"), ("header:X-User", "x-user")]
    {
        let steps = [0.0, 1.0, 5.0, 25.0, 50.0, 99.0, 100.0].map(|percent| split(1, percent, sticky));
        let mut shares = [0; 7];
        for caller in 0..10_000 {
            let headers = with(header, &format!("caller-{caller}"));
            let sides = steps.each_ref().map(|split| split.side_of(&headers, format!("{caller}").as_bytes()));
            assert!(sides.is_sorted_by_key(|side| *side == Side::Candidate), "{caller}: {sides:?}");
            // Whatever the request says.
            assert_eq!(sides, steps.each_ref().map(|split| split.side_of(&headers, b"another")));
            for (share, side) in shares.iter_mut().zip(sides) {
                *share += usize::from(side == Side::Candidate);
            }
        }
        assert!(shares[0] == 0 && shares[6] == 10_000, "{shares:?}");
        for (share, want) in shares.iter().zip([0.0_f64, 100.0, 500.0, 2500.0, 5000.0, 9900.0, 10_000.0]) {
            assert!((*share as f64 - want).abs() < 5.0 * want.sqrt().max(10.0), "{shares:?}");
        }
    }
}

#[test]
fn who_tries_one_rollout_is_not_who_tries_the_next() {
    let (one, next) = (split(1, 50.0, "caller"), split(2, 50.0, "caller"));
    let moved = (0..1000).filter(|caller| {
        let headers = with("x-api-key", &format!("{caller}"));
        one.side_of(&headers, b"") != next.side_of(&headers, b"")
    });
    let moved = moved.count();
    assert!((350..650).contains(&moved), "{moved}");
}

#[test]
fn without_a_key_the_request_decides_and_without_stickiness_chance() {
    let split_ = split(1, 50.0, "caller");
    let none = HeaderMap::new();
    for body in 0..100 {
        let body = format!("{body}");
        assert_eq!(split_.side_of(&none, body.as_bytes()), split_.side_of(&none, body.as_bytes()));
    }
    let drawn = split(1, 50.0, "none");
    let candidate = (0..1000).filter(|_| drawn.side_of(&none, b"same") == Side::Candidate).count();
    assert!((400..600).contains(&candidate), "{candidate}");
    let copies = (0..1000).filter(|_| drawn.wants_copy()).count();
    assert!((180..320).contains(&copies), "{copies}");
}

#[test]
fn counts_are_written_when_they_changed() {
    let split = split(3, 50.0, "caller");
    assert!(split.take_unwritten().is_empty());
    split.count(Side::Candidate, true, Duration::from_millis(3));
    split.count(Side::Candidate, false, Duration::from_millis(3));
    split.count_dropped();
    let counts = split.take_unwritten();
    assert_eq!(counts.len(), 2);
    assert_eq!((counts[0].rollout, counts[0].side, counts[0].requests, counts[0].errors), (3, 1, 2, 1));
    assert_eq!((counts[0].timed(), counts[1].dropped), (1, 1));
    assert!(split.take_unwritten().is_empty());
    split.put_back();
    assert_eq!(split.take_unwritten(), counts);
}
