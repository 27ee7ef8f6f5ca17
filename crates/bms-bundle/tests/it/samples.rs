//! Small valid files and a bundle of them, built by hand so that tests can bend every part.

use bms_bundle::{Draft, Finding, Manifest, Severity, SigningKey, TensorInfo};
use bms_wire::{Pipeline, Postprocess, Preprocess};

/// One length-delimited field.
pub(crate) fn field(number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number << 3 | 2));
    out.extend(varint(body.len() as u64));
    out.extend_from_slice(body);
    out
}

/// One integer field.
pub(crate) fn number(number: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(number << 3)), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while 0x7f < value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A node of the graph.
pub(crate) fn node(domain: &str, op: &str, attributes: &[u8]) -> Vec<u8> {
    field(1, &node_body(domain, op, attributes))
}

/// A node without the field that says whose it is: 1 in a graph, 7 in a function.
pub(crate) fn node_body(domain: &str, op: &str, attributes: &[u8]) -> Vec<u8> {
    let inputs = field(1, b"x");
    let body = [inputs, field(2, b"y"), field(4, op.as_bytes()), field(7, domain.as_bytes())].concat();
    [body, attributes.to_vec()].concat()
}

/// An f32 tensor.
pub(crate) fn tensor(dims: &[u64], raw: &[u8], rest: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
    [dims, number(2, 1), field(8, b"w"), field(9, raw), rest.to_vec()].concat()
}

/// The `external_data` entries of a tensor.
pub(crate) fn external(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(key, value): &(&str, &str)| {
        field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
    };
    [entries.iter().flat_map(entry).collect(), number(14, 1)].concat()
}

/// A model around the body of a graph.
pub(crate) fn model(graph: &[u8], rest: &[u8]) -> Vec<u8> {
    [number(1, 8), field(2, b"tests"), field(7, graph), field(8, &number(2, 17)), rest.to_vec()].concat()
}

/// A whole small ONNX model: `y = Relu(x)` and a weight.
pub(crate) fn onnx() -> Vec<u8> {
    let weight = field(5, &tensor(&[2, 2], &[0; 16], &[]));
    model(
        &[
            node("", "Relu", &[]),
            field(2, b"graph"),
            weight,
            field(11, &field(1, b"x")),
            field(12, &field(1, b"y")),
        ]
        .concat(),
        &[],
    )
}

/// A safetensors file from its header and data.
pub(crate) fn safetensors_of(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A whole small safetensors file.
pub(crate) fn safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}"#;
    safetensors_of(header, &[7; 11])
}

/// A GGUF string.
pub(crate) fn gguf_string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A GGUF pair with a string value.
pub(crate) fn gguf_text(key: &str, value: &str) -> Vec<u8> {
    [gguf_string(key), 8_u32.to_le_bytes().to_vec(), gguf_string(value)].concat()
}

/// An entry of GGUF's tensor table: f32, one axis.
pub(crate) fn gguf_tensor(name: &str, length: u64, offset: u64) -> Vec<u8> {
    let axes = [1_u32.to_le_bytes().to_vec(), length.to_le_bytes().to_vec()].concat();
    [gguf_string(name), axes, 0_u32.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()].concat()
}

/// A GGUF file; the data is aligned.
pub(crate) fn gguf_of(pairs: &[Vec<u8>], tensors: &[Vec<u8>], data: &[u8]) -> Vec<u8> {
    let counts = [(tensors.len() as u64).to_le_bytes(), (pairs.len() as u64).to_le_bytes()].concat();
    let mut out =
        [b"GGUF".to_vec(), 3_u32.to_le_bytes().to_vec(), counts, pairs.concat(), tensors.concat()].concat();
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend_from_slice(data);
    out
}

/// A whole small GGUF file.
pub(crate) fn gguf() -> Vec<u8> {
    let pairs = [gguf_text("general.architecture", "llama"), gguf_text("tokenizer.chat_template", TEMPLATE)];
    gguf_of(&pairs, &[gguf_tensor("a", 8, 0), gguf_tensor("b", 4, 32)], &[1; 48])
}

/// A chat template as models have them.
pub(crate) const TEMPLATE: &str = "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message.content | trim + '<|im_end|>' }}{%- endfor %}";

/// A pickle of `{"a": [1, 2]}`, protocol 2.
pub(crate) fn pickle() -> Vec<u8> {
    b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01]q\x02(K\x01K\x02es.".to_vec()
}

/// A pickle that would run `os.system`. It is never loaded.
pub(crate) fn hostile_pickle() -> Vec<u8> {
    b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00echo nope\x85R.".to_vec()
}

/// A ZIP member to be.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) content: &'a [u8],
    /// Added to the flags of the directory.
    pub(crate) flags: u16,
    /// The name in the member's own header, when it differs.
    pub(crate) own_name: Option<&'a str>,
    /// Unix mode.
    pub(crate) mode: u32,
    /// Added to the checksum in both headers.
    pub(crate) crc_error: u32,
}

/// A plain stored member.
pub(crate) fn entry<'a>(name: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { name, content, flags: 0, own_name: None, mode: 0, crc_error: 0 }
}

/// A ZIP archive of stored members.
pub(crate) fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let mut crc = flate2::Crc::new();
        crc.update(entry.content);
        let crc = crc.sum().wrapping_add(entry.crc_error).to_le_bytes();
        let size = (entry.content.len() as u32).to_le_bytes();
        let name = |name: &str| [(name.len() as u16).to_le_bytes(), [0, 0]].concat();
        let offset = (out.len() as u32).to_le_bytes();
        let own = entry.own_name.unwrap_or(entry.name);
        out.extend(
            [b"PK\x03\x04\x14\0", &[0; 8][..], &crc, &size, &size, &name(own), own.as_bytes()].concat(),
        );
        out.extend_from_slice(entry.content);
        directory.extend(
            [
                b"PK\x01\x02\x14\x03\x14\0",
                &entry.flags.to_le_bytes()[..],
                &[0; 6],
                &crc,
                &size,
                &size,
                &name(entry.name),
                &[0; 6],
                &(entry.mode << 16).to_le_bytes(),
                &offset,
                entry.name.as_bytes(),
            ]
            .concat(),
        );
    }
    let begin = (out.len() as u32).to_le_bytes();
    let count = (entries.len() as u16).to_le_bytes();
    let size = (directory.len() as u32).to_le_bytes();
    out.extend(directory);
    out.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &begin, &[0, 0]].concat());
    out
}

/// A manifest without files.
pub(crate) fn manifest() -> Manifest {
    let tensor = |name: &str| TensorInfo {
        name: name.to_owned(),
        dtype: "f32".to_owned(),
        shape: vec![None, Some(2)],
    };
    Manifest {
        schema: 1,
        name: "digits".to_owned(),
        task: "tensor".to_owned(),
        model: "model.onnx".to_owned(),
        inputs: vec![tensor("x")],
        outputs: vec![tensor("y")],
        pipeline: Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} },
        metrics: vec![],
        lineage: Default::default(),
        precision: "fp32".to_owned(),
        licence: None,
        created_ms: 1_700_000_000_000,
        sealed: None,
        files: vec![],
    }
}

/// A draft of a bundle with a model and two side files.
pub(crate) fn draft() -> Draft {
    let mut draft = Draft::new(manifest());
    draft.add("model.onnx", onnx()).unwrap();
    draft.add("report/curves.json", &b"{\"loss\":[1,0.5]}"[..]).unwrap();
    draft.add("labels.txt", &b"zero\none\n"[..]).unwrap();
    draft
}

/// A signed bundle as a list of files, and its key.
pub(crate) fn signed() -> (Vec<(String, Vec<u8>)>, SigningKey) {
    let key = SigningKey::generate();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    draft().write_signed(&path, &key).unwrap();
    let bundle = bms_bundle::Bundle::open(&path).unwrap();
    (bundle.files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect(), key)
}

/// The rules that refuse a file.
pub(crate) fn rules(bytes: &[u8]) -> Vec<String> {
    serious(bytes).into_iter().map(|finding| finding.rule).collect()
}

/// The findings that refuse a file.
pub(crate) fn serious(bytes: &[u8]) -> Vec<Finding> {
    let mut findings = bms_bundle::scan::scan_bytes("file", bytes);
    findings.retain(|finding| Severity::Medium <= finding.severity);
    findings
}

/// Asserts that the scan names this rule.
#[track_caller]
pub(crate) fn finds(bytes: &[u8], rule: &str) {
    let found = serious(bytes);
    assert!(found.iter().any(|finding| finding.rule == rule), "{rule} is not among {found:?}");
}

/// Asserts that the scan finds nothing that refuses the file.
#[track_caller]
pub(crate) fn clean(bytes: &[u8]) {
    let found = serious(bytes);
    assert!(found.is_empty(), "{found:?}");
}
