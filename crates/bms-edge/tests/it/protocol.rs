//! What clients see.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bms_wire::oip::{Datatype, ModelMetadata, ServerMetadata};
use bms_wire::{Code, limits};

use crate::agent::WAIT;
use crate::bundles::{easy, hard, question};
use crate::updates::Scene;

/// Sends bytes as they are; gives the answer's status and the whole answer.
fn raw(scene: &Scene, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(scene.agent.address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A refused body may end in a reset, after the answer.
    let mut piece = [0; 4096];
    while let Ok(read) = stream.read(&mut piece) {
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..read]);
    }
    let answer = String::from_utf8(answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn get(scene: &Scene, path: &str) -> (u16, String) {
    raw(scene, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
}

fn post(scene: &Scene, path: &str, headers: &str, body: &str) -> (u16, String) {
    let length = body.len();
    raw(
        scene,
        &format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\
             content-length: {length}\r\n\r\n{body}"
        ),
    )
}

#[test]
fn the_protocols_resources_are_there() {
    let scene = Scene::new();
    let server: ServerMetadata = scene.agent.client.get("/v2").unwrap();
    assert_eq!(server.name, "bms-edge");
    let model: ModelMetadata = scene.agent.client.metadata("small").unwrap();
    assert_eq!((model.name.as_str(), model.platform.as_str()), ("small", "onnx_rten"));
    assert_eq!(model.versions, ["1"]);
    assert_eq!((model.inputs[0].datatype, &model.inputs[0].shape[..]), (Datatype::Fp32, &[-1, 1, 4, 4][..]));
    for path in
        ["/v2/health/live", "/v2/health/ready", "/v2/models/small/ready", "/v2/models/small/versions/1/ready"]
    {
        assert_eq!(get(&scene, path).0, 200, "{path}");
    }
    let (status, head) =
        raw(&scene, "HEAD /v2/health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert_eq!(status, 200);
    assert!(head.ends_with("\r\n\r\n"), "a head has no body: {head}");
}

#[test]
fn refusals_have_the_right_code_and_status() {
    let scene = Scene::new();
    let code = |model: &str, pictures: &[Vec<u8>]| {
        scene.agent.client.infer(model, &question(pictures)).unwrap_err().code()
    };
    assert_eq!(code("other", &[easy(0)]), Code::ModelNotFound);
    assert_eq!(code("small", &[b"no picture".to_vec()]), Code::InvalidInput);
    assert_eq!(code("small", &[]), Code::InvalidInput);
    let infer = "/v2/models/small/infer";
    let body = serde_json::to_string(&question(&[easy(0)])).unwrap();
    assert_eq!(post(&scene, infer, "", &body).0, 200);
    assert_eq!(post(&scene, "/v2/models/small/versions/1/infer", "", &body).0, 200);
    let (status, answer) = post(&scene, "/v2/models/small/versions/7/infer", "", &body);
    assert!(status == 404 && answer.contains("version_not_found"), "{answer}");
    let (status, answer) = post(&scene, infer, "", "{\"inputs\": 3}");
    assert!(status == 400 && answer.contains("invalid_request"), "{answer}");
    let (status, answer) = get(&scene, infer);
    assert!(status == 405 && answer.contains("allow: POST"), "{answer}");
    assert_eq!(post(&scene, "/v2/models/small", "", "").0, 405);
    let (status, answer) = get(&scene, "/v3");
    assert!(status == 404 && answer.contains("\"code\":\"not_found\""), "{answer}");
    assert_eq!(post(&scene, infer, "origin: https://evil.example\r\n", &body).0, 403);
    let rebound = "GET /v2 HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(raw(&scene, rebound).0, 403);
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let scene = Scene::new();
    let request = format!(
        "POST /v2/models/small/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{{",
        limits::INFER_BODY_BYTES_MAX + 1
    );
    let mut stream = TcpStream::connect(scene.agent.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(scene.agent.ask(&[easy(0)]).is_ok());
}

#[test]
fn the_metrics_page_is_well_formed_and_counts() {
    let scene = Scene::new();
    scene.agent.ask(&[easy(0), hard(1)]).unwrap();
    scene.agent.ask(&[b"no picture".to_vec()]).unwrap_err();
    scene.agent.wait("delivery", |status| status.samples_delivered == 1);
    let (status, page) = get(&scene, "/metrics");
    assert_eq!(status, 200);
    let (head, page) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let value = |series: &str| -> f64 {
        let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
        line.unwrap_or_else(|| panic!("{series} in {page}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert_eq!(value("bms_edge_answers_total"), 1.0);
    assert_eq!(value("bms_edge_offline_answers_total"), 0.0);
    assert_eq!(value("bms_edge_hard_samples_total"), 1.0);
    assert_eq!(value("bms_edge_samples_delivered_total"), 1.0);
    assert_eq!(value("bms_edge_failures_total{code=\"invalid_input\"}"), 1.0);
    assert_eq!(value("bms_edge_request_duration_seconds_count"), 1.0);
    assert_eq!(value("bms_edge_request_duration_seconds_bucket{le=\"+Inf\"}"), 1.0);
    assert_eq!(value("bms_edge_centre_up"), 1.0);
    assert_eq!(value("bms_edge_updates_total"), 1.0);
    let digest = &scene.first.digest;
    let info =
        format!("bms_edge_model_info{{model=\"small\",version=\"1\",digest=\"{digest}\",runtime=\"rten\"}}");
    assert_eq!(value(&info), 1.0);
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, number) = line.rsplit_once(' ').unwrap();
        number.parse::<f64>().unwrap();
        let name = series.split('{').next().unwrap();
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(page.contains(&format!("# TYPE {family} ")), "{family} has a type");
    }
}
