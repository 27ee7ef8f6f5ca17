//! The version that answers.

use std::path::Path;
use std::sync::Arc;

use bms_bundle::seal::LeasedKey;
use bms_bundle::{Bundle, Policy};
use bms_engine::{Engine, EngineOptions};
use bms_wire::api::VersionRef;
use bms_wire::{Code, Error, Result};

use crate::self_test;

/// A version that passed the gate and the self-test.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) engine: Engine,
    pub(crate) version: VersionRef,
    /// Publisher that signed it; absent when a development policy let it in.
    pub(crate) signer: Option<String>,
    /// The lease it runs under.
    pub(crate) lease: Option<Arc<LeasedKey>>,
}

impl Live {
    /// Takes the bundle in `dir` through the gate, loads and tests it. It must be exactly `version`,
    /// and a bundle of `model`: a trusted signature on another model is not enough.
    ///
    /// # Errors
    /// [`Code::Tampered`] when it is another version, [`Code::InvalidBundle`] when another model,
    /// what the gate and the engine refuse, and what the self-test finds.
    pub(crate) fn boot(
        dir: &Path,
        version: &VersionRef,
        model: &str,
        policy: &Policy,
        options: &EngineOptions,
    ) -> Result<Live> {
        let verified = policy.verify(Bundle::open(dir)?).map_err(Error::from)?;
        if verified.digest() != version.digest {
            let message = format!("the bundle is {}, not version {}", verified.digest(), version.version);
            return Err(Error::new(Code::Tampered, message));
        }
        if verified.manifest().name != model {
            let message = format!("the bundle is of the model `{}`, not `{model}`", verified.manifest().name);
            return Err(Error::new(Code::InvalidBundle, message)
                .hint("Publish every bundle under the name its manifest gives."));
        }
        if verified.development() {
            tracing::warn!(
                version = version.version,
                "a development policy admits a version nobody trusted signed"
            );
        }
        let signer = verified.signer().map(|signer| signer.publisher.clone());
        let lease = verified.lease().cloned();
        let engine = self_test::passed(Engine::load(verified, options)?)?;
        Ok(Live { engine, version: version.clone(), signer, lease })
    }
}
