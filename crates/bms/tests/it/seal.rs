//! Sealed bundles from the command line to the edge; quarantine and audit log with their orders and exports.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bms_wire::Code;
use serde_json::Value;

use crate::program::{Server, Shared, bms, fails, ok, shared};

/// A folder with a passphrase file, the shared model sealed for it, and a picture.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        let site = Site { dir: tempfile::tempdir().unwrap() };
        std::fs::write(site.at("passphrase"), "correct horse battery staple\n").unwrap();
        let picture = Shared::held_out().samples[0].image.encode_png().unwrap();
        std::fs::write(site.at("picture.png"), picture).unwrap();
        let home = shared().home();
        ok(bms(&home)
            .arg("seal")
            .arg(shared().at("fp32"))
            .arg("--out")
            .arg(site.at("sealed"))
            .arg("--to-passphrase-file")
            .arg(site.at("passphrase")));
        site
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// Leases the sealed model to the node whose key is in `node.pem`.
    fn lease(&self, days: &str, out: &str) {
        let mut command = bms(&shared().home());
        command.args(["lease", "issue", "--node", "edge-1", "--days", days]).arg(self.at("sealed"));
        command.arg("--to").arg(self.at("node.pem")).arg("--out").arg(self.at(out));
        ok(command.arg("--passphrase-file").arg(self.at("passphrase")));
    }

    fn push(&self, url: &str) -> Value {
        ok(bms(&shared().home()).arg("push").arg(self.at("sealed")).args([
            "--alias",
            "production",
            "--server",
            url,
        ]))
    }
}

fn answer(command: &mut std::process::Command) -> String {
    ok(command)["predictions"][0]["ranked"][0]["label"].as_str().unwrap().to_owned()
}

#[test]
fn a_sealed_bundle_answers_with_its_key_and_with_no_other() {
    let (site, home) = (Site::new(), shared().home());
    let plain = answer(
        bms(&home).arg("predict").arg(site.at("picture.png")).arg("--bundle").arg(shared().at("fp32")),
    );
    let predict = || {
        let mut command = bms(&home);
        command.arg("predict").arg(site.at("picture.png")).arg("--bundle").arg(site.at("sealed"));
        command
    };
    assert_eq!(answer(predict().arg("--passphrase-file").arg(site.at("passphrase"))), plain);
    let (exit, error) = fails(&mut predict());
    assert_eq!((exit, error["code"].as_str()), (i32::from(Code::KeyMissing.exit()), Some("key_missing")));
    std::fs::write(site.at("wrong"), "wrong").unwrap();
    let (exit, _) = fails(predict().arg("--passphrase-file").arg(site.at("wrong")));
    assert_eq!(exit, i32::from(Code::KeyMissing.exit()));

    // Sealed for a key pair by rekeying; the passphrase goes.
    let other = site.at("other-home");
    let key = ok(bms(&other).args(["key", "sealing"]));
    std::fs::write(site.at("other.pem"), key["public_key"].as_str().unwrap()).unwrap();
    let rekeyed = ok(bms(&home)
        .arg("rekey")
        .arg(site.at("sealed"))
        .arg("--passphrase-file")
        .arg(site.at("passphrase"))
        .arg("--to")
        .arg(site.at("other.pem")));
    let name = rekeyed["recipients"][0].as_str().unwrap().to_owned();
    let remove = |name: &str| {
        let mut command = bms(&home);
        command.arg("rekey").arg(site.at("sealed")).args(["--remove", name]);
        command.arg("--key-file").arg(other.join("sealing-key.pem"));
        command
    };
    ok(&mut remove(&name));
    let (exit, _) = fails(&mut remove("nobody"));
    assert_eq!(exit, i32::from(Code::NotFound.exit()));
    let (exit, _) = fails(predict().arg("--passphrase-file").arg(site.at("passphrase")));
    assert_eq!(exit, i32::from(Code::KeyMissing.exit()));
    assert_eq!(answer(predict().arg("--key-file").arg(other.join("sealing-key.pem"))), plain);

    let unsealed = site.at("unsealed");
    let key_file = other.join("sealing-key.pem");
    ok(bms(&home)
        .arg("unseal")
        .arg(site.at("sealed"))
        .arg("--out")
        .arg(&unsealed)
        .arg("--key-file")
        .arg(&key_file));
    assert_eq!(
        std::fs::read(unsealed.join("model.sig")).unwrap(),
        std::fs::read(shared().at("fp32").join("model.sig")).unwrap()
    );
    ok(bms(&home).arg("verify").arg(&unsealed));
}

#[test]
fn a_server_keeps_a_sealed_bundle_and_serves_it_once_it_has_the_key() {
    let (site, home) = (Site::new(), shared().home());
    let data = site.path("data");
    let server = Server::start(&home, &["up", "--data", &data]);
    let url = server.client.base().to_owned();
    let version = site.push(&url);
    ok(bms(&home).args(["deploy", "digits", "--server", &url]));
    let refused = || {
        let events = server.client.audit(0).unwrap();
        events.into_iter().find(|event| event.action == "slot.refused")
    };
    let event = (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        refused()
    });
    assert_eq!(event.expect("the slot is refused").details["code"], "key_missing");
    server.kill();

    let server =
        Server::start(&home, &["up", "--data", &data, "--passphrase-file", &site.path("passphrase")]);
    let url = server.client.base().to_owned();
    assert_eq!(server.client.version("digits", "1").unwrap().digest, version["digest"].as_str().unwrap());
    server.wait_for("digits");
    let there = answer(
        bms(&home).arg("predict").arg(site.at("picture.png")).args(["--server", &url, "--model", "digits"]),
    );
    let here = answer(
        bms(&home).arg("predict").arg(site.at("picture.png")).arg("--bundle").arg(shared().at("fp32")),
    );
    assert_eq!(there, here);
    // What lies on disk is sealed, for the loaded version, too.
    for folder in [Path::new(&data).join("store"), Path::new(&data).join("loaded")] {
        assert!(!holds(&folder, b"pytorch") && !holds(&folder, b"model.onnx"), "{}", folder.display());
    }
}

/// Whether any file below holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| match entry.path() {
        path if path.is_dir() => holds(&path, bytes),
        path => std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes),
    })
}

#[test]
fn serve_opens_a_sealed_bundle() {
    let (site, home) = (Site::new(), shared().home());
    let (sealed, passphrase) = (site.path("sealed"), site.path("passphrase"));
    let server = Server::start(&home, &["serve", &sealed, "--passphrase-file", &passphrase]);
    let url = server.client.base().to_owned();
    server.wait_for("digits");
    answer(
        bms(&home).arg("predict").arg(site.at("picture.png")).args(["--server", &url, "--model", "digits"]),
    );
}

#[test]
fn an_edge_node_answers_while_its_lease_lasts() {
    let (site, home) = (Site::new(), shared().home());
    let server = Server::start(&home, &["up", "--data", &site.path("data")]);
    let url = server.client.base().to_owned();
    site.push(&url);
    ok(bms(&home).args(["deploy", "digits", "--server", &url]));
    let (node, node_key) = (site.at("node"), site.at("node.pem"));
    let key = ok(bms(&node).args(["key", "sealing"]));
    std::fs::write(&node_key, key["public_key"].as_str().unwrap()).unwrap();
    let centre = ok(bms(&home).args(["key", "show"]));
    std::fs::write(site.at("centre.pem"), centre["public_key"].as_str().unwrap()).unwrap();
    site.lease("0.00012", "short.lease");
    let short = site.path("short.lease");
    let data = site.path("edge");
    let args = [
        "edge",
        "--centre",
        &url,
        "--model",
        "digits",
        "--node",
        "edge-1",
        "--data",
        &data,
        "--report-seconds",
        "0.2",
        "--lease",
    ];
    // Who may publish may not lease, unless it is said.
    ok(bms(&node).args(["trust", "add", "--publisher", "centre"]).arg(site.at("centre.pem")));
    let (exit, _) = fails(bms(&node).args(args).arg(&short));
    assert_eq!(exit, i32::from(Code::SignerUntrusted.exit()));
    ok(bms(&node)
        .args(["trust", "add", "--publisher", "centre", "--may", "publish", "--may", "lease"])
        .arg(site.at("centre.pem")));
    let edge = Server::start(&node, &[&args[..], &[&short]].concat());
    edge.wait_for("digits");
    let edge_url = edge.client.base().to_owned();
    answer(
        bms(&node)
            .arg("predict")
            .arg(site.at("picture.png"))
            .args(["--server", &edge_url, "--model", "digits"]),
    );
    let over = (0..1200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        !edge.client.is_model_ready("digits").unwrap()
    });
    assert!(over, "the lease is over and the model answers all the same");
    let (_, error) = fails(
        bms(&node)
            .arg("predict")
            .arg(site.at("picture.png"))
            .args(["--server", &edge_url, "--model", "digits"]),
    );
    assert!(error["error"].as_str().unwrap().contains("expired"), "{error}");
    edge.kill();

    // Offline, with a new lease, from what is on its disk.
    server.kill();
    site.lease("30", "long.lease");
    let shown = ok(bms(&node).args(["lease", "show"]).arg(site.at("long.lease")));
    assert_eq!(shown["holds"], true);
    let long = site.path("long.lease");
    let edge = Server::start(&node, &[&args[..], &[&long]].concat());
    edge.wait_for("digits");
}

#[test]
fn a_rekey_that_is_killed_leaves_an_envelope_that_opens() {
    let (site, home) = (Site::new(), shared().home());
    let rekey = || {
        let mut command = bms(&home);
        command.arg("rekey").arg(site.at("sealed"));
        command.arg("--passphrase-file").arg(site.at("passphrase"));
        command.arg("--to-passphrase-file").arg(site.at("passphrase"));
        command
    };
    let data = std::fs::read(site.at("sealed").join("sealed.bms")).unwrap();
    let began = std::time::Instant::now();
    let mut acknowledged = ok(&mut rekey())["revision"].as_u64().unwrap();
    let whole = began.elapsed();
    for round in 1..=12 {
        let mut child = rekey().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Anywhere from its start to a little after its end.
        std::thread::sleep(whole * round / 10);
        let _ = child.kill();
        let done = child.wait().unwrap().success();
        acknowledged += u64::from(done);
        let verify = ok(bms(&home)
            .arg("verify")
            .arg(site.at("sealed"))
            .arg("--passphrase-file")
            .arg(site.at("passphrase")));
        assert_eq!(verify["verified"], true);
    }
    let last = ok(&mut rekey())["revision"].as_u64().unwrap();
    assert!(acknowledged < last, "an acknowledged envelope is never replaced by an older one");
    assert_eq!(std::fs::read(site.at("sealed").join("sealed.bms")).unwrap(), data, "the data is untouched");
}

#[test]
fn quarantine_and_audit_log_from_the_command_line() {
    let (site, home) = (Site::new(), shared().home());
    let server = Server::start(&home, &["up", "--data", &site.path("data")]);
    let url = server.client.base().to_owned();
    let stranger = site.at("stranger");
    let tampered = site.at("tampered");
    std::fs::create_dir(&tampered).unwrap();
    for entry in std::fs::read_dir(shared().at("fp32")).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), tampered.join(entry.file_name())).unwrap();
        }
    }
    ok(bms(&stranger).arg("sign").arg(&tampered));
    let (exit, _) = fails(bms(&home).arg("push").arg(&tampered).args(["--server", &url]));
    assert_eq!(exit, i32::from(Code::SignerUntrusted.exit()));
    let list = ok(bms(&home).args(["quarantine", "--server", &url]));
    let id = list[0]["id"].as_str().unwrap().to_owned();
    let show = ok(bms(&home).args(["quarantine", "--server", &url, "show", &id]));
    assert!(show["files_kept"].as_bool().unwrap() && 3 <= show["files"].as_array().unwrap().len());
    let act = |home: &Path, what: &str| {
        let mut command = bms(home);
        command.args(["quarantine", "--server", &url, what, &id, "--reason", "looked at it"]);
        command
    };
    let (exit, _) = fails(&mut act(&stranger, "release"));
    assert_eq!(exit, i32::from(Code::PermissionDenied.exit()));
    let (exit, _) = fails(&mut act(&home, "release"));
    assert_eq!(exit, i32::from(Code::SignerUntrusted.exit()), "the gate refuses as before");
    ok(&mut act(&home, "purge"));
    let list = ok(bms(&home).args(["quarantine", "--server", &url]));
    assert_eq!(list.as_array().unwrap().len(), 0);

    let export = site.at("audit.jsonl");
    ok(bms(&home).args(["audit", "--server", &url, "export", "--out"]).arg(&export));
    let verified = ok(bms(&home).args(["audit", "verify"]).arg(&export));
    assert!(5 <= verified["events"].as_u64().unwrap(), "{verified}");
    let (exit, _) = fails(bms(&stranger).args(["audit", "verify"]).arg(&export));
    assert_eq!(exit, i32::from(Code::SignatureInvalid.exit()), "another server's key");
    let text = std::fs::read_to_string(&export).unwrap();
    std::fs::write(&export, text.replace("looked at it", "looked at me")).unwrap();
    let (exit, _) = fails(bms(&home).args(["audit", "verify"]).arg(&export));
    assert_eq!(exit, i32::from(Code::Tampered.exit()));
}

#[test]
fn what_a_revoked_key_signed_is_unloaded_and_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (home, publisher) = (at("home"), at("publisher"));
    // The server's own policy, and a publisher's key on it.
    let key = ok(bms(&publisher).args(["key", "show"]));
    std::fs::write(at("publisher.pem"), key["public_key"].as_str().unwrap()).unwrap();
    ok(bms(&home).args(["trust", "add", "--publisher", "them"]).arg(at("publisher.pem")));
    let bundle = at("bundle");
    std::fs::create_dir(&bundle).unwrap();
    for entry in
        std::fs::read_dir(shared().at("fp32")).unwrap().flatten().filter(|entry| entry.path().is_file())
    {
        std::fs::copy(entry.path(), bundle.join(entry.file_name())).unwrap();
    }
    ok(bms(&publisher).arg("sign").arg(&bundle));
    let data = at("data").to_str().unwrap().to_owned();
    let server = Server::start(&home, &["up", "--data", &data]);
    let url = server.client.base().to_owned();
    ok(bms(&home).arg("push").arg(&bundle).args(["--alias", "production", "--server", &url]));
    ok(bms(&home).args(["deploy", "digits", "--server", &url]));
    server.wait_for("digits");
    let key_id = key["key_id"].as_str().unwrap();
    ok(bms(&home).args(["trust", "revoke", key_id, "--reason", "the laptop was stolen"]));
    let gone = (0..1200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        !server.client.is_model_ready("digits").unwrap()
    });
    assert!(gone, "the model of a revoked key still answers");
    let list = ok(bms(&home).args(["quarantine", "--server", &url]));
    assert_eq!(list[0]["code"], "key_revoked");
    let events = server.client.audit(0).unwrap();
    assert!(events.iter().any(|event| event.action == "policy.changed"));
    let (exit, _) = fails(bms(&home).arg("push").arg(&bundle).args(["--server", &url]));
    assert_eq!(exit, i32::from(Code::KeyRevoked.exit()));
    server.client.verify_audit().unwrap();
}

#[test]
fn a_publishers_key_is_rotated_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    let old = ok(bms(&there).args(["key", "show"]));
    let (pem, statement) = (dir.path().join("there.pem"), dir.path().join("rotation.json"));
    std::fs::write(&pem, old["public_key"].as_str().unwrap()).unwrap();
    ok(bms(&here).args(["trust", "add", "--publisher", "there"]).arg(&pem));
    ok(bms(&there).args(["trust", "rotate", "--out"]).arg(&statement));
    let new = ok(bms(&there).args(["key", "show"]));
    assert_ne!(old["key_id"], new["key_id"]);
    let rotated =
        ok(bms(&here).args(["trust", "rotate", "--overlap-days", "7", "--statement"]).arg(&statement));
    assert_eq!((&rotated["publisher"], &rotated["key_id"]), (&"there".into(), &new["key_id"]));
    ok(bms(&here).args([
        "trust",
        "revoke",
        old["key_id"].as_str().unwrap(),
        "--reason",
        "the laptop was stolen",
    ]));
    let list = ok(bms(&here).args(["trust", "list"]));
    assert_eq!(list["revoked"][0]["key_id"], old["key_id"]);
    assert_eq!(list["trusted"].as_array().unwrap().len(), 3);
    let (exit, _) = fails(bms(&here).args(["trust", "add", "--publisher", "again"]).arg(&pem));
    assert_eq!(exit, i32::from(Code::KeyRevoked.exit()));
}
