use std::net::TcpListener;

use super::*;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// The status that is read from this answer.
fn answered(answer: &'static str) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&asked).into_owned()
    });
    let status = status_of(&Door { address, tls: None }, Asked { path: "/a", host: "b", bearer: Some("c") });
    let asked = server.join().unwrap();
    assert!(asked.starts_with("GET /a HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer c\r\n"), "{asked}");
    status
}

#[test]
fn the_status_is_that_of_the_answer() {
    assert_eq!(answered("HTTP/1.1 401 Unauthorized\r\n\r\n").unwrap(), 401);
    assert!(answered("hello\r\n").is_err());
    assert!(answered("").is_err());
}

#[test]
fn a_server_runs_once_it_says_so_and_one_that_does_not_is_quoted() {
    let ready = r#"echo '{"event":"given_key"}'; echo '{"event":"ready","url":"http://0.0.0.0:7"}'"#;
    let in_order = format!("trap 'echo bye; exit 0' TERM; {ready}; while :; do sleep 0.05; done");
    let mut running = Running::start(&mut shell(&in_order)).unwrap();
    assert_eq!(running.address.to_string(), "127.0.0.1:7");
    let said = running.stop().unwrap();
    assert!(said.contains("given_key") && said.contains("bye"), "{said}");
    let failed = Running::start(&mut shell("echo 'the key is no key' >&2; exit 2")).unwrap_err();
    assert!(failed.to_string().contains("the key is no key"), "{failed}");
    let mut fails = Running::start(&mut shell(&format!("{ready}; exec sleep 30"))).unwrap();
    assert!(fails.stop().is_err(), "it ended by a signal, not in order");
}
