//! `bms bench serve` against real servers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::program::{Server, bms, fails, ok, shared};

fn bench(server: &str, arguments: &[&str]) -> Command {
    let mut command = bms(&shared().home());
    command.args(["bench", "serve", "digits", "--server", server, "--warm-up", "0", "--timeout", "20"]);
    command.args(arguments);
    command
}

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap()
}

#[test]
fn both_loops_ask_a_server_as_often_as_said_and_draw_what_they_heard() {
    let model = shared().at("fp32");
    let server = Server::start(&shared().home(), &["serve", model.to_str().unwrap()]);
    server.wait_for("digits");
    let url = server.client.base();
    let picture = tempfile::tempdir().unwrap();
    let svg = picture.path().join("load.svg");
    let closed =
        ok(&mut bench(url, &["--requests", "300", "--connections", "3", "--plot", svg.to_str().unwrap()]));
    assert_eq!((count(&closed, "requests"), count(&closed, "answered")), (300, 300), "{closed}");
    assert_eq!(closed["loop"], "closed");
    assert_eq!(closed["latency_ms"]["count"], 300);
    assert!(std::fs::read_to_string(&svg).unwrap().contains("</svg>"));
    let open =
        ok(&mut bench(url, &["--rate", "400", "--requests", "100", "--rows", "2", "--within", "20000"]));
    assert_eq!((count(&open, "requests"), count(&open, "answered")), (100, 100), "{open}");
    assert_eq!(open["waited_for_connection_ms"]["count"], 100);
    assert!(0.0 < open["good_per_second"].as_f64().unwrap());
    // Bodies of one's own are sent as they are, and what the server refuses is told.
    let bodies = picture.path().join("bodies");
    std::fs::write(&bodies, "{\"inputs\": []}\n\n{\"inputs\": 7}\n").unwrap();
    let (code, last) = fails(&mut bench(url, &["--requests", "4", "--bodies", bodies.to_str().unwrap()]));
    assert_eq!((code, last["code"].as_str()), (31, Some("unavailable")), "{last}");
    assert!(last["error"].as_str().unwrap().contains("status 400"), "{last}");
}

#[test]
fn requests_that_are_due_wait_for_a_server_that_stalls() {
    // One answer after the other, and none of them soon: what is due meanwhile waits, and that counts.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut heard = [0; 4096];
        while 0 < connection.read(&mut heard).unwrap() {
            std::thread::sleep(std::time::Duration::from_millis(100));
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        }
    });
    let bodies = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bodies.path(), "{}\n").unwrap();
    let arguments = ["--rate", "1000", "--arrivals", "even", "--requests", "5", "--connections", "1"];
    let heard = ok(bench(&url, &arguments).args([Path::new("--bodies"), bodies.path()]));
    assert_eq!(count(&heard, "answered"), 5, "{heard}");
    // Five answers of a tenth of a second in a row, asked for within five thousandths.
    assert!(450.0 < heard["latency_ms"]["max"].as_f64().unwrap(), "{heard}");
    assert!(350.0 < heard["waited_for_connection_ms"]["max"].as_f64().unwrap(), "{heard}");
}

#[test]
fn a_server_that_is_not_there_is_said() {
    for url in ["http://127.0.0.1:1", "https://127.0.0.1:1"] {
        let (code, last) = fails(&mut bench(url, &["--requests", "2"]));
        assert!(last["error"].as_str().unwrap().contains(url), "{last}");
        assert_eq!(code, 31, "{last}");
    }
    let (code, _) = fails(&mut bench("ftp://127.0.0.1:1", &[]));
    assert_eq!(code, 10);
}

/// A port at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn tensors_go_in_every_form_and_past_a_replica_that_is_gone() {
    let model = shared().at("fp32");
    let server = Server::start(&shared().home(), &["serve", model.to_str().unwrap()]);
    server.wait_for("digits");
    let url = server.client.base();
    for protocol in ["infer", "binary", "grpc"] {
        let heard = ok(&mut bench(url, &["--protocol", protocol, "--requests", "50", "--connections", "3"]));
        assert_eq!((count(&heard, "answered"), count(&heard, "sent_again")), (50, 0), "{heard}");
        let gone = ["--server", &nobody(), "--protocol", protocol, "--requests", "50", "--connections", "4"];
        let heard = ok(&mut bench(url, &gone));
        assert_eq!((count(&heard, "answered"), count(&heard, "sent_most")), (50, 2), "{heard}");
        assert!(0 < count(&heard, "moved"), "{heard}");
    }
    // What there is no model for is told by the call's status, not by that of HTTP.
    let mut absent = bms(&shared().home());
    absent.args(["bench", "serve", "absent", "--server", url, "--protocol", "grpc", "--requests", "2"]);
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), "{\"inputs\": []}\n").unwrap();
    let (_, last) = fails(absent.arg("--warm-up=0").arg("--bodies").arg(body.path()));
    assert!(last["error"].as_str().unwrap().contains("gRPC status 5"), "{last}");
    // Nobody at all is no reason to ask for ever.
    let (_, last) = fails(&mut bench(
        &nobody(),
        &["--requests", "1", "--retries", "3", "--bodies", body.path().to_str().unwrap()],
    ));
    assert!(last["error"].as_str().unwrap().contains("no connection"), "{last}");
}
