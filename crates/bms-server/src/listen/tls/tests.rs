use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;

#[tokio::test]
async fn a_handshake_that_stalls_is_cut_off_in_time() {
    let dir = TempDir::new().unwrap();
    let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    certificate::tests::write_pair(&certificate, &key);
    let tls = Tls::load(certificate, key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let within = Duration::from_millis(300);
    let terms = Terms {
        connections_max: 4,
        head_within: Some(within),
        taken_within: None,
        http2: true,
        drain: Duration::ZERO,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let metrics = Metrics::new().unwrap();
        tls.serve(listener, Router::new(), None::<super::super::Nothing>, terms, &metrics, async {
            drop(stopped.await)
        })
        .await
    });
    for sent in [&[][..], &[HANDSHAKE, 3, 1], b"GET / HTTP/1.1\r\n"] {
        let began = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut told = Vec::new();
        let read = stream.read_to_end(&mut told);
        tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
        let is_plain = sent.starts_with(b"GET");
        assert_eq!(told.starts_with(b"HTTP/1.1 400 "), is_plain, "{}", String::from_utf8_lossy(&told));
        assert!(is_plain || within <= began.elapsed());
    }
    stop.send(()).unwrap();
    assert_eq!(serving.await.unwrap().unwrap(), 0);
}
