use super::*;

#[test]
fn what_followed_before_is_drafted() {
    let mut guess = Guess::default();
    let tokens = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4];
    assert_eq!(guess.propose(&tokens, 3), [5, 6, 9]);
    // Two tokens are enough when four are not found.
    assert_eq!(guess.propose(&[1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4, 7, 5, 6], 2), [9, 1]);
    assert!(guess.propose(&[1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4, 7, 5, 6, 8], 2).is_empty());
}

#[test]
fn a_loop_goes_on() {
    assert_eq!(Guess::default().propose(&[1, 2, 1, 2, 1, 2, 1], 5), [2, 1, 2, 1, 2]);
    assert_eq!(Guess::default().propose(&[7, 7, 7], 4), [7, 7, 7, 7]);
}

#[test]
fn short_histories_draft_nothing() {
    for tokens in [&[][..], &[1], &[1, 2], &[1, 2, 3]] {
        assert!(Guess::default().propose(tokens, 4).is_empty());
    }
}

#[test]
fn entering_piece_by_piece_is_the_same() {
    let tokens: Vec<u32> = (0..200).map(|i| (i * i % 7) as u32).collect();
    let mut guess = Guess::default();
    for end in 1..tokens.len() {
        assert_eq!(guess.propose(&tokens[..end], 4), Guess::default().propose(&tokens[..end], 4));
    }
}

#[test]
fn acceptance_follows_what_happens() {
    let mut guess = Guess::default();
    for _ in 0..30 {
        guess.learn(4, 0);
    }
    assert!(guess.acceptance() < 0.05);
    for _ in 0..TRY_AGAIN {
        guess.learn(0, 0);
    }
    assert!(0.5 < guess.acceptance());
    for _ in 0..30 {
        guess.learn(4, 4);
    }
    assert!(0.95 < guess.acceptance());
}
