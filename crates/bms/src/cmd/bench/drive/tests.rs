use std::collections::HashMap;

use bms_nn::lm::DecoderInfo;

use super::*;

/// Checks that every position is written before it is read, and by one sequence only.
struct Checked {
    info: DecoderInfo,
    /// What was written in which slot: sequence's first page and position.
    written: HashMap<(PageId, usize), (PageId, usize)>,
    passes: Vec<(usize, usize)>,
}

impl Checked {
    fn new() -> Checked {
        let info = DecoderInfo {
            name: "checked".to_owned(),
            arch: "none".to_owned(),
            vocab: 7,
            context: CACHE_TOKENS,
            layers: 1,
            d_model: 1,
            pages: CACHE_TOKENS / 16,
            page_tokens: 16,
            kv_bytes_per_token: 1,
            parameters: 1,
            weight_bytes: 1,
        };
        Checked { info, written: HashMap::new(), passes: Vec::new() }
    }
}

impl Decoder for Checked {
    fn info(&self) -> &DecoderInfo {
        &self.info
    }

    fn forward(&mut self, batch: &[Segment<'_>], logits: &mut Vec<f32>) -> Result<()> {
        for segment in batch {
            let slot = |position: usize| (segment.pages[position / 16], position % 16);
            for position in 0..segment.start {
                assert_eq!(self.written.get(&slot(position)), Some(&(segment.pages[0], position)));
            }
            for (index, token) in segment.tokens.iter().enumerate() {
                assert!((*token as usize) < self.info.vocab);
                let position = segment.start + index;
                assert!((slot(position).0 as usize) < self.info.pages);
                self.written.insert(slot(position), (segment.pages[0], position));
            }
            logits.extend(std::iter::repeat_n(0.0, self.info.vocab));
        }
        self.passes.push((batch.len(), batch.iter().map(|segment| segment.tokens.len()).sum()));
        Ok(())
    }

    fn copy_page(&mut self, _: PageId, _: PageId) {}
}

#[test]
fn the_works_are_what_they_say() {
    type Work = fn(&mut Driver<'_>) -> Result<f64>;
    let works: [(Work, Vec<(usize, usize)>); 3] = [
        (|driver| driver.prompt(), vec![(1, 512)]),
        (|driver| driver.generate(), vec![(1, 1); 128]),
        (|driver| driver.batch(), [vec![(1, 64); 16], vec![(16, 16); 32]].concat()),
    ];
    for (work, passes) in works {
        let mut decoder = Checked::new();
        assert!(0.0 < work(&mut Driver::new(&mut decoder)).unwrap());
        assert_eq!(decoder.passes, passes);
    }
}
