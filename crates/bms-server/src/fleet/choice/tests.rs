use super::*;

fn slots(loads: &[usize]) -> Vec<Candidate> {
    loads.iter().enumerate().map(|(n, load)| Candidate { number: 7 * n as u64, load: *load }).collect()
}

#[test]
fn the_least_loaded_goes_first_and_equals_take_turns() {
    assert_eq!(order(&slots(&[3, 1, 2]), None, 5), [1, 2, 0]);
    let firsts: Vec<usize> = (0..6).map(|turn| order(&slots(&[4, 4, 4]), None, turn)[0]).collect();
    assert_eq!(firsts, [0, 1, 2, 0, 1, 2]);
    assert!(order(&[], None, 3).is_empty());
}

#[test]
fn prompts_that_begin_alike_meet_and_no_slot_gets_too_many() {
    let mut loads = [0; 4];
    // A hundred requests with one beginning: all would go to one slot if nothing bounded it.
    for n in 0..100 {
        let open: usize = loads.iter().sum();
        let first = order(&slots(&loads), Some(42), n)[0];
        if open == 0 {
            assert_eq!(first, order(&slots(&[0; 4]), Some(42), 3)[0], "always the same one");
        }
        loads[first] += 1;
        let bound = (1.25 * (open + 1) as f64 / 4.0).ceil() as usize;
        assert!(loads[first] <= bound.max(1), "{loads:?}");
    }
    // Many beginnings spread.
    let home = |prefix| order(&slots(&[0; 4]), Some(prefix), 0)[0];
    let homes: Vec<usize> = (0..400).map(home).collect();
    for slot in 0..4 {
        let share = homes.iter().filter(|home| **home == slot).count();
        assert!((50..150).contains(&share), "{share}");
    }
    // A slot more takes some over and moves no others.
    let more = |prefix| order(&slots(&[0; 5]), Some(prefix), 0)[0];
    assert!((0..400).all(|prefix| more(prefix) == 4 || more(prefix) == home(prefix)));
}

#[test]
fn what_stands_before_the_prompt_does_not_matter() {
    let body = |before: &str, text: &str| {
        format!("{{{before}\"messages\":[{{\"role\":\"system\",\"content\":\"{text}\"}}]}}")
    };
    let long = "x".repeat(400);
    let one = prefix(body("\"model\":\"m\",\"seed\":1,", &format!("{long}a")).as_bytes());
    let other = prefix(body("\"model\":\"m\",", &format!("{long}b")).as_bytes());
    assert_eq!(one, other, "only the beginning counts");
    assert_ne!(one, prefix(body("", "y").as_bytes()));
    prefix(b"");
}
