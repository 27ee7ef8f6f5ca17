//! Storage formats of weights, as GGUF files hold them.

macro_rules! formats {
    ($( $(#[doc = $doc:literal])+ $name:ident => $ggml:literal, $text:literal, $len:literal, $bytes:literal; )+) => {
        /// How the values of a weight tensor are stored: blocks of a fixed number of values of one row.
        ///
        /// The block layouts are those of ggml
        /// (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, `ggml-common.h`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)]
        pub enum Format { $( $(#[doc = $doc])+ $name, )+ }

        impl Format {
            /// Every format.
            pub const ALL: &'static [Format] = &[ $( Format::$name, )+ ];

            /// The number GGUF files name it by (`ggml_type`).
            pub fn ggml(self) -> u32 { match self { $( Format::$name => $ggml, )+ } }

            /// The format with this number in GGUF files, when it is supported.
            pub fn from_ggml(number: u32) -> Option<Format> { match number { $( $ggml => Some(Format::$name), )+ _ => None } }

            /// The name, in lower case.
            pub fn as_str(self) -> &'static str { match self { $( Format::$name => $text, )+ } }

            /// The format with this name, in any case.
            pub fn parse(name: &str) -> Option<Format> {
                match name.to_ascii_lowercase().as_str() { $( $text => Some(Format::$name), )+ _ => None }
            }

            /// Values of one block.
            pub fn block_len(self) -> usize { match self { $( Format::$name => $len, )+ } }

            /// Bytes of one block.
            pub fn block_bytes(self) -> usize { match self { $( Format::$name => $bytes, )+ } }
        }
    };
}

formats! {
    /// 32-bit floating point.
    F32 => 0, "f32", 1, 4;
    /// IEEE half precision.
    F16 => 1, "f16", 1, 2;
    /// The upper half of 32-bit floating point.
    BF16 => 30, "bf16", 1, 2;
    /// 4-bit codes, one scale for 32 values.
    Q4_0 => 2, "q4_0", 32, 18;
    /// 4-bit codes, one scale and one minimum for 32 values.
    Q4_1 => 3, "q4_1", 32, 20;
    /// 5-bit codes, one scale for 32 values.
    Q5_0 => 6, "q5_0", 32, 22;
    /// 5-bit codes, one scale and one minimum for 32 values.
    Q5_1 => 7, "q5_1", 32, 24;
    /// 8-bit codes, one scale for 32 values.
    Q8_0 => 8, "q8_0", 32, 34;
    /// 4-bit codes; 6-bit scales and minima for 32 values each, scaled in turn for 256.
    Q4_K => 12, "q4_k", 256, 144;
    /// 5-bit codes; 6-bit scales and minima for 32 values each, scaled in turn for 256.
    Q5_K => 13, "q5_k", 256, 176;
    /// 6-bit codes; 8-bit scales for 16 values each, scaled in turn for 256.
    Q6_K => 14, "q6_k", 256, 210;
}

impl Format {
    /// Bytes of a row of `cols` values; `None` when it is not a whole number of blocks or does not fit.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        match cols.is_multiple_of(self.block_len()) {
            true => (cols / self.block_len()).checked_mul(self.block_bytes()),
            false => None,
        }
    }

    /// Whether values are stored as codes with scales rather than as numbers.
    pub fn is_quantised(self) -> bool {
        self.block_len() != 1
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
