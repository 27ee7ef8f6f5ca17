//! Functions between the products of a feed-forward network.

use crate::pieces::for_pieces;
use crate::simd::{LANES, Simd, gelu, gelu_tanh, kernel, silu};
use crate::{Isa, Pool};

/// A function of single numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x / (1 + e^-x)`, also known as swish.
    Silu,
    /// `x * (1 + erf(x / √2)) / 2` (<https://arxiv.org/abs/1606.08415>).
    Gelu,
    /// The usual approximation of [`Activation::Gelu`] by the hyperbolic tangent.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// Applies the function to every number.
pub fn activate(pool: &Pool, activation: Activation, x: &mut [f32]) {
    for_pieces(pool, x, 1, &|_, x| activate_row(pool.isa(), activation, x));
}

/// `gate = activation(gate) * up`, number by number.
///
/// # Panics
/// When the two differ in length.
pub fn gate(pool: &Pool, activation: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "as many gates as values");
    for_pieces(pool, gate, 1, &|start, gate| {
        gate_row(pool.isa(), activation, gate, &up[start..start + gate.len()]);
    });
}

/// [`activate`] on the calling thread.
pub fn activate_row(isa: Isa, activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Silu => silu_of(isa, x),
        Activation::Gelu => gelu_of(isa, x),
        Activation::GeluTanh => gelu_tanh_of(isa, x),
        Activation::Relu => relu_of(isa, x),
    }
}

/// [`gate`] on the calling thread.
///
/// # Panics
/// When the two differ in length.
pub fn gate_row(isa: Isa, activation: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "as many gates as values");
    match activation {
        Activation::Silu => silu_gate(isa, gate, up),
        Activation::Gelu => gelu_gate(isa, gate, up),
        Activation::GeluTanh => gelu_tanh_gate(isa, gate, up),
        Activation::Relu => relu_gate(isa, gate, up),
    }
}

kernel! {
    fn silu_of(x: &mut [f32]) = of::<_, Silu>;
    fn gelu_of(x: &mut [f32]) = of::<_, Gelu>;
    fn gelu_tanh_of(x: &mut [f32]) = of::<_, GeluTanh>;
    fn relu_of(x: &mut [f32]) = of::<_, Relu>;
    fn silu_gate(gate: &mut [f32], up: &[f32]) = gated::<_, Silu>;
    fn gelu_gate(gate: &mut [f32], up: &[f32]) = gated::<_, Gelu>;
    fn gelu_tanh_gate(gate: &mut [f32], up: &[f32]) = gated::<_, GeluTanh>;
    fn relu_gate(gate: &mut [f32], up: &[f32]) = gated::<_, Relu>;
}

/// An activation of whole vectors.
trait Function {
    fn apply<S: Simd>(s: S, x: S::V) -> S::V;
}

macro_rules! functions {
    ($( $name:ident = |$s:ident, $x:ident| $body:expr; )+) => { $(
        struct $name;

        impl Function for $name {
            #[inline(always)]
            fn apply<S: Simd>($s: S, $x: S::V) -> S::V {
                $body
            }
        }
    )+ };
}

functions! {
    Silu = |s, x| silu(s, x);
    Gelu = |s, x| gelu(s, x);
    GeluTanh = |s, x| gelu_tanh(s, x);
    Relu = |s, x| s.max(s.splat(0.0), x);
}

#[inline(always)]
fn of<S: Simd, F: Function>(s: S, x: &mut [f32]) {
    let (vectors, rest) = x.as_chunks_mut::<LANES>();
    for x in vectors {
        let v = F::apply(s, s.load(x));
        s.store(x, v);
    }
    let last = F::apply(s, s.load_part(rest, 0.0));
    s.store_part(rest, last);
}

#[inline(always)]
fn gated<S: Simd, F: Function>(s: S, gate: &mut [f32], up: &[f32]) {
    let (gates, gate_rest) = gate.as_chunks_mut::<LANES>();
    let (ups, up_rest) = up.as_chunks::<LANES>();
    for (gate, up) in gates.iter_mut().zip(ups) {
        let v = s.mul(F::apply(s, s.load(gate)), s.load(up));
        s.store(gate, v);
    }
    let last = s.mul(F::apply(s, s.load_part(gate_rest, 0.0)), s.load_part(up_rest, 0.0));
    s.store_part(gate_rest, last);
}

#[cfg(test)]
mod tests;
