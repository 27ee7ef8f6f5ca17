use axum::body::Body;
use axum::extract::Request;
use bms_wire::Code;
use http::Version;

use super::{check, check_address};

/// What becomes of a request.
fn checked(request: &Request, any_host: bool) -> bms_wire::Result<()> {
    check(request.version(), request.method(), request.headers(), any_host)
}

/// What becomes of a request with these headers, given as `name: value` lines.
#[track_caller]
fn expect(method: &str, headers: &str, want: Result<(), Code>) {
    let mut request = Request::builder().method(method).uri("/api/v1/models");
    for line in headers.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let got = checked(&request.body(Body::empty()).unwrap(), false).map_err(|e| e.code());
    assert_eq!(got, want, "{method} with {headers}");
}

#[test]
fn only_loopback_names_pass() {
    for host in
        ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.8.9.1", "[::1]:80", "[::ffff:127.0.0.1]"]
    {
        expect("GET", &format!("host: {host}"), Ok(()));
    }
    for host in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "evil@localhost",
        "192.168.1.2",
        "0.0.0.0:8080",
        "[::]:8080",
        "2130706433",
        "local host",
    ] {
        expect("GET", &format!("host: {host}"), Err(Code::PermissionDenied));
    }
    expect("GET", "host: localhost\nhost: localhost", Err(Code::InvalidRequest));
    expect("GET", "accept: */*", Err(Code::InvalidRequest));
}

#[test]
fn where_keys_are_required_a_host_has_any_name_and_pages_still_change_nothing() {
    let request = |origin: &str| {
        let request = Request::builder().method("POST").uri("/").header("host", "models.example");
        request.header("origin", origin).body(Body::empty()).unwrap()
    };
    assert!(checked(&request("https://models.example"), true).is_ok());
    let error = checked(&request("https://evil.example"), true).unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}

#[test]
fn a_client_older_than_the_host_header_passes() {
    let request = Request::builder().version(Version::HTTP_10).body(Body::empty()).unwrap();
    assert!(checked(&request, false).is_ok());
}

#[test]
fn other_origins_may_read_nothing_they_can_change() {
    let host = "host: localhost:8080";
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        expect(method, host, Ok(()));
        expect(
            method,
            &format!("{host}\norigin: http://localhost:8080\nsec-fetch-site: same-origin"),
            Ok(()),
        );
        for origin in
            ["http://localhost:3000", "http://localhost", "https://evil.example", "null", "localhost:8080"]
        {
            expect(method, &format!("{host}\norigin: {origin}"), Err(Code::PermissionDenied));
        }
        expect(method, &format!("{host}\nsec-fetch-site: cross-site"), Err(Code::PermissionDenied));
        expect(method, &format!("{host}\nsec-fetch-site: same-site"), Err(Code::PermissionDenied));
    }
    expect("GET", &format!("{host}\norigin: https://evil.example"), Ok(()));
}

#[test]
fn only_loopback_addresses_are_listened_on() {
    for address in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        assert!(check_address(address.parse().unwrap()).is_ok(), "{address}");
    }
    for address in ["0.0.0.0:0", "[::]:0", "10.0.0.1:80"] {
        let error = check_address(address.parse().unwrap()).unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{address}");
        assert!(error.advice().is_some());
    }
}
