use super::*;

/// A safetensors file with F32 tensors of one value each.
fn part(names: &[&str]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    for (index, name) in names.iter().enumerate() {
        let offsets = [4 * index, 4 * index + 4];
        header.insert(
            (*name).into(),
            serde_json::json!({"dtype": "F32", "shape": [1], "data_offsets": offsets}),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend((0..names.len()).flat_map(|index| (index as f32).to_le_bytes()));
    bytes
}

fn tensors(files: &[(&str, &[u8])]) -> Result<Vec<String>> {
    let mut all = vec![("config.json", b"{}".as_slice())];
    all.extend(files);
    let folder = HfFolder::open(&all)?;
    Ok(folder.tensors()?.into_iter().map(|tensor| tensor.name).collect())
}

#[track_caller]
fn refused(files: &[(&str, &[u8])], part: &str) {
    let error = tensors(files).unwrap_err();
    assert_eq!(error.code(), Code::InvalidBundle, "{error}");
    assert!(error.message().contains(part), "`{error}` does not say `{part}`");
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn parts_are_those_of_the_index() {
    let (one, two, other) = (part(&["b", "a"]), part(&["c"]), part(&["a"]));
    let index = br#"{"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#;
    let files = [
        (INDEX, &index[..]),
        ("2.safetensors", &two),
        ("1.safetensors", &one),
        ("consolidated.safetensors", &other),
    ];
    assert_eq!(tensors(&files).unwrap(), ["a", "b", "c"]);
    refused(&files[..2], "lacks `1.safetensors`");
    let swapped = [(INDEX, &index[..]), ("1.safetensors", &one), ("2.safetensors", &other)];
    refused(&swapped, "given twice");
    let short = part(&["b"]);
    refused(
        &[(INDEX, &index[..]), ("1.safetensors", &short), ("2.safetensors", &two)],
        "lacks the tensor `a`",
    );
    refused(&[(INDEX, b"{}")], "no map");
    refused(&[(INDEX, br#"{"weight_map": {"a": 1}}"#)], "no map");
    refused(&[(INDEX, b"{")], "no JSON");
}

#[test]
fn without_an_index_one_file_is_enough() {
    let (one, adapter) = (part(&["a"]), part(&["z"]));
    let files =
        [("adapter_model.safetensors", &adapter[..]), ("x.safetensors", &one), ("1/y.safetensors", &adapter)];
    assert_eq!(tensors(&files).unwrap(), ["a"]);
    let files = [("model.safetensors", &one[..]), ("consolidated.safetensors", &adapter)];
    assert_eq!(tensors(&files).unwrap(), ["a"]);
    refused(&[], "no tensors");
    refused(&[("a.safetensors", &one[..]), ("b.safetensors", &one)], "given twice");
}

#[test]
fn broken_parts_are_refused() {
    let whole = part(&["a", "b"]);
    for length in 0..whole.len() {
        refused(&[("model.safetensors", &whole[..length])], "no whole safetensors file");
    }
    let mut longer = whole.clone();
    longer.push(0);
    refused(&[("model.safetensors", &longer)], "no whole safetensors file");
    for at in 0..whole.len() {
        for value in [0, b'"', b'9', 0xff] {
            let mut bad = whole.clone();
            bad[at] = value;
            // Whatever comes of it, it is no panic.
            let _ = tensors(&[("model.safetensors", &bad)]);
        }
    }
}

#[test]
fn a_folder_says_what_it_lacks() {
    assert!(HfFolder::open(&[]).unwrap_err().message().contains("no `config.json`"));
    assert!(
        HfFolder::open(&[("config.json", b"[")]).unwrap_err().message().contains("`config.json` is no JSON")
    );
    let files = [("config.json", &b"{}"[..]), ("chat_template.jinja", b"\xff")];
    let folder = HfFolder::open(&files).unwrap();
    assert_eq!(folder.tokenizer().unwrap_err().code(), Code::UnsupportedModel);
    assert!(folder.template_source().unwrap_err().message().contains("not UTF-8"));
}
