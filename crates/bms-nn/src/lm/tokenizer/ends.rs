//! The tokens that end an answer.

/// Texts of tokens after which a model has nothing more to say: end of text, of a turn, of a message.
///
/// Files name one or two such tokens and models use more; the list is that of llama.cpp, which every
/// converted model has been tried with.
pub(super) const ENDS: [&str; 19] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];

/// Of the texts of [`ENDS`] that a vocabulary has, those that end an answer.
///
/// In the vocabularies with several channels `<|end|>` ends a message and not the answer.
pub(super) fn choose<'t>(present: &[&'t str]) -> Vec<&'t str> {
    let has = |text: &str| present.contains(&text);
    let calls = has("<|call|>") || has("<|calls|>");
    let channels = calls && (has("<|return|>") || has("<|flush|>"));
    present.iter().copied().filter(|text| !(channels && *text == "<|end|>")).collect()
}
