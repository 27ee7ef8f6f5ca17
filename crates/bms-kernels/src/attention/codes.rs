//! Keys and values as numbers.

use super::chunk::{self, Block, Rows};
use crate::Isa;
use crate::kv::HeadPage;
use crate::simd::{HALF, LANES, Simd, kernel};

/// How keys and values are stored, up to a scale for each token.
pub(super) trait Codes: Sized {
    type Code: Copy + 'static;

    fn load<S: Simd>(s: S, from: &[Self::Code; LANES]) -> S::V;
    /// Eight numbers, and zeros above.
    fn load_low<S: Simd>(s: S, from: &[Self::Code; HALF]) -> S::V;
    /// [`chunk::advance_halves`] or its like.
    fn advance(isa: Isa, block: &Block<'_, Self>, rows: Rows<'_>);
    /// Converts codes to numbers.
    fn convert(isa: Isa, from: &[[Self::Code; LANES]], to: &mut [[f32; LANES]]);
}

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $name:ident: $code:ty = $load:ident, $load_low:ident, $advance:ident, $convert:ident; )+) => { $(
        $(#[doc = $doc])+
        pub(super) struct $name;

        impl Codes for $name {
            type Code = $code;

            #[inline(always)]
            fn load<S: Simd>(s: S, from: &[$code; LANES]) -> S::V {
                s.$load(from)
            }

            #[inline(always)]
            fn load_low<S: Simd>(s: S, from: &[$code; HALF]) -> S::V {
                s.$load_low(from)
            }

            fn advance(isa: Isa, block: &Block<'_, Self>, rows: Rows<'_>) {
                chunk::$advance(isa, block, rows);
            }

            fn convert(isa: Isa, from: &[[$code; LANES]], to: &mut [[f32; LANES]]) {
                $convert(isa, from, to);
            }
        }

        kernel! { fn $convert(from: &[[$code; LANES]], to: &mut [[f32; LANES]]) = convert_all::<_, $name>; }
    )+ };
}

codes! {
    /// Half precision.
    Halves: u16 = load_f16, load_low_f16, advance_halves, convert_halves;
    /// Eight bits.
    Bytes: i8 = load_i8, load_low_i8, advance_bytes, convert_bytes;
    /// Numbers, once converted for all rows of a tile.
    Floats: f32 = load, load_low, advance_floats, convert_floats;
}

/// One head's part of a page.
pub(super) struct View<'a, C: Codes> {
    /// For each dimension, of 16 tokens.
    pub(super) keys: &'a [[C::Code; LANES]],
    pub(super) key_scales: Option<&'a [f32; LANES]>,
    /// For each of 16 tokens, all dimensions.
    pub(super) values: &'a [C::Code],
    pub(super) value_scales: Option<&'a [f32; LANES]>,
    /// What will be read after this part of a page: another part's keys and values. Nothing when this is not memory of the
    /// store.
    pub(super) ahead: Option<(*const u8, *const u8)>,
}

impl<C: Codes> Clone for View<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Codes> Copy for View<'_, C> {}

impl<'a, C: Codes> View<'a, C> {
    #[inline(always)]
    pub(super) fn new(page: HeadPage<'a>, ahead: HeadPage<'_>) -> View<'a, C> {
        let (keys, values) = (typed::<C::Code>(page.keys), typed::<C::Code>(page.values));
        View {
            keys: keys.as_chunks().0,
            key_scales: page.key_scales.first_chunk(),
            values,
            value_scales: page.value_scales.first_chunk(),
            ahead: Some((ahead.keys.as_ptr(), ahead.values.as_ptr())),
        }
    }

    /// A view of nothing, to fill arrays with.
    #[inline(always)]
    pub(super) fn empty() -> View<'a, C> {
        View { keys: &[], key_scales: None, values: &[], value_scales: None, ahead: None }
    }
}

/// The bytes of a page as codes, whose every bit pattern is one.
#[inline(always)]
fn typed<T: Copy>(bytes: &[u8]) -> &[T] {
    // SAFETY: `T` is `u16`, `i8` or `f32`, to which any bits are a value.
    let (before, codes, after) = unsafe { bytes.align_to::<T>() };
    debug_assert!(before.is_empty() && after.is_empty(), "pages are aligned");
    codes
}

#[inline(always)]
fn convert_all<S: Simd, C: Codes>(s: S, from: &[[C::Code; LANES]], to: &mut [[f32; LANES]]) {
    for (from, to) in from.iter().zip(to) {
        s.store(to, C::load(s, from));
    }
}

/// Converts a page's codes to numbers, for rows that will use them often. Scales stay apart.
pub(super) fn convert<'a, C: Codes>(
    isa: Isa,
    page: View<'a, C>,
    keys: &'a mut [[f32; LANES]],
    values: &'a mut [[f32; LANES]],
) -> View<'a, Floats> {
    // A page's values are 16 times as many as there are dimensions, as its keys are.
    let dims = page.keys.len();
    C::convert(isa, page.keys, keys);
    C::convert(isa, page.values.as_chunks().0, values);
    View {
        keys: &keys[..dims],
        key_scales: page.key_scales,
        values: values[..dims].as_flattened(),
        value_scales: page.value_scales,
        ahead: None,
    }
}
