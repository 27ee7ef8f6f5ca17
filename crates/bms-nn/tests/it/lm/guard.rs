//! Flipped bits of loaded weights: found, and put back from the model's own files.

use bms_kernels::{Format, Isa};
use bms_nn::lm::Decoder;
use bms_nn::lm::{
    Checked, Damage, LoadOptions, LogitRows, ModelFiles, Network, WeightGuard, load, weight_part,
};
use bms_wire::Code;

use super::hf::{Expected, FAMILIES, Files, context};
use super::{Sequence, options};

/// Bytes between two flips: a prime, so that they fall on every field of every format.
const STRIDE: usize = 499;

fn weights(network: &mut Network) -> Vec<&mut [u8]> {
    match network {
        Network::Decoder(decoder) => decoder.weights_mut(),
        Network::Embedder(embedder) => embedder.weights_mut(),
    }
}

fn pass(guard: &mut WeightGuard, network: &mut Network) -> Vec<Damage> {
    let weights = weights(network);
    let mut found = Vec::new();
    loop {
        let Checked { damage, pass_ended, .. } = guard.check_next(&weights).unwrap();
        found.extend(damage);
        if pass_ended {
            return found;
        }
    }
}

fn logits(network: &mut Network, tokens: &[u32]) -> Vec<u32> {
    match network {
        Network::Decoder(decoder) => {
            let rows = Sequence::new(8).extend(decoder, tokens, LogitRows::All);
            rows.iter().map(|value| value.to_bits()).collect()
        }
        Network::Embedder(embedder) => {
            let vectors = embedder.embed(&[tokens]).unwrap();
            vectors.concat().iter().map(|value| value.to_bits()).collect()
        }
    }
}

/// Flips a bit in every weight, many in large ones, and has each found and put back.
fn check(what: &str, files: &ModelFiles<'_>, options: &LoadOptions<'_>, tokens: &[u32]) {
    let mut network = load(files, options).unwrap();
    let mut guard = WeightGuard::new(&weights(&mut network)).unwrap();
    assert!(pass(&mut guard, &mut network).is_empty(), "{what}");
    let good: Vec<Vec<u8>> = weights(&mut network).into_iter().map(|bytes| bytes.to_vec()).collect();
    let before = logits(&mut network, tokens);
    let mut flips = 0;
    for (weight, bytes) in good.iter().enumerate() {
        for at in (flips % STRIDE % bytes.len()..bytes.len()).step_by(STRIDE) {
            flips += 1;
            weights(&mut network)[weight][at] ^= 1 << (flips % 8);
            let found = pass(&mut guard, &mut network);
            let [damage] = &found[..] else { panic!("{what}: {found:?} for a flip in {weight} at {at}") };
            assert!(damage.weight == weight && damage.bytes.contains(&at), "{what}: {damage:?}");
            let part = weight_part(files, options, weight, &damage.bytes).unwrap();
            assert_eq!(guard.repair(&mut weights(&mut network), damage, &part).unwrap(), 1, "{what}");
        }
    }
    for (now, good) in weights(&mut network).into_iter().zip(&good) {
        assert!(*now == **good, "{what}");
    }
    assert_eq!(logits(&mut network, tokens), before, "{what}");
}

#[test]
fn flips_in_any_weight_of_any_family_are_found_and_put_back() {
    for name in FAMILIES {
        let files = Files::of(name);
        let tokens = Expected::of(name).tokens("tokens");
        let options = LoadOptions { context: context(name), ..options(2, Isa::best()) };
        let list = files.list();
        check(name, &ModelFiles::Folder(&list), &options, &tokens[..tokens.len().min(24)]);
    }
    let files = Files::of("bert");
    let list = files.list();
    check("bert", &ModelFiles::Folder(&list), &options(2, Isa::best()), &[3, 5, 8, 13]);
}

#[test]
fn so_are_flips_in_weights_that_were_quantised_while_they_were_loaded() {
    let files = Files::of("llama");
    let list = files.list();
    for format in Format::ALL {
        let options = LoadOptions { quantise: Some(*format), ..options(2, Isa::best()) };
        check(format.as_str(), &ModelFiles::Folder(&list), &options, &[1, 2, 3, 4, 5]);
    }
}

#[test]
fn several_flips_at_once_are_found_and_a_changed_file_is_refused() {
    let files = Files::of("qwen2");
    let list = files.list();
    let (model, options) = (ModelFiles::Folder(&list), options(1, Isa::best()));
    let mut network = load(&model, &options).unwrap();
    let mut guard = WeightGuard::new(&weights(&mut network)).unwrap();
    pass(&mut guard, &mut network);
    let good: Vec<Vec<u8>> = weights(&mut network).into_iter().map(|bytes| bytes.to_vec()).collect();
    // Two in one block, one in the first and one in the last weight.
    let last = good.len() - 1;
    for (weight, at) in [(2, 9), (2, 70), (0, 1), (last, 0)] {
        weights(&mut network)[weight][at] ^= 0x10;
    }
    let found = pass(&mut guard, &mut network);
    assert_eq!(found.iter().map(|damage| damage.weight).collect::<Vec<_>>(), [0, 2, last]);

    // Another model of the same shape: every byte of its weights flipped.
    let mut changed = list[1].1.to_vec();
    let head = 8 + u64::from_le_bytes(changed[..8].try_into().unwrap()) as usize;
    changed[head..].iter_mut().for_each(|byte| *byte ^= 0x01);
    let other = [list[0], ("model.safetensors", &changed[..])];
    for damage in &found[..2] {
        let part = weight_part(&ModelFiles::Folder(&other), &options, damage.weight, &damage.bytes).unwrap();
        let refused = guard.repair(&mut weights(&mut network), damage, &part).unwrap_err();
        assert_eq!(refused.code(), Code::Tampered);
    }

    for damage in &found {
        let part = weight_part(&model, &options, damage.weight, &damage.bytes).unwrap();
        let bits = guard.repair(&mut weights(&mut network), damage, &part).unwrap();
        assert_eq!(bits, if damage.weight == 2 { 2 } else { 1 });
    }
    for (now, good) in weights(&mut network).into_iter().zip(&good) {
        assert!(*now == **good);
    }
    let gone = weight_part(&model, &options, last + 1, &(0..1)).unwrap_err();
    assert_eq!(gone.code(), Code::Tampered);
}
