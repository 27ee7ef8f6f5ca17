use std::collections::BTreeSet;

use bms_wire::Code;
use bms_wire::api::FileRef;

use crate::bundles::{Site, manifest, measured, signed, unsigned, upload};
use crate::databases::open;

#[tokio::test]
async fn a_version_says_what_the_manifest_says() {
    let site = Site::new().await;
    let first = site.publish(measured("digits", 1, "held-out", 0.97), &["production"]).await.unwrap();
    assert_eq!((first.version, first.model.as_str(), first.task.as_str()), (1, "digits", "tensor"));
    assert_eq!(first.signer.as_deref(), Some("test"));
    assert_eq!(first.metrics["accuracy"], 0.97);
    assert_eq!(first.aliases, ["production"]);
    assert_eq!(first.size_bytes, first.files.iter().map(|file| file.size).sum::<u64>());
    let paths: Vec<_> = first.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["bundle.json", "model.onnx", "model.sig"]);

    let second = site.publish(manifest("digits", 2), &[]).await.unwrap();
    assert_eq!(second.version, 2);
    let model = site.registry.model("digits").await.unwrap();
    assert_eq!(model.versions.iter().map(|v| v.version).collect::<Vec<_>>(), [2, 1], "newest first");
    assert!(model.versions[0].files.is_empty(), "listings leave files out");
    assert_eq!(site.registry.version("digits", 1).await.unwrap(), first);
    for reference in ["1", "production"] {
        assert_eq!(site.registry.resolve("digits", reference).await.unwrap(), first, "{reference}");
    }
    assert_eq!(site.registry.resolve("digits", "latest").await.unwrap(), second);
}

#[tokio::test]
async fn the_same_bundle_is_the_same_version() {
    let site = Site::new().await;
    let files = signed(manifest("digits", 1), &site.key);
    let first = site
        .registry
        .publish("digits", upload(&site.registry, &files, &[]).await, &site.policy)
        .await
        .unwrap();
    let again = upload(&site.registry, &files, &["candidate"]).await;
    let again = site.registry.publish("digits", again, &site.policy).await.unwrap();
    assert_eq!((again.version, &again.digest), (first.version, &first.digest));
    assert_eq!(again.aliases, ["candidate"], "aliases are set all the same");

    // Signed once more: other signature bytes, the same identity.
    let resigned = signed(manifest("digits", 1), &site.key);
    let resigned = upload(&site.registry, &resigned, &[]).await;
    let resigned = site.registry.publish("digits", resigned, &site.policy).await.unwrap();
    assert_eq!(resigned.files, first.files, "the version stays what it was");
    assert_eq!(site.registry.model("digits").await.unwrap().versions.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versions_published_at_once_are_numbered_without_gaps() {
    let site = Site::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..24_u64 {
        let model = ["a", "b"][(task % 2) as usize];
        // Every bundle twice: the second must become the first's version.
        let files = signed(manifest(model, task / 4), &site.key);
        let (registry, policy) = (site.registry.clone(), site.policy.clone());
        tasks.spawn(async move {
            let new = upload(&registry, &files, &[]).await;
            registry.publish(model, new, &policy).await.unwrap()
        });
    }
    let published = tasks.join_all().await;
    for model in ["a", "b"] {
        let of_model = || published.iter().filter(|v| v.model == model);
        let numbers: BTreeSet<_> = of_model().map(|v| v.version).collect();
        let digests: BTreeSet<_> = of_model().map(|v| (v.version, &v.digest)).collect();
        assert_eq!(numbers, (1..=6).collect(), "of {model}");
        assert_eq!(digests.len(), 6, "one digest for each number of {model}");
    }
    site.registry.audit_verify().await.unwrap();
}

#[tokio::test]
async fn two_handles_on_one_folder_agree() {
    let site = Site::new().await;
    let other = open(&site.root()).await.unwrap();
    for seed in 0..6 {
        let files = signed(manifest("digits", seed), &site.key);
        let registry = if seed % 2 == 0 { &site.registry } else { &other };
        let new = upload(registry, &files, &[]).await;
        let version = registry.publish("digits", new, &site.policy).await.unwrap();
        assert_eq!(version.version, seed + 1);
    }
    assert_eq!(other.audit_verify().await.unwrap(), 7);
}

#[tokio::test]
async fn files_that_never_arrived_are_named() {
    let site = Site::new().await;
    let files = signed(manifest("digits", 1), &site.key);
    let mut new = upload(&site.registry, &files, &[]).await;
    new.files[1].blake3 = "00".repeat(32);
    let error = site.registry.publish("digits", new, &site.policy).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("model.onnx"), "{error}");
    assert!(site.registry.models().await.unwrap().is_empty());
    assert!(site.registry.quarantined().await.unwrap().is_empty(), "nothing was judged");
}

#[tokio::test]
async fn malformed_listings_are_refused_before_anything_is_read() {
    let site = Site::new().await;
    let files = signed(manifest("digits", 1), &site.key);
    let good = upload(&site.registry, &files, &[]).await;
    let file = |path: &str, blake3: &str| FileRef { path: path.into(), size: 1, blake3: blake3.into() };

    let mut cases = Vec::new();
    let mut case = |want, edit: &dyn Fn(&mut bms_wire::api::NewVersion)| {
        let mut new = good.clone();
        edit(&mut new);
        cases.push((want, new));
    };
    case(Code::InvalidBundle, &|new| new.files.clear());
    case(Code::InvalidBundle, &|new| new.files.retain(|file| file.path != "bundle.json"));
    case(Code::InvalidRequest, &|new| new.files.push(file("x", "../../etc/passwd")));
    case(Code::InvalidRequest, &|new| new.files.push(new.files[0].clone()));
    case(Code::InvalidRequest, &|new| new.files[0].size += 1);
    case(Code::InvalidRequest, &|new| new.aliases.push("latest".into()));
    case(Code::TooLarge, &|new| new.files.push(file(&"x".repeat(2000), &"00".repeat(32))));
    case(Code::TooLarge, &|new| new.files[0].size = u64::MAX);
    for (want, new) in cases {
        let error = site.registry.publish("digits", new, &site.policy).await.unwrap_err();
        assert_eq!(error.code(), want, "{error}");
    }
    let error = site.registry.publish("Digits/..", good, &site.policy).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert!(site.registry.models().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_bundle_cannot_be_published_under_another_name() {
    let site = Site::new().await;
    let files = signed(manifest("mine", 1), &site.key);
    let new = upload(&site.registry, &files, &[]).await;
    let error = site.registry.publish("theirs", new, &site.policy).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert!(error.message().contains("`mine`"), "{error}");
}

#[tokio::test]
async fn a_development_policy_says_so_in_the_audit_log() {
    let site = Site::new().await;
    let new = upload(&site.registry, &unsigned(manifest("digits", 1), &[]), &[]).await;
    let version = site.registry.publish("digits", new, &bms_bundle::Policy::development()).await.unwrap();
    assert_eq!(version.signer, None);
    let event = site.registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!(event.action, "version.published");
    assert_eq!(event.details["development"], true);
}

#[tokio::test]
async fn lineage_goes_back_over_models_as_far_as_it_is_known() {
    let site = Site::new().await;
    let mut parent: Option<String> = Some("ab".repeat(32));
    for (seed, model) in [(1, "teacher"), (2, "student"), (3, "student-int8")] {
        let mut manifest = manifest(model, seed);
        manifest.lineage.parent = parent;
        parent = Some(site.publish(manifest, &[]).await.unwrap().digest);
    }
    let lineage = site.registry.lineage("student-int8", 1).await.unwrap();
    let models: Vec<_> = lineage.iter().map(|version| version.model.as_str()).collect();
    assert_eq!(models, ["student-int8", "student", "teacher"]);
    assert_eq!(lineage[2].parent.as_deref(), Some("ab".repeat(32).as_str()), "the rest is not known here");
}

#[tokio::test]
async fn unknown_things_have_their_own_codes() {
    let site = Site::new().await;
    site.publish(manifest("digits", 1), &[]).await.unwrap();
    let registry = &site.registry;
    assert_eq!(registry.model("nothing").await.unwrap_err().code(), Code::ModelNotFound);
    assert_eq!(registry.version("nothing", 1).await.unwrap_err().code(), Code::ModelNotFound);
    assert_eq!(registry.version("digits", 2).await.unwrap_err().code(), Code::VersionNotFound);
    assert_eq!(registry.resolve("digits", "2").await.unwrap_err().code(), Code::VersionNotFound);
    assert_eq!(registry.resolve("digits", "production").await.unwrap_err().code(), Code::ModelNotFound);
    assert_eq!(registry.resolve("nothing", "latest").await.unwrap_err().code(), Code::ModelNotFound);
    assert_eq!(registry.lineage("digits", 9).await.unwrap_err().code(), Code::VersionNotFound);
}
