//! SeaweedFS as an S3 server: a real store with its own index and volumes, in one program.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::place::free_port;
use super::{Place, Service, Started};
use crate::fixtures;

pub(super) const SERVICE: Service = Service { name: "s3", start };

/// A bucket for the tests, each of which uses a prefix of its own.
const BUCKET: &str = "bms-test";
/// The only user. It protects nothing: the server listens on loopback and its data is rubbish.
const KEY: &str = "testkey";
const SECRET: &str = "testsecret";
/// How long it may take until it answers.
const STARTS_WITHIN: Duration = Duration::from_secs(90);
/// The distance between a port and that of the same part for the server's own calls, which it chooses itself.
const OWN_CALLS: u16 = 10_000;

fn start(place: &Place) -> Result<Started> {
    let fixtures = fixtures::provide("services")?;
    let weed = fixtures.iter().find(|(name, _)| name == "BMS_SEAWEEDFS").map(|(_, path)| path);
    let weed =
        weed.context("there is no SeaweedFS for this system; set the variables of `services env` yourself")?;
    fs::set_permissions(weed, fs::Permissions::from_mode(0o755))?;
    let data = place.dir().join("data");
    fs::create_dir_all(&data)?;
    let users = serde_json::json!({"identities": [{
        "name": "test",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    let config = place.dir().join("users.json");
    fs::write(&config, users.to_string())?;
    let mut ports = [0_u16; 4];
    for port in &mut ports {
        *port = free_port(OWN_CALLS)?;
    }
    let [master, volume, filer, s3] = ports;
    let mut command = Command::new(weed);
    command.args(["-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
    command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", config.display()));
    command.args(["-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=40"]);
    command.args(["-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
    for (part, port) in [("master", master), ("volume", volume), ("filer", filer), ("s3", s3)] {
        command.arg(format!("-{part}.port={port}"));
    }
    let pid = place.spawn(command.current_dir(place.dir()))?;
    let started = Started {
        pids: vec![pid],
        environment: [
            ("BMS_TEST_S3", format!("s3://{BUCKET}")),
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{s3}")),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec(),
    };
    // Noted before it is ready, so that one that never gets ready can be stopped.
    place.keep(&started)?;
    let begin = Instant::now();
    while !answers(s3) || !make_bucket(weed, master) {
        if STARTS_WITHIN < begin.elapsed() {
            let log = place.log();
            place.stop()?;
            bail!("SeaweedFS did not answer within {} s:\n{log}", STARTS_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(started)
}

/// Whether something on the port speaks HTTP.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut begin = [0; 5];
        connection.read_exact(&mut begin)?;
        Ok(&begin == b"HTTP/")
    };
    ask().unwrap_or(false)
}

/// Makes the bucket with the server's own shell; S3 itself would want a signed request.
fn make_bucket(weed: &Path, master: u16) -> bool {
    let shell = Command::new(weed)
        .args(["shell", &format!("-master=127.0.0.1:{master}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut shell) = shell else { return false };
    if let Some(mut stdin) = shell.stdin.take() {
        // A shell that is gone already shows in what it printed.
        let _ = writeln!(stdin, "s3.bucket.create -name {BUCKET}");
    }
    let output = shell.wait_with_output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("created bucket"))
}
