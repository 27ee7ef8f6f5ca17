//! The scanner on MessagePack, R objects, settings, and programs in odd places.

use bms_bundle::{Format, scan};

use crate::samples::{clean, entry, finds, hostile_pickle, pickle, safetensors_of, zip};

fn named(name: &str, bytes: &[u8]) -> Vec<String> {
    let findings = scan::scan_file(name, bytes).findings;
    findings
        .into_iter()
        .filter(|finding| bms_bundle::Severity::Medium <= finding.severity)
        .map(|finding| finding.rule)
        .collect()
}

/// Files to be damaged.
pub(crate) fn samples() -> Vec<Vec<u8>> {
    vec![
        [
            &[0x82, 0xa6][..],
            b"params",
            &[0xc7, 4, 5, 1, 2, 3, 4, 0xa1],
            b"a",
            &[0xdc, 0, 2, 0xc4, 1, 7, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat(),
        rds(&[0, 0, 0, 19, 0, 0, 0, 2, 0, 0, 0, 13, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 254]),
        b"<?xml version='1.0'?><net version='11'><layer id='0' type='Parameter' version='opset1'/></net>"
            .to_vec(),
        b"a: &b !!python/name:os.system [1]\nc: {_target_: torch.nn.Linear}\n".to_vec(),
    ]
}

#[test]
fn message_pack_is_looked_into() {
    let document = |value: &[u8]| [&[0x81, 0xa6][..], b"params", value].concat();
    let extension = |content: &[u8]| [&[0xc7, content.len() as u8, 5][..], content].concat();
    let binary = |content: &[u8]| [&[0xc4, content.len() as u8][..], content].concat();
    clean(&document(&extension(&[0x93, 0x91, 2, 0xa2, b'u', b'1', 0xc4, 2, 1, 2])));
    assert_eq!(scan::scan_file("x", &document(&binary(&[0, 1, 2]))).format, Format::MessagePack);
    finds(&document(&extension(&hostile_pickle())), "pickle-import");
    finds(&document(&binary(&hostile_pickle())), "msgpack-hidden");
    let deep = [vec![0x91; 100], vec![0xc0]].concat();
    finds(&deep, "msgpack-bomb");
}

/// An R object of the second version.
fn rds(body: &[u8]) -> Vec<u8> {
    [&b"X\n"[..], &[0, 0, 0, 2, 0, 4, 1, 0, 0, 2, 3, 0], body].concat()
}

#[test]
fn r_promises_are_found() {
    let nil = [0, 0, 0, 254];
    let numbers = [&[0, 0, 0, 14, 0, 0, 0, 1][..], &1.0_f64.to_be_bytes()].concat();
    clean(&rds(&numbers));
    let list = [&[0, 0, 0, 19, 0, 0, 0, 2][..], &numbers, &numbers].concat();
    clean(&rds(&list));
    let promise = [&[0, 0, 0, 5][..], &nil, &numbers].concat();
    finds(&rds(&promise), "rds-promise");
    finds(&rds(&[&[0, 0, 0, 19, 0, 0, 0, 1][..], &promise].concat()), "rds-promise");
    finds(&rds(&[0, 0, 0, 22]), "rds-code");
    finds(&rds(&list)[..30], "rds-malformed");
    finds(&[rds(&numbers), hostile_pickle()].concat(), "rds-trailing");
    finds(b"A\n2\n262153\n", "rds-unread");
}

#[test]
fn settings_that_have_things_imported_are_found() {
    clean(b"model:\n  _target_: torch.nn.Linear\n  in: 2\n");
    clean(b"model:\n  _target_: nemo.collections.asr.models.EncDecCTCModel\n");
    clean(br#"{"_target_": "transformers.BertModel"}"#);
    for text in [
        &b"a:\n  _target_: os.system\n"[..],
        b"a: {_target_: subprocess.Popen, args: [x]}\n",
        b"- \"_target_\": 'builtins.eval'\n",
        b"a:\n  _target_: torch.nn.modules.module.os.system\n",
        b"a:\n  _target_: torch.hub.load\n",
        br#"{"a": [{"_target_": "builtins.exec"}]}"#,
    ] {
        finds(text, "settings-target");
    }
    for text in [
        &b"!!python/object/apply:os.system [x]\n"[..],
        b"a: [1, !!python/name:os.system ]\n",
        b"a: &b !!python/object/new:os.system [x]\n",
        b"a: !<tag:yaml.org,2002:python/object/apply:os.system> [x]\n",
        b"a: !<tag:yaml.org,2002:%70ython/object/apply:os.system> [x]\n",
        b"%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!object/apply:os.system [x]\n",
        b"? !!python/name:os.system\n: 1\n",
    ] {
        finds(text, "yaml-python");
    }
    finds(br#"{"model": {"handler": "handler.py", "serializedFile": "m.pt"}}"#, "json-code");
    clean(br#"{"model": {"handler": "image_classifier"}}"#);
}

#[test]
fn types_of_skops_are_judged() {
    let file = |node: &str| {
        zip(&[entry("schema.json", format!(r#"{{"protocol": 2, "content": [{node}]}}"#).as_bytes())])
    };
    clean(&file(
        r#"{"__class__": "LogisticRegression", "__module__": "sklearn.linear_model._logistic", "__loader__": "ObjectNode"}"#,
    ));
    clean(&file(r#"{"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode"}"#));
    finds(
        &file(r#"{"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}"#),
        "skops-type",
    );
    finds(
        &file(r#"{"__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode"}"#),
        "skops-type",
    );
    finds(
        &file(
            r#"{"__class__": "dict", "__module__": "builtins", "__loader__": "MethodNode", "content": {"func": "x"}}"#,
        ),
        "skops-type",
    );
}

#[test]
fn models_in_xml_are_judged() {
    let net = |layer: &str| {
        format!(r#"<?xml version="1.0"?><net name="m" version="11"><layers>{layer}</layers></net>"#)
    };
    clean(net(r#"<layer id="0" name="x" type="Parameter" version="opset1"/>"#).as_bytes());
    finds(net(r#"<layer id="0" name="x" type="Custom" version="extension"/>"#).as_bytes(), "openvino-custom");
    finds(
        net(r#"<layer id="0" name="x" type="A" version="opset1" library="./evil.so"/>"#).as_bytes(),
        "openvino-library",
    );
    finds(b"<!DOCTYPE x SYSTEM \"http://x/y.dtd\"><x/>", "xml-entity");
    finds(
        b"<x xmlns:xi=\"http://www.w3.org/2001/XInclude\"><xi:include href=\"/etc/passwd\"/></x>",
        "xml-entity",
    );
}

#[test]
fn programs_between_numbers_are_found() {
    let elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    let mut windows = b"MZ".to_vec();
    windows.resize(0x3c, 0);
    windows.extend([0x80, 0, 0, 0]);
    windows.resize(0x80, 0);
    windows.extend(b"PE\0\0\x64\x86");
    let mach = [0xcf, 0xfa, 0xed, 0xfe, 7, 0, 0, 1, 3, 0, 0, 0, 2, 0, 0, 0].to_vec();
    let ape = b"MZqFpD='\n".to_vec();
    for program in [elf, windows, mach, ape] {
        for before in [64, 100, (8 << 20) - 3] {
            let data = [vec![0x3e; before], program.clone(), vec![0x3e; 256]].concat();
            let header =
                format!(r#"{{"a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, data.len());
            finds(&safetensors_of(&header, &data), "embedded-executable");
            finds(&zip(&[entry("m/data/0", &data)]), "embedded-executable");
        }
    }
    // The letters alone are no program.
    let data = [b"\x7fELF PE\0\0 MZqFpD".to_vec(), vec![7; 100]].concat();
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, data.len());
    clean(&safetensors_of(&header, &data));
}

#[test]
fn names_that_lie_are_found() {
    assert_eq!(named("model.safetensors", &pickle()), ["extension-mismatch"]);
    assert_eq!(named("model.npy", &pickle()), ["extension-mismatch"]);
    assert_eq!(named("model.gguf", b"{}"), ["extension-mismatch"]);
    assert_eq!(named("modeling.py", b"x = 1\n"), ["code-file"]);
    assert_eq!(
        named("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        ["lfs-pointer"]
    );
    for (name, bytes) in [
        ("model.bin", pickle()),
        ("model.pt", zip(&[entry("a/data.pkl", &pickle())])),
        ("README.md", b"# import os".to_vec()),
    ] {
        assert!(named(name, &bytes).is_empty(), "{name}");
    }
}

#[test]
fn source_is_found_and_prose_is_not() {
    finds(b"import os\n\ndef load(path):\n    os.system('echo nope')\n    return path\n", "code-source");
    clean(b"```python\nimport torch\nfrom x import Model\nmodel = Model.load('x')\nmodel.eval()\nmodel.compile()\n```\n");
    clean(b"# Loading\n\nNever call os.system() or eval() here.\nThe model was trained with care.\n\nimport os is harmless by itself, they say.\n");
}
