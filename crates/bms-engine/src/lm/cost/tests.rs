use super::*;

fn learned() -> Cost {
    let mut cost = Cost::new(Duration::from_millis(80), 16, 512);
    for i in 0..200 {
        let rows = 1 + i % 8;
        cost.learn(rows, 0, Duration::from_micros(20_000 + 1000 * rows as u64));
        cost.learn(rows, 32, Duration::from_micros(20_000 + 1000 * rows as u64 + 32 * 1500));
    }
    cost
}

#[test]
fn without_answers_pieces_are_large() {
    assert_eq!(Cost::new(Duration::from_millis(80), 16, 512).budget(0), 512);
    assert_eq!(learned().budget(0), 512);
}

#[test]
fn the_budget_keeps_a_step_within_the_target() {
    let cost = learned();
    // (80 - 20 - 4) / 1.5
    assert!((36..=38).contains(&cost.budget(4)), "{}", cost.budget(4));
    // (80 - 20 - 30) / 1.5
    assert!((19..=21).contains(&cost.budget(30)), "{}", cost.budget(30));
    assert_eq!(cost.budget(200), 16);
}

#[test]
fn drafts_pay_for_few_rows_and_good_guesses() {
    let cost = learned();
    assert_eq!(cost.drafts(1, 0.01, 8, 0.0), 0);
    assert_eq!(cost.drafts(1, 0.95, 8, 0.0), 8);
    assert!((1..8).contains(&cost.drafts(1, 0.5, 8, 0.0)));
    assert!(cost.drafts(64, 0.5, 8, 0.0) < cost.drafts(1, 0.5, 8, 0.0));
    // A guess that takes as long as a step is worth nothing.
    assert_eq!(cost.drafts(1, 0.9, 8, 0.021), 0);
    // Where every row costs the same there is nothing to win.
    let mut linear = Cost::new(Duration::from_millis(80), 16, 512);
    for rows in 1..50 {
        linear.learn(rows % 9 + 1, 0, Duration::from_millis(10 * (rows as u64 % 9 + 1)));
    }
    assert_eq!(linear.drafts(1, 0.9, 8, 0.0), 0);
}
