//! Against a server that speaks the transit engine's protocol: its keys have versions, its answers Vault's form.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_bundle::seal::{DataKey, Kms};
use bms_wire::Code;
use serde_json::{Value, json};
use ureq::tls::{PemItem, parse_pem};

use super::{Access, Vault, parse};

const TOKEN: &str = "hvs.a-token";

/// What the engine holds: for each version of the key what it wrapped.
#[derive(Default)]
struct Transit {
    version: usize,
    wrapped: BTreeMap<String, String>,
    /// What it was asked, without bodies.
    asked: Vec<String>,
}

/// A transit engine with one key, `models`, mounted at `transit`.
struct Server {
    uri: String,
    state: Arc<Mutex<Transit>>,
}

impl Server {
    fn start() -> Server {
        Server::over("http", Some)
    }

    /// Behind TLS, with a certificate of the authority in the fixtures.
    fn start_tls() -> Server {
        let pem = |name| std::fs::read(fixture(name)).unwrap();
        let (mut chain, mut key) = (Vec::new(), None);
        for item in [pem("cert.pem"), pem("key.pem")].iter().flat_map(|pem| parse_pem(pem)) {
            match item.unwrap() {
                PemItem::Certificate(certificate) => chain.push(certificate.der().to_vec().into()),
                PemItem::PrivateKey(private) => key = Some(private.der().to_vec()),
                _ => {}
            }
        }
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .unwrap();
        let config = Arc::new(config);
        Server::over("https", move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).ok()?;
            Some(rustls::StreamOwned::new(connection, stream))
        })
    }

    fn over<S: Read + Write + Send + 'static>(
        scheme: &str,
        wrap: impl Fn(TcpStream) -> Option<S> + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("{scheme}://{}/v1/transit/keys/models", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(Transit { version: 1, ..Transit::default() }));
        let shared = state.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, stream) = (shared.clone(), wrap(stream));
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream?);
                    while serve(&mut stream, &shared).is_some() {}
                    Some(())
                });
            }
        });
        Server { uri, state }
    }

    fn rotate(&self) {
        self.state.lock().unwrap().version += 1;
    }
}

/// One request of a connection; `None` at its end.
fn serve(reader: &mut BufReader<impl Read + Write>, state: &Mutex<Transit>) -> Option<()> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| 0 < *read)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let token = headers.get("x-vault-token").map_or("", String::as_str);
    let (status, answer) = answer(&mut state.lock().unwrap(), &line, &path, token, &body);
    let text = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    let stream = reader.get_mut();
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(text.as_bytes()))
        .and_then(|()| stream.flush())
        .ok()
}

fn answer(transit: &mut Transit, line: &str, path: &str, token: &str, body: &[u8]) -> (u16, Value) {
    transit.asked.push(path.to_owned());
    if token != TOKEN {
        return (403, json!({ "errors": ["permission denied"] }));
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let data = match (line.starts_with("POST "), path) {
        (true, "/v1/transit/encrypt/models") => json!({ "ciphertext": transit.wrap(&body["plaintext"]) }),
        (true, "/v1/transit/decrypt/models") => match transit.unwrap(&body["ciphertext"]) {
            Some(plaintext) => json!({ "plaintext": plaintext }),
            None => return (400, json!({ "errors": ["cipher: message authentication failed"] })),
        },
        (true, "/v1/transit/rewrap/models") => match transit.unwrap(&body["ciphertext"]) {
            Some(plaintext) => {
                json!({ "ciphertext": transit.wrap(&json!(plaintext)), "key_version": transit.version })
            }
            None => return (400, json!({ "errors": ["invalid ciphertext"] })),
        },
        _ => return (404, json!({ "errors": [] })),
    };
    (200, json!({ "request_id": "1", "lease_id": "", "renewable": false, "data": data, "warnings": null }))
}

impl Transit {
    fn wrap(&mut self, plaintext: &Value) -> String {
        let plaintext = plaintext.as_str().unwrap().to_owned();
        assert_eq!(STANDARD.decode(&plaintext).unwrap().len(), 32, "a key in base64");
        let name =
            format!("vault:v{}:{}", self.version, STANDARD.encode(format!("no {}", self.wrapped.len())));
        self.wrapped.insert(name.clone(), plaintext);
        name
    }

    fn unwrap(&self, ciphertext: &Value) -> Option<String> {
        self.wrapped.get(ciphertext.as_str()?).cloned()
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vault-tls").join(name)
}

fn vault(uri: &str, token: &str) -> Vault {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    Vault::new(uri, &Access { token_file: Some(file), authority: None }).unwrap()
}

#[test]
fn keys_are_wrapped_unwrapped_and_rewrapped() {
    let server = Server::start();
    let vault = vault(&server.uri, TOKEN);
    let key = DataKey::from_bytes(&[7; 32]).unwrap();
    let wrapped = vault.wrap(&key).unwrap();
    assert!(wrapped.starts_with("vault:v1:"), "{wrapped}");
    assert_eq!(vault.unwrap(&wrapped).unwrap().expose(), key.expose());
    server.rotate();
    let again = vault.rewrap(&wrapped).unwrap();
    assert!(again.starts_with("vault:v2:"), "{again}");
    assert_eq!(vault.unwrap(&again).unwrap().expose(), key.expose());
    assert_eq!(vault.unwrap("vault:v1:AAAA").unwrap_err().code(), Code::InvalidRequest);
    let asked = server.state.lock().unwrap().asked.clone();
    assert_eq!(asked[0], "/v1/transit/encrypt/models");
}

#[test]
fn tls_is_spoken_with_the_authority_that_was_named_and_no_other() {
    let server = Server::start_tls();
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let with = |authority: &str| {
        let access = Access { token_file: Some(token.clone()), authority: Some(fixture(authority)) };
        Vault::new(&server.uri, &access)
    };
    let key = DataKey::from_bytes(&[9; 32]).unwrap();
    let vault = with("ca.pem").unwrap();
    assert_eq!(vault.unwrap(&vault.wrap(&key).unwrap()).unwrap().expose(), key.expose());
    // The server's own certificate is no authority.
    let refused = with("cert.pem").unwrap().wrap(&key).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(with("key.pem").is_err(), "no certificate");
}

#[test]
fn the_server_of_these_tests_speaks_what_vaults_own_client_speaks() {
    let Some(python) = std::env::var_os("BMS_HVAC_PYTHON") else {
        return eprintln!("SKIPPED: BMS_HVAC_PYTHON names no Python that has `hvac`");
    };
    let server = Server::start();
    let script = r#"
import base64, hvac, sys
client = hvac.Client(url=sys.argv[1].split('/v1/')[0], token='hvs.a-token')
transit = client.secrets.transit
key = base64.b64encode(bytes(range(32))).decode()
sealed = transit.encrypt_data(name='models', plaintext=key)['data']['ciphertext']
again = transit.rewrap_data(name='models', ciphertext=sealed)['data']['ciphertext']
assert transit.decrypt_data(name='models', ciphertext=again)['data']['plaintext'] == key
print(again)
"#;
    let output = std::process::Command::new(python).args(["-c", script, &server.uri]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What the client wrapped we unwrap.
    let wrapped = String::from_utf8(output.stdout).unwrap();
    let key = vault(&server.uri, TOKEN).unwrap(wrapped.trim()).unwrap();
    assert!(key.expose().iter().copied().eq(0..32));
}

#[test]
fn refusals_say_what_to_do_and_never_the_token() {
    let server = Server::start();
    let wrong = vault(&server.uri, "hvs.wrong");
    let error = wrong.wrap(&DataKey::from_bytes(&[7; 32]).unwrap()).unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert!(error.message().contains("permission denied"), "{error}");
    assert!(!format!("{error:?}").contains("hvs.wrong"));
    let absent = vault(&server.uri.replace("keys/models", "keys/others"), TOKEN);
    assert_eq!(absent.unwrap("vault:v1:x").unwrap_err().code(), Code::NotFound);
    let gone = vault("http://127.0.0.1:1/v1/transit/keys/models", TOKEN);
    assert_eq!(gone.unwrap("vault:v1:x").unwrap_err().code(), Code::Unavailable);
}

#[test]
fn only_addresses_of_keys_are_taken_and_plain_http_stays_here() {
    assert_eq!(
        parse("https://vault.example:8200/v1/team/transit/keys/models").unwrap(),
        ("https://vault.example:8200/v1/team/transit".to_owned(), "models".to_owned())
    );
    for wrong in [
        "http://vault.example:8200/v1/transit/keys/models",
        "https://vault.example:8200/transit/keys/models",
        "https://vault.example:8200/v1/transit/keys/",
        "https://vault.example:8200/v1/transit/keys/a/../b",
        "https://vault.example:8200/v1/transit/keys/a?x",
        "https://vault.example:8200/v1/../keys/a",
        "https://vault.example:8200/v1/transit/keys/a b",
        "ftp://127.0.0.1/v1/transit/keys/models",
        "http://127.0.0.1.example/v1/transit/keys/models",
        "",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
