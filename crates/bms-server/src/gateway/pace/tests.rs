use std::time::{Duration, Instant};

use super::Pace;

const ALLOWED: Duration = Duration::from_secs(10);

/// A pace of a model with so many open requests that answers batches of four, ten batches a second.
fn busy(open: usize) -> (Pace, Instant) {
    let (pace, mut now) = (Pace::of_answers(), Instant::now());
    (0..open + 80).for_each(|_| pace.entered());
    for _ in 0..20 {
        now += Duration::from_millis(100);
        (0..4).for_each(|_| pace.left(now));
    }
    (pace, now)
}

#[test]
fn who_would_wait_in_vain_is_told() {
    let (pace, _) = busy(300);
    assert_eq!(pace.excess(ALLOWED), None, "300 at 40 a second");
    let (pace, _) = busy(400);
    let excess = pace.excess(ALLOWED).unwrap();
    assert!((1.5..3.0).contains(&excess.as_secs_f64()), "400 at 40 a second: {excess:?}");
    assert!(pace.excess(Duration::from_millis(1)).is_some());
    assert_eq!(pace.excess(Duration::from_secs(30)), None);
}

#[test]
fn nothing_is_known_of_a_model_that_answers_nothing_or_has_nothing_to_do() {
    let pace = Pace::of_answers();
    (0..1000).for_each(|_| pace.entered());
    assert_eq!(pace.excess(Duration::from_millis(1)), None);
    let (pace, now) = busy(400);
    (0..400).for_each(|_| pace.left(now));
    assert_eq!(pace.excess(Duration::ZERO), None);
    // Slow answers far apart are no pace.
    pace.entered();
    pace.left(now + Duration::from_secs(20));
    pace.entered();
    assert_eq!(pace.excess(ALLOWED), None);
}

#[test]
fn what_stood_still_is_no_pace() {
    // It has just begun, stands still for three seconds, and goes on.
    let (pace, mut now) = (Pace::of_answers(), Instant::now());
    (0..200).for_each(|_| pace.entered());
    pace.left(now);
    now += Duration::from_secs(3);
    for _ in 0..100 {
        pace.left(now);
        assert_eq!(pace.excess(Duration::from_secs(120)), None);
        now += Duration::from_millis(1);
    }
    let (pace, _) = busy(400);
    assert!(pace.excess(ALLOWED).is_some());
    pace.forget();
    assert_eq!(pace.excess(ALLOWED), None);
}

/// A language model with room for this many answers at a time, each of which takes so many seconds from its beginning, while
/// so many wait: in a simulation of an hour at most, of what is let in until something is refused.
struct Engine {
    pace: Pace,
    now: Instant,
    room: usize,
    takes: Duration,
    running: Vec<Instant>,
    waiting: usize,
}

const STEP: Duration = Duration::from_millis(100);

impl Engine {
    fn new(room: usize, takes: u64) -> Self {
        let (pace, now) = (Pace::of_beginnings(), Instant::now());
        Engine { pace, now, room, takes: Duration::from_secs(takes), running: Vec::new(), waiting: 0 }
    }

    /// One comes that has so much time; the pause it is told when it is refused.
    fn comes(&mut self, allowed: Duration) -> Option<Duration> {
        let refused = self.pace.excess(allowed);
        if refused.is_none() {
            self.pace.entered();
            self.waiting += 1;
        }
        refused
    }

    /// A tenth of a second, in which whoever runs gets a token and one may begin.
    fn step(&mut self) {
        self.now += STEP;
        self.running.retain(|until| self.now < *until);
        if self.running.len() < self.room && 0 < self.waiting {
            self.waiting -= 1;
            self.running.push(self.now + self.takes);
            self.pace.left(self.now);
        }
        if !self.running.is_empty() {
            self.pace.moved(self.now);
        }
    }
}

#[test]
fn a_language_model_that_is_not_full_refuses_nobody() {
    let allowed = Duration::from_secs(20);
    let mut engine = Engine::new(16, 30);
    for second in 0..600 {
        // Bursts of four, with less than sixteen open at any time.
        if second % 9 == 0 {
            for _ in 0..4 {
                assert_eq!(engine.comes(allowed), None, "second {second}");
            }
        }
        (0..10).for_each(|_| engine.step());
    }
}

#[test]
fn a_full_language_model_lets_in_whom_it_begins_to_answer_in_time() {
    let allowed = Duration::from_secs(120);
    let mut engine = Engine::new(8, 16);
    // Eight at a time for 16 seconds each: one begins every two seconds, so 48 wait for 96 seconds, four fifths of the time.
    let mut longest = 0;
    let mut refused = 0;
    for second in 0..1800 {
        if engine.comes(allowed).is_some() {
            refused += 1;
        }
        (0..10).for_each(|_| engine.step());
        if 300 < second {
            longest = longest.max(engine.waiting);
            assert!(30 < engine.waiting, "second {second}: {} wait, the engine is full", engine.waiting);
        }
    }
    // The answers begin in eights, every 16 seconds.
    assert!((40..=60).contains(&longest), "{longest} waited");
    assert!((800..1000).contains(&refused), "of 1800 requests half was too much: {refused}");
}

#[test]
fn an_idle_engine_that_gets_full_is_not_taken_for_one_that_is_as_fast_as_at_first() {
    let allowed = Duration::from_secs(60);
    let mut engine = Engine::new(8, 600);
    for _ in 0..40 {
        assert_eq!(engine.comes(allowed), None, "nothing is known yet");
    }
    // The first eight begin within a second; then none does for ten minutes, while they are written.
    (0..20).for_each(|_| engine.step());
    assert_eq!(engine.comes(allowed), None);
    (0..600).for_each(|_| engine.step());
    let wait = engine.comes(allowed).expect("32 wait, and none has begun for a minute");
    assert!(Duration::from_secs(300) < wait, "{wait:?}");
}

#[test]
fn what_stands_still_or_starts_is_not_slow_and_what_is_given_up_is_no_answer() {
    let allowed = Duration::from_secs(60);
    let mut engine = Engine::new(8, 8);
    (0..40).for_each(|_| assert_eq!(engine.comes(allowed), None));
    (0..100).for_each(|_| engine.step());
    // Nothing is written for an hour: the slot stands still. What was known stays as it was.
    let before = engine.pace.excess(Duration::ZERO).unwrap();
    engine.now += Duration::from_secs(3600);
    assert_eq!(engine.pace.excess(Duration::ZERO).unwrap(), before);
    // It is replaced: nothing is known of the next one until it has begun some.
    engine.pace.forget();
    assert_eq!(engine.pace.excess(Duration::ZERO), None);
    (0..30).for_each(|_| engine.pace.gave_up());
    assert_eq!(engine.pace.excess(Duration::ZERO), None, "who leaves is no answer");
}
