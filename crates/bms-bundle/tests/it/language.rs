//! Language models: GGUF files and Hugging Face folders, bare and as bundles.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bms_bundle::{Bundle, Draft, Format, Manifest, Mode, Policy, SigningKey};
use bms_wire::Code;
use tempfile::TempDir;

use crate::samples::{gguf, gguf_of, gguf_string, gguf_tensor, gguf_text, safetensors};

/// A GGUF file large enough to be mapped.
fn large_gguf() -> Vec<u8> {
    let values = 3 << 20;
    let architecture = gguf_text("general.architecture", "llama");
    let mixture =
        [gguf_string("general.file_type"), 4_u32.to_le_bytes().to_vec(), 15_u32.to_le_bytes().to_vec()];
    let data: Vec<u8> = (0..4 * values).map(|at: u64| ((at * 7) >> 4) as u8).collect();
    gguf_of(&[architecture, mixture.concat()], &[gguf_tensor("a", values, 0)], &data)
}

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A folder as one is downloaded, with things that are not the model.
fn folder(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("Tiny Chat");
    fs::create_dir(&path).unwrap();
    let config = r#"{"model_type":"llama","torch_dtype":"bfloat16"}"#;
    fs::write(path.join("config.json"), config).unwrap();
    fs::write(path.join("tokenizer.json"), "{}").unwrap();
    fs::write(path.join("model.safetensors"), safetensors()).unwrap();
    fs::write(path.join("pytorch_model.bin"), b"\x80\x04.").unwrap();
    path
}

fn paths(bundle: &Bundle) -> Vec<&str> {
    bundle.files().map(|(path, _)| path).collect()
}

fn refused(policy: &Policy, bundle: Bundle) -> Code {
    policy.verify(bundle).expect_err("must be refused").code
}

#[test]
fn a_gguf_file_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = Bundle::of_model(&file(&dir, "Some Model.Q4_K_M.gguf", &large_gguf()), None).unwrap();
    let manifest = bundle.manifest_unverified().unwrap();
    assert_eq!(manifest.name, "some-model.q4_k_m");
    assert_eq!((manifest.task.as_str(), manifest.model.as_str()), ("text-generation", "model.gguf"));
    assert_eq!(manifest.precision, "q4_k_m");
    assert!(manifest.is_language_model() && manifest.files.is_empty());
    assert!(bundle.contents().all(|(_, content)| content.is_mapped()));

    let named = Bundle::of_model(&file(&dir, "small.gguf", &gguf()), Some("other")).unwrap();
    let manifest = named.manifest_unverified().unwrap();
    assert_eq!((manifest.name.as_str(), manifest.precision.as_str()), ("other", "f32"));
    let bert = gguf_of(&[gguf_text("general.architecture", "bert")], &[], &[]);
    let bundle = Bundle::of_model(&file(&dir, "e.gguf", &bert), None).unwrap();
    assert_eq!(bundle.manifest_unverified().unwrap().task, "text-embedding");
}

#[test]
fn of_a_folder_only_the_model_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = folder(&dir);
    let bundle = Bundle::of_model(&path, None).unwrap();
    assert_eq!(paths(&bundle), ["config.json", "model.safetensors", "tokenizer.json"]);
    let manifest = bundle.manifest_unverified().unwrap();
    assert_eq!((manifest.name.as_str(), manifest.model.as_str()), ("tiny-chat", "config.json"));
    assert_eq!(manifest.precision, "bf16");
    Policy::development().verify(bundle).unwrap();

    // In shards, and as links, the way download caches keep them.
    fs::rename(path.join("model.safetensors"), dir.path().join("blob")).unwrap();
    let shard = path.join("model-00001-of-00001.safetensors");
    std::os::unix::fs::symlink(dir.path().join("blob"), &shard).unwrap();
    let index = |shard: &str| format!(r#"{{"weight_map":{{"a":"{shard}","b":"{shard}"}}}}"#);
    let index_file = path.join("model.safetensors.index.json");
    fs::write(&index_file, index("model-00001-of-00001.safetensors")).unwrap();
    let bundle = Bundle::of_model(&path, None).unwrap();
    assert!(paths(&bundle).contains(&"model-00001-of-00001.safetensors"));
    Policy::development().verify(bundle).unwrap();

    fs::write(&index_file, index("../blob")).unwrap();
    assert_eq!(Bundle::of_model(&path, None).unwrap_err().code(), Code::InvalidBundle);
    fs::write(&index_file, index("absent.safetensors")).unwrap();
    assert_eq!(Bundle::of_model(&path, None).unwrap_err().code(), Code::NotFound);
}

#[test]
fn what_is_no_language_model_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let code = |path: &Path, name| Bundle::of_model(path, name).expect_err("no model").code();
    assert_eq!(code(&file(&dir, "m.onnx", b"\x08\x08"), None), Code::InvalidInput);
    assert_eq!(code(&file(&dir, "m.gguf", b""), None), Code::InvalidInput);
    assert_eq!(code(dir.path(), None), Code::InvalidInput);
    assert_eq!(code(&dir.path().join("absent.gguf"), None), Code::NotFound);
    assert_eq!(code(&file(&dir, "ok.gguf", &gguf()), Some("No Name")), Code::InvalidBundle);
    let path = folder(&dir);
    fs::remove_file(path.join("model.safetensors")).unwrap();
    assert_eq!(code(&path, None), Code::InvalidInput);
}

#[test]
fn a_bare_model_passes_the_same_gate_but_for_the_signature() {
    let dir = tempfile::tempdir().unwrap();
    let good = Bundle::of_model(&file(&dir, "good.gguf", &gguf()), None).unwrap();
    let policy = Policy::trusting(SigningKey::generate().public(), "me");
    let verified = policy.verify(good.clone()).unwrap();
    assert!(verified.development() && verified.signer().is_none());
    assert_eq!(*verified.model_bytes(), gguf());
    assert_eq!(verified.model_format(), Format::Gguf);
    verified.recheck().unwrap();
    let strict = Policy { bare_models: false, ..policy.clone() };
    assert_eq!(refused(&strict, good.clone()), Code::SignatureMissing);
    let denies = Policy { formats: Vec::new(), ..policy.clone() };
    assert_eq!(refused(&denies, good.clone()), Code::FormatDenied);

    let template = gguf_text("tokenizer.chat_template", "{{ x.__class__.__mro__[1].__subclasses__() }}");
    let hostile = file(&dir, "hostile.gguf", &gguf_of(&[template], &[], &[]));
    assert_eq!(refused(&policy, Bundle::of_model(&hostile, None).unwrap()), Code::MaliciousContent);
    let whole = gguf();
    let cut = file(&dir, "cut.gguf", &whole[..whole.len() - 20]);
    assert_eq!(refused(&policy, Bundle::of_model(&cut, None).unwrap()), Code::InvalidBundle);
    assert_eq!(
        bms_bundle::signature::sign_bundle(&good, &SigningKey::generate()).unwrap_err().code(),
        Code::InvalidRequest
    );
}

#[test]
fn a_bare_model_is_told_from_another_by_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "m.gguf", &gguf());
    let digest = || Bundle::of_model(&path, None).unwrap().digest();
    let before = digest();
    assert_eq!(digest(), before);
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&path, large_gguf()).unwrap();
    assert_ne!(digest(), before);
}

/// A signed bundle of a model that is mapped, its folder, and whom to trust.
fn signed(dir: &TempDir) -> (PathBuf, Policy, Manifest) {
    let key = SigningKey::generate();
    let model = file(dir, "m.gguf", &large_gguf());
    let bundle = dir.path().join("bundle");
    let manifest = Draft::of_model(&model, None).unwrap().write_signed(&bundle, &key).unwrap();
    (bundle, Policy::trusting(key.public(), "me"), manifest)
}

#[test]
fn a_model_becomes_a_signed_bundle_without_being_copied() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let (folder, policy, manifest) = signed(&dir);
    assert_eq!((manifest.name.as_str(), manifest.files.len()), ("m", 1));
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(folder.join("model.gguf")), inode(dir.path().join("m.gguf")));
    let verified = policy.verify(Bundle::open(&folder).unwrap()).unwrap();
    assert_eq!(verified.signer().unwrap().publisher, "me");
    assert!(verified.model_bytes().is_mapped());
    assert_eq!(*verified.model_bytes(), large_gguf());
    verified.recheck().unwrap();
}

#[test]
fn a_folder_becomes_a_signed_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bundle");
    let key = SigningKey::generate();
    Draft::of_model(&folder(&dir), Some("chat")).unwrap().write_signed(&out, &key).unwrap();
    let bundle = Bundle::open(&out).unwrap();
    assert_eq!(
        paths(&bundle),
        ["bundle.json", "config.json", "model.safetensors", "model.sig", "tokenizer.json"]
    );
    let verified = Policy::trusting(key.public(), "me").verify(bundle).unwrap();
    assert_eq!(verified.manifest().model, "config.json");
}

fn flip(path: &Path, at: u64) {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

#[test]
fn one_byte_of_a_mapped_file_is_enough_to_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, policy, manifest) = signed(&dir);
    let model = folder.join("model.gguf");
    let size = manifest.files[0].size;
    for mode in [Mode::Enforce, Mode::Development] {
        let policy = Policy { mode, ..policy.clone() };
        for at in [size - 1, size / 2, 5 << 20] {
            let before = fs::read(&model).unwrap();
            flip(&model, at);
            assert_eq!(refused(&policy, Bundle::open(&folder).unwrap()), Code::Tampered, "byte {at}");
            fs::write(&model, before).unwrap();
        }
        policy.verify(Bundle::open(&folder).unwrap()).unwrap();
    }
}

#[test]
fn a_file_written_to_after_the_check_is_noticed_after_the_load() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, policy, manifest) = signed(&dir);
    let verified = policy.verify(Bundle::open(&folder).unwrap()).unwrap();
    let clone = verified.clone();
    verified.recheck().unwrap();
    flip(&folder.join("model.gguf"), manifest.files[0].size / 2);
    assert_eq!(verified.recheck().unwrap_err().code(), Code::Tampered);
    assert_eq!(clone.recheck().unwrap_err().code(), Code::Tampered);
}
