//! What a file says of itself, for a bill of materials.

use super::{Format, gguf};
use crate::json::Json;

/// Bytes of a header or document that are looked at.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// What a file says of itself. None of it is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What people call the model.
    pub name: Option<String>,
    /// Such as `llama` or `BertModel`.
    pub architecture: Option<String>,
    /// Its licence: an SPDX identifier or a name.
    pub licence: Option<String>,
    /// How its weights are stored.
    pub precision: Option<String>,
}

impl Facts {
    /// Reads them from a file of this format and name.
    pub fn of(path: &str, format: Format, bytes: &[u8]) -> Facts {
        let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let sample = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
        match format {
            Format::Gguf => {
                let facts = gguf::facts(bytes);
                Facts {
                    name: facts.name,
                    architecture: facts.architecture,
                    licence: facts.licence,
                    precision: Some(facts.precision.to_owned()),
                }
            }
            Format::Json if file == "config.json" || file == crate::MANIFEST => Facts::of_settings(sample),
            Format::Text if file.eq_ignore_ascii_case("README.md") => Facts::of_card(sample),
            _ => Facts::default(),
        }
    }

    fn of_settings(bytes: &[u8]) -> Facts {
        let Ok(settings) = Json::parse_all(bytes) else { return Facts::default() };
        let text = |key: &str| settings.text(key).map(str::to_owned);
        let first = match settings.get("architectures") {
            Some(Json::Array(names)) => names.iter().find_map(|name| match name {
                Json::Text(name) => Some(name.clone()),
                _ => None,
            }),
            _ => None,
        };
        Facts {
            name: text("_name_or_path").or_else(|| text("name")),
            architecture: first.or_else(|| text("model_type")),
            licence: text("licence").or_else(|| text("license")),
            precision: text("torch_dtype").or_else(|| text("dtype")).or_else(|| text("precision")),
        }
    }

    /// The settings at the head of a model card: between lines of dashes.
    fn of_card(bytes: &[u8]) -> Facts {
        let text = String::from_utf8_lossy(bytes);
        let head =
            text.strip_prefix("---").and_then(|rest| rest.split_once("\n---")).map_or("", |(head, _)| head);
        let value = |key: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            Some(line.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
        };
        Facts { licence: value("license"), ..Facts::default() }
    }
}
