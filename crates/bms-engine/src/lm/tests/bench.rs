//! What the scheduler itself costs.

use std::time::Instant;

use crate::lm::Sampling;
use crate::lm::sample::{Place, Sampler, Scratch};

#[test]
fn sampling_is_a_small_share_of_a_step() {
    let logits: Vec<f32> = (0..150_000).map(|i| ((i * 7919) % 100_003) as f32 / 5000.0 - 10.0).collect();
    let place = |position| Place { position, allowed: None, forbidden: &[], logprobs: None };
    let cases = [
        Sampling::default(),
        Sampling { temperature: 0.8, ..Sampling::default() },
        Sampling { temperature: 0.8, top_p: 0.95, ..Sampling::default() },
        Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, ..Sampling::default() },
    ];
    for sampling in cases {
        let (sampler, mut scratch) = (Sampler::new(sampling.clone(), 1, 0, &[]), Scratch::default());
        let mut fastest = f64::INFINITY;
        for position in 0..20 {
            let mut row = logits.clone();
            let begin = Instant::now();
            sampler.choose(&mut row, &place(position), &mut scratch).unwrap();
            fastest = fastest.min(begin.elapsed().as_secs_f64());
        }
        println!("{:>8.1} us  {sampling:?}", fastest * 1e6);
        // 16 rows of it in 32 ms, in a build without optimisation ten times that.
        let most = if cfg!(debug_assertions) { 0.1 } else { 0.002 };
        assert!(fastest < most, "{fastest}");
    }
}
