use bms_bundle::{Policy, SigningKey};
use bms_wire::Code;

use crate::bundles::{Files, Site, manifest, signed, unsigned, upload};

/// Publishes and expects the refusal with its traces: the quarantine, its files, the audit event.
async fn check(site: &Site, files: Files, policy: &Policy, want: Code) {
    let new = upload(&site.registry, &files, &["production"]).await;
    let error = site.registry.publish("digits", new, policy).await.unwrap_err();
    assert_eq!(error.code(), want, "{error}");
    let entry = site.registry.quarantined().await.unwrap().remove(0);
    assert_eq!((entry.code, entry.model.as_str()), (want, "digits"));
    for (path, bytes) in &files {
        let digest = blake3::hash(bytes).to_hex();
        let kept = site.root().join("quarantine").join(&entry.id).join(digest.as_str());
        assert_eq!(&std::fs::read(kept).unwrap(), bytes, "{path} is kept");
        assert!(!site.registry.has_blob(&digest).await.unwrap(), "{path} is out of reach");
    }
    let event = site.registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!((event.action.as_str(), event.subject.as_str()), ("bundle.refused", "digits"));
    assert_eq!(event.details["code"], want.as_str());
    assert_eq!(event.details["quarantine"], entry.id);
    assert!(site.registry.models().await.unwrap().is_empty(), "there is no version");
    site.registry.audit_verify().await.unwrap();
}

#[tokio::test]
async fn an_unsigned_bundle_is_refused() {
    let site = Site::new().await;
    check(&site, unsigned(manifest("digits", 1), &[]), &site.policy, Code::SignatureMissing).await;
}

#[tokio::test]
async fn a_strangers_bundle_is_refused() {
    let site = Site::new().await;
    let files = signed(manifest("digits", 1), &SigningKey::generate());
    check(&site, files, &site.policy, Code::SignerUntrusted).await;
}

#[tokio::test]
async fn a_tampered_bundle_is_refused() {
    let site = Site::new().await;
    let mut files = signed(manifest("digits", 1), &site.key);
    let model = files.iter_mut().find(|(path, _)| path == "model.onnx").unwrap();
    *model.1.last_mut().unwrap() ^= 1;
    check(&site, files, &site.policy, Code::Tampered).await;
}

#[tokio::test]
async fn a_malicious_bundle_is_refused_by_every_policy() {
    // A pickle that names `os.system`; inert here, as nothing reads pickles.
    let pickle: &[u8] = b"cos\nsystem\n(S'true'\ntR.";
    let site = Site::new().await;
    let files = unsigned(manifest("digits", 1), &[("weights.txt", pickle)]);
    check(&site, files, &Policy::development(), Code::MaliciousContent).await;
    let event = site.registry.audit_latest(1).await.unwrap().remove(0);
    assert!(event.details["findings_total"].as_u64().unwrap() > 0, "{}", event.details);
}

#[tokio::test]
async fn a_path_out_of_the_bundle_is_refused_and_never_written() {
    let site = Site::new().await;
    let mut files = signed(manifest("digits", 1), &site.key);
    files.push(("../../escaped".into(), b"out".to_vec()));
    check(&site, files, &site.policy, Code::InvalidBundle).await;
    assert!(!site.dir.path().join("escaped").exists() && !site.root().join("escaped").exists());
}

#[tokio::test]
async fn refused_twice_is_one_entry_and_two_events() {
    let site = Site::new().await;
    let files = unsigned(manifest("digits", 1), &[]);
    for _ in 0..2 {
        check(&site, files.clone(), &site.policy, Code::SignatureMissing).await;
    }
    assert_eq!(site.registry.quarantined().await.unwrap().len(), 1);
    assert_eq!(site.registry.audit_verify().await.unwrap(), 3);
}

#[tokio::test]
async fn files_a_version_needs_stay_in_the_store() {
    let site = Site::new().await;
    let version = site.publish(manifest("digits", 1), &[]).await.unwrap();
    // The same bundle without its signature.
    let files = unsigned(manifest("digits", 1), &[]);
    let new = upload(&site.registry, &files, &[]).await;
    let error = site.registry.publish("digits", new, &site.policy).await.unwrap_err();
    assert_eq!(error.code(), Code::SignatureMissing);
    for file in &version.files {
        assert!(site.registry.has_blob(&file.blake3).await.unwrap(), "{}", file.path);
    }
}

#[tokio::test]
async fn only_the_latest_refused_bundles_keep_their_files() {
    let site = Site::new().await;
    let mut ids = Vec::new();
    for seed in 0..102 {
        let blake3 = site.registry.put_blob(format!("bad {seed}").as_bytes(), None).await.unwrap();
        let refusal = bms_registry::Refusal {
            model: "digits".into(),
            code: Code::Tampered,
            reason: "a test".into(),
            findings: Vec::new(),
            files: vec![bms_wire::api::FileRef { path: "x".into(), size: 5, blake3 }],
        };
        ids.push(site.registry.quarantine(&refusal).await.unwrap().id);
        // The order is by time, in milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let files =
        |id: &String| std::fs::read_dir(site.root().join("quarantine").join(id)).map_or(0, Iterator::count);
    let kept: Vec<_> = ids.iter().map(files).collect();
    assert_eq!((kept[0], kept[1], kept[2], kept[101]), (0, 0, 1, 1));
    assert_eq!(site.registry.quarantined().await.unwrap().len(), 102, "every record stays");
}
