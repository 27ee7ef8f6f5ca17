//! All weights of a transformer, one after the other.

use super::{Dense, FeedForward, Layer, Norms, Transformer};
use crate::lm::guard::Weight;

impl Transformer {
    /// Every weight: matrices in the order in which `build` makes them, numbers between them in any.
    pub(in crate::lm) fn weights(&mut self) -> Vec<Weight<'_>> {
        let mut all = vec![Weight::Matrix(&mut self.model.embedding)];
        if let Some(output) = &mut self.model.output {
            output.weights(&mut all);
        }
        self.model.layers.iter_mut().for_each(|layer| layer.weights(&mut all));
        all.push(Weight::numbers(&mut self.model.norm));
        all.extend(self.ropes.iter_mut().map(|rope| Weight::numbers(rope.frequencies_mut())));
        all
    }
}

impl Layer {
    fn weights<'a>(&'a mut self, all: &mut Vec<Weight<'a>>) {
        let Layer { q, k, v, o, norms, feed_forward, window: _, rope: _ } = self;
        [q, k, v, o].into_iter().for_each(|linear| linear.weights(all));
        norms.weights(all);
        match feed_forward {
            FeedForward::Dense(Dense { gate, up, down }) => {
                [gate, up, down].into_iter().for_each(|linear| linear.weights(all));
            }
            FeedForward::Mixture(mixture) => mixture.weights(all),
        }
    }
}

impl Norms {
    fn weights<'a>(&'a mut self, all: &mut Vec<Weight<'a>>) {
        let Norms { attention, query, key, after_attention, feed_forward, after_feed_forward } = self;
        let optional = [query, key, after_attention, after_feed_forward].into_iter().flatten();
        all.extend([attention, feed_forward].into_iter().chain(optional).map(|norm| Weight::numbers(norm)));
    }
}
