//! The scanner on JSON, SVG and other text.

use bms_bundle::{Format, scan};

use crate::samples::{clean, finds};

#[track_caller]
fn is(bytes: &[u8], format: Format) {
    assert_eq!(scan::scan_file("x", bytes).format, format, "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn texts_are_told_apart() {
    is(b"", Format::Empty);
    is(b"{\"a\": 1}", Format::Json);
    is(b"\xef\xbb\xbf [1]", Format::Json);
    is(b"{not json}", Format::Text);
    is(b"<svg xmlns='x'/>", Format::Svg);
    is(b"<?xml version='1.0'?><!-- a > b --><!DOCTYPE svg><svg/>", Format::Svg);
    is(b"<html><svg/></html>", Format::Text);
    is("模型,标签\n".as_bytes(), Format::Text);
    is(b"text with a \x00 byte", Format::Unknown);
    is(b"\xff\xfe\xfd", Format::Unknown);
}

#[test]
fn settings_that_name_code_or_files_are_found() {
    finds(
        br#"{"a": NaN, "b": [-Infinity], "c": "NaN \" Infinity", "auto_map": {"AutoModel": "m.M"}}"#,
        "json-code",
    );
    clean(br#"{"architectures":["Llama"],"weight_map":{"a":"model-1.safetensors"}}"#);
    finds(br#"{"auto_map":{"AutoModel":"modeling.Model"}}"#, "json-code");
    finds(br#"{"a":[{"\u0061uto_map":{"AutoModel":"modeling.Model"}}]}"#, "json-code");
    finds(br#"{"weight_map":{"a":"../../evil.bin"}}"#, "json-path");
    finds(br#"{"chat_template":"{{ ''.__class__ }}"}"#, "template-code");
    finds(br#"{"chat_template":[{"name":"default","template":"{{ ''.__class__ }}"}]}"#, "template-code");
}

#[test]
fn pictures_with_scripts_are_found() {
    clean(b"<svg xmlns='http://www.w3.org/2000/svg'><text>one = two, once</text><path d='M0 0'/></svg>");
    for body in [
        "<script>alert(1)</script>",
        "<g onclick='x()'/>",
        "<g OnLoad = 'x()'/>",
        "<g/onload=x()/>",
        "<a href='javascript:x()'/>",
        "<foreignObject/>",
    ] {
        finds(format!("<svg>{body}</svg>").as_bytes(), "svg-active");
    }
    finds(b"<!DOCTYPE svg [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><svg>&a;</svg>", "svg-active");
}

#[test]
fn documents_that_run_or_fetch_are_found() {
    clean(b"# Notes\nYAML can hold !!python/object tags, os.system and eval().\n");
    finds(b"a: !!python/object/apply:os.system ['echo nope']\n", "yaml-python");
    finds(b"flavors:\n  python_function:\n    loader_module: evil\n", "yaml-module");
    clean(b"flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n");
    finds(b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a SYSTEM 'file:///x'>]><x>&a;</x>", "xml-entity");
    finds(b"<!DOCTYPE html><html><script>1</script></html>", "html");
}
