//! A version under load in simulated time: requests come, wait in one line, are worked on by slots that take time to
//! start, and the law of [`super`] says how many of these there are.
//!
//! Nothing here waits or draws from anything but its seed: the same scenario has the same course, always.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::{Law, Seen, Terms, ready_within};

/// The step of the simulated clock, in seconds.
const STEP_SECONDS: f64 = 0.01;
/// The time between two looks of the law, in seconds; the server's.
pub const LOOK_SECONDS: f64 = 0.5;
/// The time over which answers are counted for the queue time, in seconds.
const RATE_SECONDS: f64 = 3.0;

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// The same all the time, but for chance: requests come independently of each other.
    Noise,
    /// From a fifth to all at a quarter of the time, and back at two thirds.
    Step,
    /// A fifth, and all for ten seconds.
    Spike,
    /// From a tenth to all and back, again and again, two minutes each.
    Sawtooth,
    /// All for a minute, nothing for three, again and again.
    Idle,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 5] = [Shape::Step, Shape::Spike, Shape::Sawtooth, Shape::Idle, Shape::Noise];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Shape::Noise => "noise",
            Shape::Step => "step",
            Shape::Spike => "spike",
            Shape::Sawtooth => "sawtooth",
            Shape::Idle => "idle",
        }
    }

    /// The share of the most that comes at this time.
    fn share(self, at: f64, seconds: f64) -> f64 {
        let is_on = |from: f64, to: f64| (from..to).contains(&at);
        match self {
            Shape::Noise => 1.0,
            Shape::Step => f64::max(0.2, f64::from(u8::from(is_on(seconds / 4.0, seconds * 2.0 / 3.0)))),
            Shape::Spike => f64::max(0.2, f64::from(u8::from(is_on(seconds / 4.0, seconds / 4.0 + 10.0)))),
            Shape::Sawtooth => {
                let phase = (at / 120.0).fract();
                0.1 + 0.9 * (1.0 - (2.0 * phase - 1.0).abs())
            }
            Shape::Idle => f64::from(u8::from(at % 240.0 < 60.0)),
        }
    }
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// How requests come.
    pub shape: Shape,
    /// Requests a second at most.
    pub rate: f64,
    /// Seconds a request takes in a slot.
    pub service_seconds: f64,
    /// Requests a slot works on at once.
    pub places: usize,
    /// Seconds a slot takes to start.
    pub start_seconds: f64,
    /// The law's terms.
    pub terms: Terms,
    /// Seconds simulated.
    pub seconds: f64,
    /// Where chance begins.
    pub seed: u64,
}

impl Scenario {
    /// Slots without which the most that comes cannot be worked on, at the terms' concurrency.
    pub fn slots_needed(&self) -> usize {
        let trusted = self.terms.concurrency.min(self.places as f64);
        (self.rate * self.service_seconds / trusted).ceil().max(1.0) as usize
    }

    /// The longest a request should wait, in seconds; see [`ready_within`]. `None` when there may not be enough slots.
    pub fn wait_bound(&self) -> Option<f64> {
        let to = self.slots_needed();
        let least = self.terms.min;
        (to <= self.terms.max)
            .then(|| ready_within(least, to, LOOK_SECONDS, self.start_seconds, self.service_seconds))
    }
}

/// One look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When, in seconds.
    pub at: f64,
    /// Requests a second that came since the last look.
    pub rate: f64,
    /// Requests that wait or have a slot.
    pub requests: usize,
    /// Slots wanted.
    pub wanted: usize,
    /// Slots that answer.
    pub ready: usize,
    /// The longest time, in seconds, that one waited that got a place since the last look.
    pub wait_seconds: f64,
}

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// Every look.
    pub points: Vec<Point>,
    /// Times more slots were wanted.
    pub ups: usize,
    /// Times fewer were.
    pub downs: usize,
    /// The longest wait, in seconds.
    pub wait_max: f64,
    /// The mean wait, in seconds.
    pub wait_mean: f64,
    /// Requests answered.
    pub answered: usize,
    /// Requests that wait at the end.
    pub left: usize,
    /// Seconds of all slots together, starting included.
    pub slot_seconds: f64,
}

/// Runs a scenario.
pub fn run(scenario: &Scenario) -> Course {
    let mut world = World::new(scenario);
    let looks = (scenario.seconds / LOOK_SECONDS) as usize;
    let steps = (LOOK_SECONDS / STEP_SECONDS) as usize;
    let mut course = Course {
        points: Vec::with_capacity(looks),
        ups: 0,
        downs: 0,
        wait_max: 0.0,
        wait_mean: 0.0,
        answered: 0,
        left: 0,
        slot_seconds: 0.0,
    };
    let mut law = Law::new(scenario.terms.min);
    world.want(0.0, law.wanted(), 0.0);
    for look in 0..looks {
        (0..steps).for_each(|step| world.step((look * steps + step) as f64 * STEP_SECONDS));
        let at = (look + 1) as f64 * LOOK_SECONDS;
        let before = law.wanted();
        let wanted = law.step(at, &scenario.terms, &world.seen(at));
        course.ups += usize::from(before < wanted);
        course.downs += usize::from(wanted < before);
        world.want(at, wanted, scenario.start_seconds);
        course.slot_seconds += LOOK_SECONDS * wanted as f64;
        course.points.push(world.point(at, wanted));
    }
    (course.wait_max, course.answered) = (world.wait_max, world.answered);
    course.wait_mean = world.wait_sum / (world.begun.max(1) as f64);
    course.left = world.line.len();
    course
}

/// Everything but the law.
struct World<'a> {
    scenario: &'a Scenario,
    /// When those that wait came.
    line: VecDeque<f64>,
    /// When those in slots end, in microseconds.
    busy: BinaryHeap<Reverse<u64>>,
    ready: usize,
    /// When slots that start are ready.
    starting: VecDeque<f64>,
    random: u64,
    /// What has come of the next request.
    due: f64,
    came: usize,
    begun: usize,
    answered: usize,
    /// When answers came, lately.
    answers: VecDeque<f64>,
    used: f64,
    wait_max: f64,
    wait_sum: f64,
    wait_lately: f64,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        World {
            scenario,
            line: VecDeque::new(),
            busy: BinaryHeap::new(),
            ready: 0,
            starting: VecDeque::new(),
            random: scenario.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            due: 0.0,
            came: 0,
            begun: 0,
            answered: 0,
            answers: VecDeque::new(),
            used: 0.0,
            wait_max: 0.0,
            wait_sum: 0.0,
            wait_lately: 0.0,
        }
    }

    /// A number between 0 and 1 (xorshift64*, Vigna 2016).
    fn chance(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// How much of a request lies between two: one in even streams, by the exponential distribution in noisy ones.
    fn gap(&mut self) -> f64 {
        match self.scenario.shape {
            Shape::Noise => -(1.0 - self.chance()).ln(),
            _ => 1.0,
        }
    }

    fn step(&mut self, now: f64) {
        while self.starting.front().is_some_and(|at| *at <= now) {
            self.starting.pop_front();
            self.ready += 1;
        }
        while self.busy.peek().is_some_and(|Reverse(end)| (*end as f64) * 1e-6 <= now) {
            self.busy.pop();
            self.answered += 1;
            self.answers.push_back(now);
        }
        while self.answers.front().is_some_and(|at| *at + RATE_SECONDS < now) {
            self.answers.pop_front();
        }
        let scenario = self.scenario;
        self.due -= scenario.rate * scenario.shape.share(now, scenario.seconds) * STEP_SECONDS;
        while self.due < 0.0 {
            self.due += self.gap();
            self.line.push_back(now);
            self.came += 1;
        }
        while self.busy.len() < self.ready * scenario.places {
            let Some(came) = self.line.pop_front() else { break };
            let wait = now - came;
            self.begun += 1;
            self.wait_sum += wait;
            self.wait_max = self.wait_max.max(wait);
            self.wait_lately = self.wait_lately.max(wait);
            self.busy.push(Reverse(((now + scenario.service_seconds) * 1e6) as u64));
        }
        if !(self.line.is_empty() && self.busy.is_empty()) {
            self.used = now;
        }
    }

    fn seen(&self, now: f64) -> Seen {
        let requests = self.line.len() + self.busy.len();
        // Little's law: those that wait, over those that are answered in a second.
        let rate = self.answers.len() as f64 / RATE_SECONDS;
        let waited = self.line.front().map_or(0.0, |came| now - came);
        let queue_seconds = if 0.0 < rate { self.line.len() as f64 / rate } else { waited };
        Seen {
            ready: self.ready,
            requests,
            queue_seconds,
            answers: rate,
            tokens: 0.0,
            idle_seconds: if requests == 0 { now - self.used } else { 0.0 },
            start_seconds: self.scenario.start_seconds,
        }
    }

    fn want(&mut self, now: f64, wanted: usize, start_seconds: f64) {
        while self.ready + self.starting.len() < wanted {
            self.starting.push_back(now + start_seconds);
        }
        while wanted < self.ready + self.starting.len() {
            // One that has not started yet goes first. Those that end finish what they have.
            if self.starting.pop_back().is_none() {
                self.ready -= 1;
            }
        }
    }

    fn point(&mut self, at: f64, wanted: usize) -> Point {
        let rate = std::mem::take(&mut self.came) as f64 / LOOK_SECONDS;
        let wait_seconds = std::mem::take(&mut self.wait_lately);
        let requests = self.line.len() + self.busy.len();
        Point { at, rate, requests, wanted, ready: self.ready, wait_seconds }
    }
}
