//! Where a slot gets damaged weights from again, and what it says of them.

use std::ops::Range;

use bms_bundle::{Content, Verified};
use bms_engine::lm::{Guarding, LanguageOptions, Repair, WeightSource};
use bms_nn::lm::weight_part;
use bms_wire::{Code, Error, Result};
use tokio::sync::oneshot;

use super::{load_options, model_files};
use crate::slot::Options;

/// The share of the engine's time when nobody says how much.
const SHARE: f64 = 0.01;

/// Bytes of contents in memory that are kept for repairs, at most.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Where the weights of a slot's model come from.
struct Origin {
    name: String,
    /// Absent when damage is not repaired but the slot replaced.
    files: Option<Files>,
    options: Options,
    engine_options: LanguageOptions,
    lost: Option<oneshot::Sender<Error>>,
}

/// The files a model's weights come from. Large ones are mapped, so that they take no memory and stay what they are when
/// their names are gone.
struct Files {
    /// The one the manifest names.
    model: Content,
    /// Those that a loader reads, without vocabularies.
    others: Vec<(String, Content)>,
}

impl Files {
    /// The files of a model, unless keeping them takes much memory: what was deciphered lies nowhere else.
    fn of(verified: &Verified) -> Option<Files> {
        let model = verified.model_bytes();
        let needed = verified.contents().filter(|(path, _)| is_read(path));
        let others: Vec<_> = needed.map(|(path, content)| (path.to_owned(), content.clone())).collect();
        let contents = others.iter().map(|(_, content)| content).chain([&model]);
        let in_memory: usize =
            contents.filter(|content| !content.is_mapped()).map(|content| content.len()).sum();
        (in_memory <= KEPT_BYTES_MAX).then_some(Files { model, others })
    }

    fn contents(&self) -> impl Iterator<Item = &Content> {
        self.others.iter().map(|(_, content)| content).chain([&self.model])
    }
}

/// Whether a loader reads the file.
fn is_read(path: &str) -> bool {
    path.ends_with(".safetensors")
        || path.ends_with("config.json")
        || path.ends_with(".index.json")
        || path == "modules.json"
}

/// Guards a model's weights as the options say. `lost` gets the reason when the slot is to be replaced.
pub(super) fn guarding(
    verified: &Verified,
    options: &Options,
    engine_options: &LanguageOptions,
    lost: Option<oneshot::Sender<Error>>,
) -> Option<Guarding> {
    let share = options.language.audit_share.map_or(SHARE, |percent| percent / 100.0);
    // Without anybody to replace it, a model is held by a command that soon ends.
    let lost = lost.filter(|_| 0.0 < share)?;
    let source = Origin {
        name: verified.manifest().name.clone(),
        files: Files::of(verified),
        options: options.clone(),
        engine_options: engine_options.clone(),
        lost: Some(lost),
    };
    Some(Guarding { share, source: Box::new(source) })
}

impl WeightSource for Origin {
    fn part(&mut self, weight: usize, bytes: &Range<usize>) -> Result<Vec<u8>> {
        tracing::warn!(model = self.name, weight, "a weight in memory is not what was loaded");
        let files = self.files.as_ref().ok_or_else(|| {
            Error::new(Code::Unavailable, "the model's deciphered files are not kept to make weights from")
        })?;
        let others: Vec<(&str, &[u8])> =
            files.others.iter().map(|(path, content)| (path.as_str(), &**content)).collect();
        let model = model_files(&files.model, &others);
        let made =
            weight_part(&model, &load_options(&self.options, &self.engine_options, &|_| {}), weight, bytes);
        // What was read of large files takes no memory from here on.
        files.contents().for_each(|content| content.release(0..content.len()));
        made
    }

    fn repaired(&mut self, repair: &Repair) {
        let Repair { weight, bytes, bits, took } = repair;
        let (from, to, seconds) = (bytes.start, bytes.end, took.as_secs_f64());
        tracing::warn!(
            model = self.name,
            weight,
            from,
            to,
            bits,
            seconds,
            "flipped bits of a weight were put back from the model's files; answers of the time before may be wrong"
        );
    }

    fn lost(&mut self, error: Error) {
        tracing::error!(
            model = self.name,
            code = error.code().as_str(),
            "flipped bits of a weight cannot be put back, the slot ends to be replaced: {error}"
        );
        if let Some(lost) = self.lost.take() {
            // Nobody waits when the slot ends for another reason.
            let _ = lost.send(error);
        }
    }
}
