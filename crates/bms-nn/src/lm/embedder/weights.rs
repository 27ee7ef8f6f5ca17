//! All weights of an encoder, one after the other.

use super::{Embedder, Layer, Norm};
use crate::lm::guard::Weight;

impl Embedder {
    /// The bytes of every weight, as [`crate::lm::Decoder::weights_mut`] gives those of a decoder.
    pub fn weights_mut(&mut self) -> Vec<&mut [u8]> {
        self.weights().into_iter().map(Weight::into_bytes).collect()
    }

    /// Every weight: matrices in the order in which `build` makes them, numbers between them in any.
    pub(in crate::lm) fn weights(&mut self) -> Vec<Weight<'_>> {
        let mut all = vec![Weight::Matrix(&mut self.embedding), Weight::Matrix(&mut self.positions)];
        all.push(Weight::numbers(&mut self.segment));
        self.norm.weights(&mut all);
        self.layers.iter_mut().for_each(|layer| layer.weights(&mut all));
        all
    }
}

impl Layer {
    fn weights<'a>(&'a mut self, all: &mut Vec<Weight<'a>>) {
        let Layer { q, k, v, o, attention_norm, up, down, norm } = self;
        [q, k, v, o, up, down].into_iter().for_each(|linear| linear.weights(all));
        [attention_norm, norm].into_iter().for_each(|norm| norm.weights(all));
    }
}

impl Norm {
    fn weights<'a>(&'a mut self, all: &mut Vec<Weight<'a>>) {
        let Norm { weight, bias } = self;
        all.extend([weight, bias].map(|numbers| Weight::numbers(numbers)));
    }
}
