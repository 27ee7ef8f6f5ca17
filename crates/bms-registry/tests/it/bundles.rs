//! Small bundles to publish.

use std::collections::BTreeMap;
use std::path::Path;

use bms_bundle::{Bundle, Draft, Evaluation, Lineage, MANIFEST, Manifest, Policy, SigningKey, TensorInfo};
use bms_registry::Registry;
use bms_wire::api::{FileRef, NewVersion, Version};
use bms_wire::{Pipeline, Postprocess, Preprocess, Result};

use crate::databases::open;

/// A registry in a fresh folder, with a key that its policy trusts.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) registry: Registry,
    pub(crate) key: SigningKey,
    pub(crate) policy: Policy,
}

impl Site {
    pub(crate) async fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(&dir.path().join("registry")).await.unwrap();
        let key = SigningKey::generate();
        let policy = Policy::trusting(key.public(), "test");
        Site { dir, registry, key, policy }
    }

    pub(crate) fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("registry")
    }

    /// Flips a bit of the first chunk of a file, wherever the store has it.
    pub(crate) fn rot(&self, digest: &str) {
        let recipes = self.root().join("store/files").join(digest);
        let recipe = std::fs::read_dir(recipes).unwrap().next().unwrap().unwrap().path();
        let recipe = bms_store::Recipe::read(&std::fs::read(recipe).unwrap()).unwrap();
        let chunk = recipe.chunks[0].id;
        for pack in std::fs::read_dir(self.root().join("store/packs")).unwrap() {
            let path = pack.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            // The list at the end of a pack has the digest of each chunk; the first one's bytes begin after eight others.
            if bytes.windows(32).any(|window| window == chunk.as_bytes()) {
                bytes[9] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
        }
    }

    /// Signs, uploads and publishes.
    pub(crate) async fn publish(&self, manifest: Manifest, aliases: &[&str]) -> Result<Version> {
        let files = signed(manifest, &self.key);
        let new = upload(&self.registry, &files, aliases).await;
        self.registry.publish(&name(&files), new, &self.policy).await
    }

    /// A version of `model` that differs from others by `seed`, evaluated on `data`.
    pub(crate) async fn publish_measured(
        &self,
        model: &str,
        seed: u64,
        data: &str,
        accuracy: f64,
    ) -> Version {
        self.publish(measured(model, seed, data, accuracy), &[]).await.unwrap()
    }
}

pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// A manifest without files; `seed` makes it unlike others.
pub(crate) fn manifest(model: &str, seed: u64) -> Manifest {
    let tensor =
        |name: &str| TensorInfo { name: name.into(), dtype: "f32".into(), shape: vec![None, Some(2)] };
    Manifest {
        schema: 1,
        name: model.into(),
        task: "tensor".into(),
        model: "model.onnx".into(),
        inputs: vec![tensor("x")],
        outputs: vec![tensor("y")],
        pipeline: Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} },
        metrics: Vec::new(),
        lineage: Lineage { job: Some(format!("test-{seed}")), ..Lineage::default() },
        precision: "fp32".into(),
        licence: None,
        created_ms: 1,
        sealed: None,
        files: Vec::new(),
    }
}

pub(crate) fn measured(model: &str, seed: u64, data: &str, accuracy: f64) -> Manifest {
    let evaluation = Evaluation {
        data_digest: blake3::hash(data.as_bytes()).to_hex().to_string(),
        data_name: data.into(),
        samples: 100,
        values: BTreeMap::from([("accuracy".into(), accuracy)]),
    };
    Manifest { metrics: vec![evaluation], ..manifest(model, seed) }
}

/// The files of a signed bundle.
pub(crate) fn signed(manifest: Manifest, key: &SigningKey) -> Files {
    write(manifest, &[], |draft, dir| draft.write_signed(dir, key).map(drop))
}

/// The files of a bundle without a signature, with further files in it.
pub(crate) fn unsigned(manifest: Manifest, more: &[(&str, &[u8])]) -> Files {
    write(manifest, more, |draft, dir| draft.write(dir).map(drop))
}

fn write(
    manifest: Manifest,
    more: &[(&str, &[u8])],
    write: impl FnOnce(Draft, &Path) -> Result<()>,
) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("bundle");
    let mut draft = Draft::new(manifest);
    draft.add("model.onnx", identity()).unwrap();
    for (path, bytes) in more {
        draft.add(*path, *bytes).unwrap();
    }
    write(draft, &dir).unwrap();
    Bundle::open(&dir).unwrap().files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect()
}

pub(crate) fn name(files: &Files) -> String {
    let manifest = files.iter().find(|(path, _)| path == MANIFEST).unwrap();
    Manifest::parse(&manifest.1).unwrap().name
}

/// Stores the files and returns the listing that names them.
pub(crate) async fn upload(registry: &Registry, files: &Files, aliases: &[&str]) -> NewVersion {
    let mut listing = Vec::new();
    for (path, bytes) in files {
        let blake3 = registry.put_blob(bytes, None).await.unwrap();
        listing.push(FileRef { path: path.clone(), size: bytes.len() as u64, blake3 });
    }
    NewVersion { files: listing, aliases: aliases.iter().map(|&alias| alias.into()).collect() }
}

/// An ONNX graph `y = Identity(x)`, written out as protobuf.
pub(crate) fn identity() -> Vec<u8> {
    let tensor = |name: &str| {
        let dims = [field(1, &field(2, b"batch")), field(1, &[0x08, 2])].concat();
        let kind = field(1, &[vec![0x08, 1], field(2, &dims)].concat());
        [field(1, name.as_bytes()), field(2, &kind)].concat()
    };
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Identity")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &tensor("x")), field(12, &tensor("y"))].concat();
    [vec![0x08, 8], field(7, &graph), field(8, &[0x10, 13])].concat()
}

/// A length-delimited protobuf field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 128).expect("short test fields");
    [&[number << 3 | 2, length], bytes].concat()
}

/// Bytes that do not compress.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}
