//! Keys and values as numbers.

use super::chunk::{self, Block, Rows};
use super::kernels::padded;
use crate::Isa;
use crate::kv::{HeadPage, PAGE_TOKENS};
use crate::simd::{HALF, LANES, Simd, kernel};

/// How keys and values are stored, up to a scale for each token.
pub(super) trait Codes: Sized {
    type Code: Copy + 'static;

    /// Whether a page's values stand in strips of sixteen dimensions, token after token, rather than in whole tokens: each
    /// strip is read from end to end, and the last is whole.
    const STRIPS: bool;

    fn load<S: Simd>(s: S, from: &[Self::Code; LANES]) -> S::V;
    /// Eight numbers, and zeros above.
    fn load_low<S: Simd>(s: S, from: &[Self::Code; HALF]) -> S::V;
    /// [`chunk::advance_halves`] or its like.
    fn advance(isa: Isa, block: &Block<'_, Self>, rows: Rows<'_>);
    /// Converts the codes of keys and values to numbers, values to strips.
    fn convert(isa: Isa, from: &View<'_, Self>, keys: &mut [[f32; LANES]], values: &mut [[f32; LANES]]);
}

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $name:ident: $code:ty = $load:ident, $load_low:ident, $advance:ident, $convert:ident, $strips:literal; )+) => { $(
        $(#[doc = $doc])+
        pub(super) struct $name;

        impl Codes for $name {
            type Code = $code;
            const STRIPS: bool = $strips;

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

            fn convert(isa: Isa, from: &View<'_, Self>, keys: &mut [[f32; LANES]], values: &mut [[f32; LANES]]) {
                $convert(isa, from, keys, values);
            }
        }

        kernel! {
            fn $convert(from: &View<'_, $name>, keys: &mut [[f32; LANES]], values: &mut [[f32; LANES]])
                = convert_all::<_, $name>;
        }
    )+ };
}

codes! {
    /// Half precision.
    Halves: u16 = load_f16, load_low_f16, advance_halves, convert_halves, false;
    /// Eight bits.
    Bytes: i8 = load_i8, load_low_i8, advance_bytes, convert_bytes, false;
    /// Numbers.
    Floats: f32 = load, load_low, advance_floats, convert_floats, false;
    /// Numbers that were converted for all rows of a tile.
    Strips: f32 = load, load_low, advance_strips, convert_strips, true;
}

/// One head's part of a page.
pub(super) struct View<'a, C: Codes> {
    /// For each dimension, of 16 tokens.
    pub(super) keys: &'a [[C::Code; LANES]],
    pub(super) key_scales: Option<&'a [f32; LANES]>,
    /// For each of 16 tokens, all dimensions; or strips.
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
fn convert_all<S: Simd, C: Codes>(
    s: S,
    from: &View<'_, C>,
    keys: &mut [[f32; LANES]],
    values: &mut [[f32; LANES]],
) {
    for (from, to) in from.keys.iter().zip(keys) {
        s.store(to, C::load(s, from));
    }
    for (t, token) in from.values.chunks_exact(from.keys.len()).enumerate() {
        let (vectors, rest) = token.as_chunks::<LANES>();
        for (from, strip) in vectors.iter().zip(values.chunks_exact_mut(PAGE_TOKENS)) {
            s.store(&mut strip[t], C::load(s, from));
        }
        if let Some(half) = rest.first_chunk::<HALF>() {
            s.store(&mut values[vectors.len() * PAGE_TOKENS + t], C::load_low(s, half));
        }
    }
}

/// Converts a page's codes to numbers, for rows that will use them often. Scales stay apart.
pub(super) fn convert<'a, C: Codes>(
    isa: Isa,
    page: View<'a, C>,
    keys: &'a mut [[f32; LANES]],
    values: &'a mut [[f32; LANES]],
) -> View<'a, Strips> {
    let dims = page.keys.len();
    C::convert(isa, &page, keys, values);
    View {
        keys: &keys[..dims],
        key_scales: page.key_scales,
        values: values[..padded(dims)].as_flattened(),
        value_scales: page.value_scales,
        ahead: None,
    }
}
