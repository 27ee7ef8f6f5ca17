//! Embeddings of a decoder: its hidden states, pooled, computed between the steps of answers.

use bms_nn::lm::{LogitRows, Segment};
use bms_wire::{Code, Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::lm::cache::{Cache, Chain};
use crate::lm::core::Core;

/// What becomes of the hidden states of an input's tokens. The vector has length one then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The last one, of which the model saw everything.
    Last,
}

type Reply = Box<dyn FnOnce(Result<Vec<Vec<f32>>>) + Send>;

/// Inputs to embed.
pub(crate) struct Embedding {
    inputs: Vec<Input>,
    pooling: Pooling,
    reply: Reply,
}

struct Input {
    tokens: Vec<u32>,
    chain: Chain,
    vector: Vec<f32>,
    /// The chain is given back then.
    done: bool,
}

impl Embedding {
    pub(crate) fn new(
        inputs: Vec<Vec<u32>>,
        pooling: Pooling,
        reply: impl FnOnce(Result<Vec<Vec<f32>>>) + Send + 'static,
    ) -> Embedding {
        let inputs = inputs.into_iter().map(|tokens| Input {
            tokens,
            chain: Chain::default(),
            vector: Vec::new(),
            done: false,
        });
        Embedding { inputs: inputs.collect(), pooling, reply: Box::new(reply) }
    }

    /// Forgets what was computed of it.
    pub(crate) fn begin_again(&mut self, cache: &mut Cache) {
        for input in &mut self.inputs {
            cache.release(&mut input.chain);
            input.vector.clear();
            input.done = false;
        }
    }

    pub(crate) fn reply(self, answer: Result<Vec<Vec<f32>>>) {
        // A reply that panics is its caller's fault and must not end the thread.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.reply)(answer)));
    }
}

impl Core {
    /// Computes a piece of the first embedding that waits; says whether anything was computed.
    pub(crate) fn embed(&mut self) -> bool {
        let Some(mut embedding) = self.embeddings.pop_front() else { return false };
        let result = self.embed_piece(&mut embedding);
        let done = embedding.inputs.iter().all(|input| input.done);
        match result {
            Ok(0) if !done => {
                self.embeddings.push_front(embedding);
                false
            }
            Ok(_) if !done => {
                self.embeddings.push_front(embedding);
                true
            }
            Ok(_) => {
                self.metrics.embedded += embedding.inputs.len() as u64;
                let vectors = self.close(&mut embedding);
                self.embedded.push((embedding, Ok(vectors)));
                true
            }
            Err(error) => {
                self.close(&mut embedding);
                self.embedded.push((embedding, Err(error)));
                true
            }
        }
    }

    /// Tells those who asked. Metrics are to be published first: whoever has an answer may ask for them.
    pub(crate) fn send_embedded(&mut self) {
        for (embedding, answer) in self.embedded.drain(..) {
            embedding.reply(answer);
        }
    }

    /// Whether an embedding waits for pages that answers hold. No new answers begin then.
    pub(crate) fn embedding_starves(&self) -> bool {
        let input =
            self.embeddings.front().and_then(|embedding| embedding.inputs.iter().find(|input| !input.done));
        input.is_some_and(|input| {
            let needed = self.cache.pages_for(input.tokens.len()) - input.chain.pages.len();
            self.cache.available() < needed
        })
    }

    fn close(&mut self, embedding: &mut Embedding) -> Vec<Vec<f32>> {
        let inputs = embedding.inputs.iter_mut();
        inputs
            .map(|input| {
                self.cache.release(&mut input.chain);
                let mut vector = std::mem::take(&mut input.vector);
                let length = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
                if 0.0 < length {
                    vector.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
                }
                vector
            })
            .collect()
    }

    /// As many tokens as a step has time for; how many they were.
    fn embed_piece(&mut self, embedding: &mut Embedding) -> Result<usize> {
        let budget = self.cost.budget(self.running.len());
        let mut left = budget;
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        for (at, input) in embedding.inputs.iter_mut().enumerate() {
            if left == 0 || input.done {
                continue;
            }
            let rest = input.tokens.len() - input.chain.computed;
            // An input that fits into a step of its own is not cut.
            if left < rest && rest <= budget && !pieces.is_empty() {
                continue;
            }
            // All pages at once: half an input holds what others need.
            if !self.cache.reserve(&mut input.chain, input.tokens.len(), &mut *self.decoder) {
                if input.chain.computed == 0 {
                    self.cache.release(&mut input.chain);
                }
                break;
            }
            let take = rest.min(left);
            left -= take;
            pieces.push((at, take));
        }
        if pieces.is_empty() {
            return Ok(0);
        }
        let segments: Vec<Segment<'_>> = pieces
            .iter()
            .map(|(at, take)| {
                let Input { tokens, chain, .. } = &embedding.inputs[*at];
                Segment {
                    tokens: &tokens[chain.computed..chain.computed + take],
                    start: chain.computed,
                    pages: &chain.pages,
                    logits: LogitRows::None,
                    adapter: None,
                }
            })
            .collect();
        let (mut states, decoder) = (Vec::new(), &mut self.decoder);
        let passed = catch_unwind(AssertUnwindSafe(|| decoder.hidden(&segments, &mut states)));
        passed.unwrap_or_else(|_| Err(Error::new(Code::Internal, "the decoder failed on this input")))?;
        let (total, width) =
            (pieces.iter().map(|(_, take)| take).sum::<usize>(), self.decoder.info().d_model);
        if states.len() != total * width {
            let message = format!("the decoder gave {} values, not {}", states.len(), total * width);
            return Err(Error::new(Code::Internal, message));
        }
        let mut rows = states.chunks(width);
        for (at, take) in pieces {
            let input = &mut embedding.inputs[at];
            input.vector.resize(width, 0.0);
            for row in rows.by_ref().take(take) {
                match embedding.pooling {
                    Pooling::Mean => input.vector.iter_mut().zip(row).for_each(|(sum, v)| *sum += v),
                    Pooling::Last => input.vector.copy_from_slice(row),
                }
            }
            input.chain.computed += take;
            if input.chain.computed == input.tokens.len() {
                input.done = true;
                self.cache.release(&mut input.chain);
            }
        }
        Ok(total)
    }
}
