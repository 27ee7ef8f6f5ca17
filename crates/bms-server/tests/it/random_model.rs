//! A small language model with random weights, as a GGUF file: its tokens are bytes.

use std::path::Path;

use bms_nn::lm::gguf::{Entry, GgufWriter, Pair, TensorKind};

/// How large it is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) context: u32,
}

/// Ends an answer; the weights hardly ever choose it.
const END: &str = "<|im_end|>";
const VOCABULARY: usize = 257;

/// Writes the model. The same size gives the same weights.
pub(crate) fn write(path: &Path, size: Size) {
    let Size { width, layers, context } = size;
    let (heads, ffn) = (width / 32, 2 * width);
    let kind = TensorKind::from_number(1).unwrap();
    let real = TensorKind::from_number(0).unwrap();
    let entry = |name: String, kind, dims: &[usize]| Entry { name, kind, dims: dims.to_vec() };
    let mut entries = vec![
        entry("token_embd.weight".into(), kind, &[width, VOCABULARY]),
        entry("output_norm.weight".into(), real, &[width]),
        entry("output.weight".into(), kind, &[width, VOCABULARY]),
    ];
    for layer in 0..layers {
        let mut add = |name: &str, kind, dims: &[usize]| {
            entries.push(entry(format!("blk.{layer}.{name}.weight"), kind, dims));
        };
        for name in ["attn_norm", "ffn_norm"] {
            add(name, real, &[width]);
        }
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            add(name, kind, &[width, width]);
        }
        add("ffn_gate", kind, &[width, ffn]);
        add("ffn_up", kind, &[width, ffn]);
        add("ffn_down", kind, &[ffn, width]);
    }
    let whole = |n: usize| Pair::U32(n.try_into().unwrap());
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| letter(byte).to_string().into_bytes()).collect();
    tokens.push(END.into());
    let mut kinds = vec![1; VOCABULARY];
    kinds[VOCABULARY - 1] = 3;
    let pairs = [
        ("general.architecture", Pair::Text("llama".into())),
        ("general.alignment", Pair::U32(32)),
        ("llama.block_count", whole(layers)),
        ("llama.context_length", Pair::U32(context)),
        ("llama.embedding_length", whole(width)),
        ("llama.feed_forward_length", whole(ffn)),
        ("llama.attention.head_count", whole(heads)),
        ("llama.attention.layer_norm_rms_epsilon", Pair::F32(1e-5)),
        ("llama.rope.freq_base", Pair::F32(10_000.0)),
        ("tokenizer.ggml.model", Pair::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Pair::Text("gpt-2".into())),
        ("tokenizer.ggml.tokens", Pair::Texts(tokens)),
        ("tokenizer.ggml.token_type", Pair::Wholes(kinds)),
        ("tokenizer.ggml.merges", Pair::Texts(Vec::new())),
        ("tokenizer.ggml.eos_token_id", whole(VOCABULARY - 1)),
        (
            "tokenizer.chat_template",
            Pair::Text(
                "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ".into(),
            ),
        ),
    ];
    let pairs: Vec<(String, Pair)> = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut writer = GgufWriter::new(file, &pairs, entries.clone()).unwrap();
    let mut state = 1u64;
    for entry in &entries {
        let values = entry.dims.iter().product::<usize>();
        let scale = 2.0 / (entry.dims[0] as f32).sqrt();
        for _ in 0..values {
            if entry.kind == real {
                writer.write(&1.0f32.to_le_bytes()).unwrap();
            } else {
                writer.write(&half(scale * fraction(&mut state)).to_le_bytes()).unwrap();
            }
        }
    }
    writer.finish().unwrap();
}

/// A number in [-1, 1).
fn fraction(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
}

/// The half-precision number nearest to zero from this one; of numbers that are none of the smallest.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    if exponent <= 0 {
        return 0;
    }
    ((bits >> 16) & 0x8000) as u16 | (exponent as u16) << 10 | ((bits >> 13) & 0x3ff) as u16
}

/// The character by which GPT-2's vocabulary writes a byte.
fn letter(byte: u8) -> char {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match plain(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|other| !plain(*other)).count();
            char::from_u32(256 + before as u32).unwrap()
        }
    }
}
