use super::*;

fn asked(method: Method, headers: &[(&'static str, &'static str)]) -> Option<Code> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_static(value));
    }
    check(&method, Version::HTTP_11, &map).err().map(|error| error.code())
}

#[test]
fn only_loopback_hosts_pass() {
    for host in ["127.0.0.1:8090", "localhost", "LOCALHOST:1", "[::1]:80", "127.9.9.9"] {
        assert_eq!(asked(Method::GET, &[("host", host)]), None, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost@evil.example", ""] {
        assert_eq!(asked(Method::GET, &[("host", host)]), Some(Code::PermissionDenied), "{host}");
    }
    assert_eq!(asked(Method::GET, &[]), Some(Code::InvalidRequest));
    assert_eq!(
        asked(Method::GET, &[("host", "localhost"), ("host", "localhost")]),
        Some(Code::InvalidRequest)
    );
}

#[test]
fn no_page_may_post() {
    let host = ("host", "localhost");
    assert_eq!(asked(Method::POST, &[host]), None);
    assert_eq!(asked(Method::POST, &[host, ("sec-fetch-site", "none")]), None);
    for page in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(asked(Method::POST, &[host, page]), Some(Code::PermissionDenied), "{page:?}");
    }
}

#[test]
fn only_loopback_addresses_are_listened_on() {
    for address in ["127.0.0.1:0", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(check_address(address.parse().unwrap()).is_ok(), "{address}");
    }
    for address in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1"] {
        let refused = check_address(address.parse().unwrap()).map_err(|error| error.code());
        assert_eq!(refused, Err(Code::PermissionDenied), "{address}");
    }
}
