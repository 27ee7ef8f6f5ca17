//! What is wrong gets the right code, and the server goes on.

use std::io::{Read, Write};
use std::net::TcpStream;

use bms_wire::oip::{Datatype, InferRequest, InferTensor, Parameters};
use bms_wire::{Code, Error};
use serde_json::{Value, json};

use crate::program::{Server, bms, fails, shared};

fn ask(server: &Server, model: &str, datatype: Datatype, shape: &[i64], data: Value) -> Result<(), Error> {
    let name = if datatype == Datatype::Bytes { "image" } else { "input" };
    let tensor = InferTensor {
        name: name.into(),
        shape: shape.to_vec(),
        datatype,
        parameters: Parameters::new(),
        data,
    };
    let request =
        InferRequest { id: None, parameters: Parameters::new(), inputs: vec![tensor], outputs: vec![] };
    server.client.infer(model, &request).map(drop)
}

/// Sends raw bytes and reads the status line.
fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.client.base().trim_start_matches("http://")).unwrap();
    stream.write_all(request).unwrap();
    let mut reply = vec![0; 4096];
    let n = stream.read(&mut reply).unwrap();
    String::from_utf8_lossy(&reply[..n]).into_owned()
}

#[test]
fn each_wrong_input_gets_its_code_and_the_server_goes_on() {
    let shared = shared();
    let server = Server::start(&shared.home(), &["serve", shared.at("int8").to_str().unwrap()]);
    server.wait_for("digits");
    let zeros = |n: usize| json!(vec![0.0; n]);
    let cases: [(&str, Datatype, &[i64], Value, Code); 8] = [
        ("digits", Datatype::Bytes, &[1], json!(["bm90IGEgcGljdHVyZQ=="]), Code::InvalidInput),
        ("digits", Datatype::Bytes, &[1], json!(["%%%"]), Code::InvalidInput),
        ("digits", Datatype::Fp32, &[1, 1, 8, 9], zeros(72), Code::InvalidInput),
        ("digits", Datatype::Fp32, &[1, 1, 8, 8], zeros(63), Code::InvalidInput),
        ("digits", Datatype::Int64, &[1, 1, 8, 8], json!(vec![0; 64]), Code::InvalidInput),
        ("digits", Datatype::Fp32, &[1, 1, 8, 8], json!(vec![json!("NaN"); 64]), Code::InvalidInput),
        ("digits", Datatype::Fp32, &[1 << 40], json!([]), Code::TooLarge),
        ("nobody", Datatype::Fp32, &[1, 1, 8, 8], zeros(64), Code::ModelNotFound),
    ];
    for (model, datatype, shape, data, code) in cases {
        let error = ask(&server, model, datatype, shape, data.clone()).unwrap_err();
        assert_eq!(error.code(), code, "{model} {datatype:?} {shape:?} {data}: {error}");
        assert!(!error.message().is_empty());
    }
    let path = "POST /v2/models/digits/infer HTTP/1.1\r\nhost: localhost\r\n";
    let huge = raw(&server, format!("{path}content-length: 1073741824\r\n\r\n").as_bytes());
    assert!(huge.starts_with("HTTP/1.1 413"), "{huge}");
    let nan = r#"{"inputs":[{"name":"input","shape":[1,1,8,8],"datatype":"FP32","data":[NaN]}]}"#;
    let nan = raw(&server, format!("{path}content-length: {}\r\n\r\n{nan}", nan.len()).as_bytes());
    assert!(nan.starts_with("HTTP/1.1 400"), "{nan}");
    assert!(nan.contains("invalid_request"), "{nan}");
    // After all that it answers.
    ask(&server, "digits", Datatype::Fp32, &[1, 1, 8, 8], zeros(64)).unwrap();
}

#[test]
fn a_truncated_graph_is_refused_before_it_is_packaged_or_served() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let graph = std::fs::read(shared.at("fp32").join("model.onnx")).unwrap();
    let cut = dir.path().join("cut.onnx");
    std::fs::write(&cut, &graph[..graph.len() / 2]).unwrap();
    let out = dir.path().join("bundle");
    let (exit, error) =
        fails(bms(&shared.home()).arg("package").arg(&cut).args(["--name", "cut", "--out"]).arg(&out));
    assert_eq!((exit, &error["code"]), (i32::from(Code::InvalidBundle.exit()), &json!("invalid_bundle")));
    assert!(!out.exists());

    // The same inside a bundle, where the digests no longer fit either.
    copy(&shared.at("fp32"), &out);
    std::fs::write(out.join("model.onnx"), &graph[..graph.len() / 2]).unwrap();
    let (_, error) = fails(bms(&shared.home()).arg("serve").arg(&out).args(["--listen", "127.0.0.1:0"]));
    assert_eq!(error["code"], json!("tampered"));
}

#[test]
fn an_unsigned_or_foreign_bundle_is_not_loaded() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bundle");
    copy(&shared.at("fp32"), &out);
    let stranger = dir.path().join("stranger");
    let (_, error) = fails(bms(&stranger).arg("verify").arg(&out));
    assert_eq!(error["code"], json!("signer_untrusted"));
    std::fs::remove_file(out.join("model.sig")).unwrap();
    let (exit, error) = fails(bms(&shared.home()).arg("verify").arg(&out));
    assert_eq!(
        (exit, &error["code"]),
        (i32::from(Code::SignatureMissing.exit()), &json!("signature_missing"))
    );
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
