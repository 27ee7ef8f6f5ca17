use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;
use crate::nodes::authority::{Authority, Key};
use crate::nodes::worker_host;

/// Somebody with a certificate of this authority for this name, good for so long.
fn own(authority: &Authority, host: &str, length: Duration) -> Arc<Own> {
    let key = Key::generate().unwrap();
    let certificate = authority.issue(host, &key.public(), length).unwrap();
    Own::new(key.signing().unwrap(), certificate, authority.certificate().clone())
}

fn authority(dir: &tempfile::TempDir, name: &str) -> Authority {
    Authority::load_or_make(&dir.path().join(name)).unwrap()
}

/// What the server makes of one connection: whom it is with, or why not.
async fn connect(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    host: &str,
) -> std::result::Result<Peer, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(server).accept(stream).await.map_err(|e| e.to_string())?;
        let peer = Peer::of(&stream);
        stream.write_all(b"x").await.map_err(|e| e.to_string())?;
        Ok::<_, String>(peer)
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let heard = async {
        let mut stream = TlsConnector::from(client).connect(name, stream).await.map_err(|e| e.to_string())?;
        stream.read_u8().await.map_err(|e| e.to_string())
    };
    let heard = heard.await;
    let peer = accepted.await.unwrap()?;
    heard.map(|_| peer)
}

const DAY: Duration = Duration::from_secs(86400);

#[tokio::test]
async fn each_side_knows_the_other_by_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority(&dir, "ours");
    let centre = server(own(&ours, CENTRE_HOST, DAY), ours.certificate(), true).unwrap();
    let worker = client(own(&ours, &worker_host("w"), DAY), ours.certificate()).unwrap();
    let peer = connect(centre.clone(), worker.clone(), CENTRE_HOST).await.unwrap();
    assert!(!peer.is_centre && peer.key_id.is_some());
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    assert!(
        !peer.has_ended(now) && peer.has_ended(now + 2 * 86400),
        "a connection lasts no longer than that"
    );
    // Only the pin is known, and no certificate is shown.
    let peer = connect(centre.clone(), joining(&ours.pin()).unwrap(), CENTRE_HOST).await.unwrap();
    assert!(!peer.is_centre && peer.key_id.is_none());
    assert!(!peer.has_ended(now + 2 * 86400), "what was not shown has no end");
    let why = connect(centre, joining(&"ab".repeat(32)).unwrap(), CENTRE_HOST).await.unwrap_err();
    assert!(!why.is_empty());

    let door = server(own(&ours, &worker_host("w"), DAY), ours.certificate(), false).unwrap();
    let replica = client(own(&ours, CENTRE_HOST, DAY), ours.certificate()).unwrap();
    assert!(connect(door.clone(), replica.clone(), &worker_host("w")).await.unwrap().is_centre);
    assert!(
        !connect(door.clone(), worker, &worker_host("w")).await.unwrap().is_centre,
        "a worker is no centre"
    );
    assert!(
        connect(door.clone(), replica, &worker_host("v")).await.is_err(),
        "another worker is not this one"
    );
    assert!(
        connect(door, joining(&ours.pin()).unwrap(), CENTRE_HOST).await.is_err(),
        "nobody comes without one"
    );
}

#[tokio::test]
async fn who_is_of_another_authority_or_out_of_time_is_not_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(&dir, "ours"), authority(&dir, "theirs"));
    let centre = server(own(&ours, CENTRE_HOST, DAY), ours.certificate(), true).unwrap();
    let stranger = client(own(&theirs, &worker_host("w"), DAY), ours.certificate()).unwrap();
    assert!(connect(centre.clone(), stranger, CENTRE_HOST).await.is_err());
    let late = client(own(&ours, &worker_host("w"), Duration::ZERO), ours.certificate()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(connect(centre, late, CENTRE_HOST).await.is_err());
    let false_centre = server(own(&theirs, CENTRE_HOST, DAY), theirs.certificate(), true).unwrap();
    let worker = client(own(&ours, &worker_host("w"), DAY), ours.certificate()).unwrap();
    assert!(connect(false_centre, worker, CENTRE_HOST).await.is_err());
}

#[tokio::test]
async fn a_fresh_certificate_is_shown_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority(&dir, "ours");
    let centre = server(own(&ours, CENTRE_HOST, DAY), ours.certificate(), true).unwrap();
    let key = Key::generate().unwrap();
    let issue = |length| ours.issue(&worker_host("w"), &key.public(), length).unwrap();
    let own = Own::new(key.signing().unwrap(), issue(Duration::ZERO), ours.certificate().clone());
    let worker = client(own.clone(), ours.certificate()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(connect(centre.clone(), worker.clone(), CENTRE_HOST).await.is_err());
    own.replace(issue(DAY));
    let peer = connect(centre, worker, CENTRE_HOST).await.unwrap();
    assert_eq!(peer.key_id, Some(key.public().id()));
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_not_taken_for_an_earlier_connection() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority(&dir, "ours");
    let centre = server(own(&ours, CENTRE_HOST, DAY), ours.certificate(), true).unwrap();
    let brief = Duration::from_secs(2);
    let worker = client(own(&ours, &worker_host("w"), brief), ours.certificate()).unwrap();
    connect(centre.clone(), worker.clone(), CENTRE_HOST).await.unwrap();
    tokio::time::sleep(brief + Duration::from_secs(1)).await;
    let why = connect(centre, worker, CENTRE_HOST).await.unwrap_err();
    assert!(why.to_lowercase().contains("expired"), "{why}");
}
