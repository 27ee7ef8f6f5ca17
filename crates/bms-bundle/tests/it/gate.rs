//! The gate: what is admitted, and the code of each refusal.

use bms_bundle::{Bundle, Draft, Format, Mode, Policy, Rejected, Severity, SigningKey, TrustedKey, Verified};
use bms_wire::{Code, Error};

use crate::samples::{self, draft, manifest, onnx, signed};

fn verify(policy: &Policy, files: Vec<(String, Vec<u8>)>) -> Result<Verified, Rejected> {
    policy.verify(Bundle::from_files(files).unwrap())
}

#[track_caller]
fn refused(policy: &Policy, files: Vec<(String, Vec<u8>)>) -> Code {
    let rejected = verify(policy, files).expect_err("must be refused");
    assert_eq!(rejected.code, rejected.error.code());
    rejected.code
}

/// A bundle with these files beside the usual ones, signed or not.
fn bundle_of(extra: &[(&str, Vec<u8>)], model: Vec<u8>, key: Option<&SigningKey>) -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    let mut draft = Draft::new(manifest());
    draft.add("model.onnx", model).unwrap();
    for (name, bytes) in extra {
        draft.add(*name, bytes.clone()).unwrap();
    }
    match key {
        Some(key) => draft.write_signed(&path, key).unwrap(),
        None => draft.write(&path).unwrap(),
    };
    Bundle::open(&path).unwrap().files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect()
}

#[test]
fn a_trusted_signature_is_admitted() {
    let (files, key) = signed();
    let verified = verify(&Policy::trusting(key.public(), "Digits team"), files).unwrap();
    let signer = verified.signer().expect("signed");
    assert_eq!((signer.publisher.as_str(), signer.key_id.as_str()), ("Digits team", key.key_id()));
    assert!(!verified.development());
    assert_eq!(&*verified.model_bytes(), onnx());
    assert_eq!(verified.file("labels.txt").as_deref(), Some(&b"zero\none\n"[..]));
    assert!(verified.file("absent").is_none());
    assert_eq!(verified.manifest().name, "digits");
}

#[test]
fn an_unsigned_bundle_needs_a_development_policy() {
    let files = bundle_of(&[], onnx(), None);
    let key = SigningKey::generate();
    assert_eq!(refused(&Policy::trusting(key.public(), "me"), files.clone()), Code::SignatureMissing);
    let verified = verify(&Policy::development(), files).unwrap();
    assert!(verified.development() && verified.signer().is_none());
}

#[test]
fn an_unknown_signer_needs_a_development_policy() {
    let (files, _) = signed();
    let other = SigningKey::generate();
    assert_eq!(refused(&Policy::trusting(other.public(), "other"), files.clone()), Code::SignerUntrusted);
    assert!(verify(&Policy::development(), files).unwrap().development());
}

#[test]
fn a_key_counts_for_its_models_only() {
    let (files, key) = signed();
    let mut policy = Policy::trusting(key.public(), "me");
    policy.trust[0].models = vec!["letters-*".to_owned()];
    assert_eq!(refused(&policy, files.clone()), Code::SignerUntrusted);
    policy.trust.push(TrustedKey::new("again", key.public().clone(), vec!["dig*".to_owned()]));
    assert_eq!(verify(&policy, files).unwrap().signer().unwrap().publisher, "again");
}

#[test]
fn malicious_content_comes_before_everything() {
    for policy in [Policy::development(), Policy::trusting(SigningKey::generate().public(), "me")] {
        // Unsigned, of a denied format, and tampered with besides.
        let mut files = bundle_of(&[("state.bin", samples::hostile_pickle())], onnx(), None);
        files.iter_mut().find(|(path, _)| path == "model.onnx").unwrap().1.push(0);
        let rejected = verify(&policy, files).expect_err("malicious");
        assert_eq!(rejected.code, Code::MaliciousContent);
        assert!(rejected.findings.iter().any(|finding| finding.severity == Severity::Critical));
        assert_eq!(rejected.model.as_deref(), Some("digits"));
        assert!(Error::from(rejected).message().contains("os.system"));
    }
}

#[test]
fn clean_pickles_and_archives_are_denied_by_format() {
    let archive = samples::zip(&[samples::entry("a.txt", b"text")]);
    for bytes in [samples::pickle(), archive, vec![0x91, 0x92, 0x93, 0x94]] {
        let files = bundle_of(&[("extra", bytes)], onnx(), None);
        assert_eq!(refused(&Policy::development(), files), Code::FormatDenied);
    }
    let mut policy = Policy::development();
    policy.formats.push(Format::Pickle);
    verify(&policy, bundle_of(&[("extra", samples::pickle())], onnx(), None)).expect("the policy says so");
}

#[test]
fn every_default_format_is_admitted() {
    let extra = [
        ("a.safetensors", samples::safetensors()),
        ("a.gguf", samples::gguf()),
        ("a.json", b"{\"a\":1}".to_vec()),
        ("a.csv", b"x,y\n1,2\n".to_vec()),
        (
            "a.svg",
            b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"><path d=\"M0 0\"/></svg>"
                .to_vec(),
        ),
        ("a.png", b"\x89PNG\r\n\x1a\n rest".to_vec()),
        ("a.jpg", b"\xff\xd8\xff\xe0 rest".to_vec()),
    ];
    verify(&Policy::development(), bundle_of(&extra, onnx(), None)).unwrap();
}

#[test]
fn a_broken_model_is_an_invalid_bundle() {
    let whole = onnx();
    for length in [0, 1, 5, whole.len() / 2, whole.len() - 1] {
        let files = bundle_of(&[], whole[..length].to_vec(), None);
        assert_eq!(refused(&Policy::development(), files), Code::InvalidBundle, "{length} bytes");
    }
    let (files, key) = signed();
    let mut unreadable = files.clone();
    unreadable.iter_mut().find(|(path, _)| path == "bundle.json").unwrap().1 = b"{}".to_vec();
    unreadable.retain(|(path, _)| path != "model.sig");
    assert_eq!(refused(&Policy::trusting(key.public(), "me"), unreadable), Code::InvalidBundle);
}

#[test]
fn files_that_are_missing_or_listed_nowhere_are_tampering() {
    for mode in [Mode::Enforce, Mode::Development] {
        let (files, key) = signed();
        let policy = Policy { mode, ..Policy::trusting(key.public(), "me") };
        let mut extra = files.clone();
        extra.push(("extra.txt".to_owned(), b"more".to_vec()));
        assert_eq!(refused(&policy, extra.clone()), Code::Tampered);
        extra.retain(|(path, _)| path != "model.sig");
        assert_eq!(refused(&policy, extra), Code::Tampered);
        for gone in ["model.onnx", "labels.txt"] {
            let mut less = files.clone();
            less.retain(|(path, _)| path != gone);
            assert_eq!(refused(&policy, less), Code::Tampered);
        }
    }
}

#[test]
fn a_signature_of_another_bundle_is_tampering() {
    let (mut files, key) = signed();
    let (other, _) = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle");
        let mut other = draft();
        other.add("more.txt", &b"more"[..]).unwrap();
        other.write_signed(&path, &key).unwrap();
        (std::fs::read(path.join("model.sig")).unwrap(), ())
    };
    files.iter_mut().find(|(path, _)| path == "model.sig").unwrap().1 = other;
    assert_eq!(refused(&Policy::trusting(key.public(), "me"), files), Code::Tampered);
}

#[test]
fn a_policy_reads_back_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    let mut policy = Policy::trusting(SigningKey::generate().public(), "Digits \"team\"");
    policy.deny = Severity::High;
    policy.save(&path).unwrap();
    assert_eq!(Policy::load(&path).unwrap(), policy);
    policy.mode = Mode::Development;
    policy.save(&path).expect("replaces the earlier file");
    assert_eq!(Policy::load(&path).unwrap(), policy);
}

#[test]
fn a_policy_with_mistakes_is_refused() {
    let good = Policy::trusting(SigningKey::generate().public(), "me").to_toml().unwrap();
    Policy::from_toml(&good).unwrap();
    for (from, to) in [
        ("schema = 1", "schema = 2"),
        ("enforce", "off"),
        ("BEGIN PUBLIC KEY", "BEGIN KEY"),
        ("publisher", "publishers"),
        ("models = [\"*\"]", "models = []"),
        ("\"onnx\"", "\"onxx\""),
    ] {
        assert!(good.contains(from), "{from} in {good}");
        let error = Policy::from_toml(&good.replacen(from, to, 1)).expect_err(to);
        assert_eq!(error.code(), Code::InvalidRequest, "{error}");
    }
    // What is not said is not assumed: without a mode there is no policy.
    assert!(Policy::from_toml("schema = 1").is_err());
}

#[test]
fn a_policy_says_which_formats_need_a_confined_process() {
    let usual = Policy::development();
    assert_eq!((&usual.confine[..], &usual.unconfined()[..]), (&[Format::Onnx][..], &[][..]));
    // Absent means the usual, so that earlier releases read what they know.
    assert!(!usual.to_toml().unwrap().contains("confine"));
    let open = Policy { confine: Vec::new(), ..usual.clone() };
    assert_eq!(Policy::from_toml(&open.to_toml().unwrap()).unwrap(), open);
    assert_eq!(open.unconfined(), [Format::Onnx]);
    let strict = Policy { confine: vec![Format::Onnx, Format::Gguf], ..usual };
    assert_eq!(Policy::from_toml(&strict.to_toml().unwrap()).unwrap(), strict);
    assert!(strict.unconfined().is_empty());
    assert!(Policy::from_toml("schema = 1\nmode = \"enforce\"\nconfine = [\"all\"]\n").is_err());
}
