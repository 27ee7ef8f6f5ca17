//! Keys, and signatures in both directions with the reference implementation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bms_bundle::signature::{Envelope, verify_dir};
use bms_bundle::{Bundle, PublicKey, SIGNATURE, SigningKey, sign_bundle, sign_dir};
use bms_wire::Code;

use crate::samples::draft;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/oms").join(path)
}

/// Copies the fixture's model so that it can be changed.
fn copy_of_model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixture("model").join(name), dir.path().join(name)).unwrap();
    }
    dir
}

#[test]
fn keys_survive_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let key = SigningKey::generate();
    key.save(&path).unwrap();
    let loaded = SigningKey::load(&path).unwrap();
    assert_eq!(loaded.public(), key.public());
    assert_eq!(key.save(&path).expect_err("must not overwrite").code(), Code::Conflict);
    assert_eq!(PublicKey::from_pem(key.public_pem()).unwrap(), *key.public());
    assert!(!format!("{key:?}").contains("PRIVATE"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_ne!(SigningKey::generate().key_id(), key.key_id());
}

#[test]
fn what_is_no_key_is_refused_without_showing_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    assert_eq!(SigningKey::load(&path).expect_err("absent").code(), Code::NotFound);
    fs::write(&path, "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n").unwrap();
    let error = SigningKey::load(&path).expect_err("no key");
    assert_eq!(error.code(), Code::InvalidRequest);
    assert!(!format!("{error:?}").contains("secret"));
    assert_eq!(PublicKey::from_pem("no key").expect_err("no key").code(), Code::InvalidRequest);
}

#[test]
fn a_signature_of_the_reference_implementation_is_accepted() {
    let key = PublicKey::load(&fixture("pub.pem")).unwrap();
    verify_dir(&fixture("model"), &fixture("model.sig"), &key).unwrap();
    let envelope = Envelope::parse(&fs::read(fixture("model.sig")).unwrap()).unwrap();
    assert_eq!(envelope.hint(), Some(key.id()), "the key is named as the reference names it");
}

#[test]
fn a_changed_model_or_another_key_is_not_accepted() {
    let key = PublicKey::load(&fixture("pub.pem")).unwrap();
    let signature = fixture("model.sig");
    let other = SigningKey::generate();
    let error = verify_dir(&fixture("model"), &signature, other.public()).expect_err("another key");
    assert_eq!(error.code(), Code::SignatureInvalid);

    let dir = copy_of_model();
    verify_dir(dir.path(), &signature, &key).unwrap();
    fs::write(dir.path().join("extra"), "x").unwrap();
    assert_eq!(verify_dir(dir.path(), &signature, &key).expect_err("extra").code(), Code::Tampered);
    fs::remove_file(dir.path().join("extra")).unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    assert_eq!(verify_dir(dir.path(), &signature, &key).expect_err("changed").code(), Code::Tampered);
    fs::remove_file(dir.path().join("config.json")).unwrap();
    assert_eq!(verify_dir(dir.path(), &signature, &key).expect_err("missing").code(), Code::Tampered);
}

#[test]
fn files_of_git_may_stay_unsigned_only_in_folders_that_are_no_bundles() {
    let key = PublicKey::load(&fixture("pub.pem")).unwrap();
    let dir = copy_of_model();
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join(".git/HEAD"), "ref").unwrap();
    verify_dir(dir.path(), &fixture("model.sig"), &key).unwrap();
}

#[test]
fn statements_that_say_something_else_are_refused() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let text = fs::read_to_string(fixture("model.sig")).unwrap();
    let outer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let payload = STANDARD.decode(outer["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    for (from, to) in [
        ("statement/v1", "statement/v9"),
        ("in-toto.io", "in-toto.example"),
        ("\"files\"", "\"shards\""),
        ("\"allow_symlinks\": false", "\"allow_symlinks\": true"),
        ("\"allow_symlinks\": false,", ""),
        ("\"config.json\"", "\"../config.json\""),
        ("\"config.json\"", "\"model.safetensors\""),
        ("\"algorithm\": \"sha256\"", "\"algorithm\": \"blake2b\""),
        ("4d24", "4d25"),
        ("\"name\": \"model\"", "\"names\": \"model\""),
    ] {
        if !payload.contains(from) {
            assert_eq!(from, "statement/v1", "every other case must apply");
            continue;
        }
        let mut changed = outer.clone();
        changed["dsseEnvelope"]["payload"] = STANDARD.encode(payload.replacen(from, to, 1)).into();
        let error = Envelope::parse(changed.to_string().as_bytes()).expect_err(to);
        assert_eq!(error.code(), Code::SignatureInvalid, "{to}: {error}");
    }
    for (from, to) in [
        ("bundle.v0.3", "bundle.v0.2"),
        ("in-toto+json", "json"),
        ("publicKey", "certificate"),
        ("\"signatures\"", "\"signature\""),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(Envelope::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn an_inconsistent_bundle_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    draft().write(&path).unwrap();
    fs::write(path.join("labels.txt"), "changed").unwrap();
    let key = SigningKey::generate();
    assert_eq!(sign_dir(&path, &key).expect_err("changed").code(), Code::Tampered);
    assert!(!path.join(SIGNATURE).exists());
    assert!(sign_bundle(&Bundle::open(&path).unwrap(), &key).is_err());
}

/// Keys on the larger curves, made with OpenSSL, and what the reference signed with them.
const LARGER: [(&str, &str); 2] = [
    (include_str!("../fixtures/oms/p384.pem"), include_str!("../fixtures/oms/p384.sig")),
    (include_str!("../fixtures/oms/p521.pem"), include_str!("../fixtures/oms/p521.sig")),
];

#[test]
fn signatures_on_larger_curves_are_accepted_and_only_whole() {
    for (pem, signature) in LARGER {
        let key = PublicKey::from_pem(pem).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.sig");
        fs::write(&file, signature).unwrap();
        verify_dir(&fixture("model"), &file, &key).unwrap();
        let other = PublicKey::load(&fixture("pub.pem")).unwrap();
        assert_eq!(verify_dir(&fixture("model"), &file, &other).unwrap_err().code(), Code::SignatureInvalid);
        let envelope = Envelope::parse(signature.as_bytes()).unwrap();
        assert_eq!(envelope.hint(), Some(key.id()));
        let sig = serde_json::from_str::<serde_json::Value>(signature).unwrap();
        let sig = sig["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap().to_owned();
        let changed = signature.replace(&sig[..20], &sig[..20].to_lowercase());
        assert_ne!(changed, signature);
        assert!(Envelope::parse(changed.as_bytes()).and_then(|envelope| envelope.verify(&key)).is_err());
    }
}

/// The reference command line: named by `BMS_MODEL_SIGNING`, or found on the search path.
fn reference() -> Option<PathBuf> {
    let named = std::env::var_os("BMS_MODEL_SIGNING").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("model_signing")).find(|file| file.is_file());
    let program = named.or(found);
    if program.is_none() {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "model_signing is needed in CI: install `model-signing` and set BMS_MODEL_SIGNING");
        eprintln!("SKIPPED: no `model_signing` program, so the reference has not judged our signatures");
    }
    program
}

/// Whether the reference accepts the bundle.
fn accepts(program: &Path, bundle: &Path, key: &Path) -> bool {
    let output = Command::new(program)
        .args(["verify", "key"])
        .arg(bundle)
        .arg("--signature")
        .arg(bundle.join(SIGNATURE))
        .arg("--public_key")
        .arg(key)
        .output()
        .expect("the reference runs");
    output.status.success() && String::from_utf8_lossy(&output.stdout).contains("succeeded")
}

#[test]
fn the_reference_implementation_accepts_our_signatures() {
    let Some(program) = reference() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (path, pem) = (dir.path().join("bundle"), dir.path().join("pub.pem"));
    let key = SigningKey::generate();
    fs::write(&pem, key.public_pem()).unwrap();
    draft().write(&path).unwrap();
    sign_dir(&path, &key).unwrap();
    assert!(accepts(&program, &path, &pem), "the reference refuses our signature");

    fs::write(path.join("labels.txt"), "changed").unwrap();
    assert!(!accepts(&program, &path, &pem), "the reference must notice a change");

    // And the other way: what the reference signs with our key, we accept.
    let private = dir.path().join("key.pem");
    key.save(&private).unwrap();
    let model = copy_of_model();
    let signature = dir.path().join("theirs.sig");
    let status = Command::new(&program)
        .args(["sign", "key"])
        .arg(model.path())
        .arg("--signature")
        .arg(&signature)
        .arg("--private_key")
        .arg(&private)
        .output()
        .expect("the reference runs");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    verify_dir(model.path(), &signature, key.public()).unwrap();
}

#[test]
fn the_reference_implementation_accepts_sealed_rekeyed_and_approved_bundles() {
    use bms_bundle::seal::{Key, Rekeyed, SealOptions, To, rekey_dir, seal_to};
    use bms_bundle::{APPROVALS, Policy, approve_dir};
    let Some(program) = reference() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [plain, sealed, pem, second_pem] =
        ["plain", "sealed", "pub.pem", "second.pem"].map(|name| dir.path().join(name));
    let (key, second, reader) = (SigningKey::generate(), SigningKey::generate(), SigningKey::generate());
    fs::write(&pem, key.public_pem()).unwrap();
    fs::write(&second_pem, second.public_pem()).unwrap();
    draft().write_signed(&plain, &key).unwrap();
    let mut policy = Policy::trusting(key.public(), "me");
    let verified = policy.verify(Bundle::open(&plain).unwrap()).unwrap();
    let to = [To::Key(reader.public().clone())];
    seal_to(&verified, &sealed, &SealOptions { to: &to, signer: &key, replace: false, now_ms: 1 }).unwrap();
    assert!(accepts(&program, &sealed, &pem), "sealed");
    policy.keys.add(Key::Private(std::sync::Arc::new(reader)));
    let add = [To::Key(second.public().clone())];
    rekey_dir(&sealed, &policy, &Rekeyed { add: &add, ..Rekeyed::default() }, &key).unwrap();
    assert!(accepts(&program, &sealed, &pem), "rekeyed");
    for bundle in [&plain, &sealed] {
        approve_dir(bundle, &second).unwrap();
        assert!(accepts(&program, bundle, &pem), "approved");
        let approval = bundle.join(APPROVALS).join(format!("{}.sig", second.key_id()));
        let output = Command::new(&program)
            .args(["verify", "key"])
            .arg(bundle)
            .arg("--signature")
            .arg(&approval)
            .arg("--public_key")
            .arg(&second_pem)
            .output()
            .unwrap();
        assert!(output.status.success(), "the approval: {}", String::from_utf8_lossy(&output.stderr));
    }
    let data = sealed.join(bms_bundle::seal::SEALED);
    let mut bytes = fs::read(&data).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&data, bytes).unwrap();
    assert!(!accepts(&program, &sealed, &pem), "the reference must notice a change");
}
