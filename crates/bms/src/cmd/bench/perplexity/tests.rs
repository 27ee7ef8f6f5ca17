use bms_nn::lm::DecoderInfo;

use super::*;

#[test]
fn a_probability_is_a_share_of_all() {
    let logits = [1.0f32, 2.0, 3.0].map(f32::ln);
    assert!((negative_log_probability(&logits, 2) - (6.0f64 / 3.0).ln()).abs() < 1e-6);
    // Far from zero, where the exponential would overflow.
    let high = logits.map(|logit| logit + 500.0);
    assert!((negative_log_probability(&high, 0) - 6.0f64.ln()).abs() < 1e-4);
}

/// Says with certainty that each token is followed by the next number, and remembers what it was shown.
struct Counting {
    info: DecoderInfo,
    seen: Vec<u32>,
}

impl Decoder for Counting {
    fn info(&self) -> &DecoderInfo {
        &self.info
    }

    fn forward(&mut self, batch: &[Segment<'_>], logits: &mut Vec<f32>) -> Result<()> {
        for segment in batch {
            assert_eq!(segment.start, self.seen.len());
            for token in segment.tokens {
                self.seen.push(*token);
                if segment.logits == LogitRows::All {
                    let next = *token as usize + 1;
                    logits.extend((0..self.info.vocab).map(|id| if id == next { 0.0 } else { -3.0 }));
                }
            }
        }
        Ok(())
    }

    fn copy_page(&mut self, _: PageId, _: PageId) {}
}

#[test]
fn the_second_half_of_a_chunk_is_scored() {
    let info = DecoderInfo {
        name: String::new(),
        arch: String::new(),
        vocab: 20,
        context: 16,
        layers: 1,
        d_model: 1,
        pages: 1,
        page_tokens: 16,
        kv_bytes_per_token: 1,
        parameters: 1,
        weight_bytes: 1,
    };
    let mut decoder = Counting { info, seen: Vec::new() };
    let mut score = Score::default();
    add_chunk(&mut decoder, &[3, 4, 5, 6, 7, 8, 9, 10], Some(1), &mut score).unwrap();
    assert_eq!(decoder.seen, [1, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(score.tokens, 3);
    let expected = 1.0 + 19.0 * (-3.0f64).exp();
    assert!((score.perplexity() - expected).abs() < 1e-6, "{}", score.perplexity());
    assert!(score.error() < 1e-6);
}
