use std::time::Duration;

use super::stream::Events;
use super::tally::{Outcome, Streamed, Tally, Times};
use super::{address, picture};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn only_plain_addresses_are_taken() {
    for good in ["http://127.0.0.1:8080", "http://localhost:1/", "http://[::1]:80"] {
        assert!(address(good).is_ok(), "{good}");
    }
    for bad in ["https://a", "127.0.0.1:80", "http://", "http://a/b", "ftp://a", "http://a b"] {
        assert!(address(bad).is_err(), "{bad}");
    }
}

#[test]
fn tokens_are_timed_however_the_bytes_are_cut() {
    let text = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
                data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n\
                : a comment\n\
                data: {\"choices\":[{\"text\":\"b\"}]}\n\n\
                data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\n\
                data: [DONE]\n\n";
    for cut in 0..text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        let mut events = Events::default();
        events.take(head, ms(1));
        events.take(tail, ms(5));
        let streamed = events.end().unwrap();
        assert_eq!((streamed.tokens, streamed.gaps.len()), (7, 1));
        assert!(streamed.first == Some(ms(1)) || streamed.first == Some(ms(5)));
    }
}

#[test]
fn what_breaks_off_or_tells_of_an_error_is_no_answer() {
    let cut = "data: {\"choices\":[{\"text\":\"b\"}]}\n";
    let error = "data: {\"error\":{\"message\":\"the slot is gone\"}}\n\ndata: [DONE]\n";
    for (text, why) in
        [(cut, "broke off"), (error, "slot is gone"), ("data: {\n", "not JSON"), ("", "broke off")]
    {
        let mut events = Events::default();
        events.take(text.as_bytes(), ms(1));
        let told = events.end().unwrap_err();
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn percentiles_are_those_of_the_times() {
    let mut times = Times::new().unwrap();
    (1..=1000).for_each(|n| times.add(ms(n)));
    for (percent, wanted) in [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0)] {
        let found = times.percentile(percent);
        assert!((found - wanted).abs() <= wanted * 2e-3, "{found} for {percent}");
    }
    assert_eq!(times.classes().map(|(_, count)| count).sum::<u64>(), 1000);
}

#[test]
fn outcomes_are_counted_and_drawn() {
    let mut tally = Tally::new().unwrap();
    let streamed = Streamed { first: Some(ms(3)), gaps: vec![ms(1), ms(2)], tokens: 3 };
    tally.note(Outcome::Answered(streamed), ms(10), ms(9), ms(2), true);
    tally.note(Outcome::Answered(Streamed::default()), ms(1700), ms(90), ms(0), false);
    tally.note(Outcome::Refused(429), ms(2100), ms(6), ms(2), true);
    tally.note(Outcome::Failed("status 500".to_owned()), ms(2200), ms(6), ms(2), false);
    assert_eq!((tally.requests(), tally.good, tally.tokens, tally.failures()), (4, 1, 3, 1));
    assert_eq!((tally.first_token.len(), tally.gap.len()), (1, 2));
    // From when it was due.
    assert!((tally.first_token.max() - 5.0).abs() < 0.1);
    // What a refusal takes is the server's time, not that for a connection.
    assert!((tally.refusal.max() - 4.0).abs() < 0.1);
    assert_eq!(tally.course.iter().map(|second| second.answered).collect::<Vec<_>>(), [1, 1, 0]);
    assert!(picture::draw(&tally).unwrap().contains("</svg>"));
    assert!(picture::draw(&Tally::new().unwrap()).unwrap().contains("no answers"));
}
