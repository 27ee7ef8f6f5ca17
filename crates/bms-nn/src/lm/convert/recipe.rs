//! Which tensor is stored in which format.
//!
//! The mixtures are those of `llama-quantize`, whose files are what others measure: the output matrix, and in
//! `_m` recipes half of the value and down projections, get more bits than the rest.

use bms_kernels::Format;

use crate::lm::{Arch, Hyper};

/// A named way to store a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe(&'static Row);

#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: &'static str,
    base: Format,
    mixed: bool,
    /// `general.file_type`.
    file_type: u32,
    about: &'static str,
}

const fn row(name: &'static str, base: Format, mixed: bool, file_type: u32, about: &'static str) -> Row {
    Row { name, base, mixed, file_type, about }
}

static ROWS: [Row; 11] = [
    row("f32", Format::F32, false, 0, "all values as they are computed with"),
    row("f16", Format::F16, false, 1, "half the size, values of half precision"),
    row("bf16", Format::BF16, false, 32, "half the size, the range of f32; what most models are trained in"),
    row("q8_0", Format::Q8_0, false, 7, "8.5 bits a weight, hardly any loss"),
    row("q6_k", Format::Q6_K, false, 18, "6.6 bits a weight, very little loss"),
    row("q5_k_m", Format::Q5_K, true, 17, "5.7 bits a weight, little loss"),
    row("q4_k_m", Format::Q4_K, true, 15, "4.8 bits a weight, the usual choice"),
    row("q5_1", Format::Q5_1, false, 9, "6 bits a weight in small blocks"),
    row("q5_0", Format::Q5_0, false, 8, "5.5 bits a weight in small blocks"),
    row("q4_1", Format::Q4_1, false, 3, "5 bits a weight in small blocks"),
    row("q4_0", Format::Q4_0, false, 2, "4.5 bits a weight in small blocks, the fastest"),
];

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Output,
    Value,
    Key,
    QueryKeyValue,
    AttentionOutput,
    Down,
    Other,
}

/// What the choice depends on beside a tensor's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    layers: usize,
    experts: usize,
    /// The large Llama 2 and 3, whose value projections are shared by eight heads.
    is_70b: bool,
    /// Whether the embedding is also the output matrix.
    tied: bool,
}

impl Shape {
    pub(super) fn new(hyper: &Hyper, tied: bool) -> Self {
        let is_70b = hyper.arch == Arch::Llama && hyper.layers == 80 && hyper.heads == 8 * hyper.kv_heads;
        let experts = hyper.experts.as_ref().map_or(0, |experts| experts.count);
        Shape { layers: hyper.layers, experts, is_70b, tied }
    }
}

impl Recipe {
    /// All recipes.
    pub fn all() -> impl Iterator<Item = Recipe> {
        ROWS.iter().map(Recipe)
    }

    /// The recipe with this name, `q4_k_m`.
    pub fn parse(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.name.eq_ignore_ascii_case(name)).map(Recipe)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What it is good for, in a few words.
    pub fn about(self) -> &'static str {
        self.0.about
    }

    /// The number a GGUF file gives for it.
    pub(super) fn file_type(self) -> u32 {
        self.0.file_type
    }

    /// The format of a tensor with this name and these dimensions, the length of a row first.
    pub(super) fn format(self, name: &str, dims: &[usize], shape: Shape) -> Format {
        if dims.len() < 2 || stays_exact(name) {
            return Format::F32;
        }
        let base = self.0.base;
        if !base.is_quantised() {
            return base;
        }
        fitting(self.wanted(name, shape), dims[0])
    }

    fn wanted(self, name: &str, shape: Shape) -> Format {
        let Row { base, mixed, .. } = *self.0;
        let layer = layer(name);
        let bits = |wanted: bool| if wanted { Format::Q6_K } else { base };
        match role(name, shape.tied) {
            Role::Output if base == Format::Q8_0 => base,
            Role::Output => Format::Q6_K,
            Role::Value | Role::Key if shape.experts == 8 => Format::Q8_0,
            Role::Value => match bits(mixed && has_more_bits(layer, shape.layers)) {
                Format::Q4_K if shape.is_70b => Format::Q5_K,
                format => format,
            },
            Role::Down => bits(mixed && has_more_bits(layer, shape.layers)),
            Role::AttentionOutput if mixed && shape.experts == 8 && base == Format::Q4_K => Format::Q5_K,
            Role::QueryKeyValue if mixed && base == Format::Q4_K => Format::Q5_K,
            Role::QueryKeyValue if mixed => Format::Q6_K,
            _ => base,
        }
    }
}

/// Tensors that are small and decide much: norms, the choice of experts, learnt positions.
fn stays_exact(name: &str) -> bool {
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    name.ends_with(".bias")
        || stem.ends_with("_norm")
        || stem.ends_with("ffn_gate_inp")
        || stem.ends_with("ffn_gate_inp_shexp")
        || matches!(stem, "position_embd" | "token_types")
}

/// The first and the last eighth of the layers, and every third between them.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || 7 * layers / 8 <= layer || (layer - eighth) % 3 == 2
}

/// What is stored where a row is not made of whole blocks: nearly the same bits in smaller blocks, or half
/// precision.
fn fitting(format: Format, cols: usize) -> Format {
    if format.row_bytes(cols).is_some() {
        return format;
    }
    let small = match format {
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        _ => Format::Q8_0,
    };
    if small.row_bytes(cols).is_some() { small } else { Format::F16 }
}

fn layer(name: &str) -> usize {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    number.and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
}

fn role(name: &str, tied: bool) -> Role {
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    match stem.rsplit('.').next().unwrap_or(stem) {
        "output" => Role::Output,
        "token_embd" if tied => Role::Output,
        "attn_v" => Role::Value,
        "attn_k" => Role::Key,
        "attn_qkv" => Role::QueryKeyValue,
        "attn_output" => Role::AttentionOutput,
        "ffn_down" | "ffn_down_exps" | "ffn_down_shexp" => Role::Down,
        _ => Role::Other,
    }
}
