//! Hugging Face folders: the configuration, the tensors, the tokenizer and the chat template of a model.
//!
//! A folder comes as the names and the bytes of its files; nothing is read from disk here, and no tensor is
//! copied. Several files hold the tensors of a large model, and `model.safetensors.index.json` says which.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use bms_wire::{Code, Error, Result, limits};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{ChatTemplate, TemplateFiles, Tokenizer, TokenizerFiles};

/// Bytes of a JSON file that describes a model; a tokenizer has a limit of its own.
const CONFIG_BYTES_MAX: usize = 16 << 20;
/// Bytes of `tokenizer.json`: the largest known ones have 35 MB.
const TOKENIZER_BYTES_MAX: usize = 256 << 20;

/// A folder's files, with the small ones parsed.
#[derive(Clone, Debug)]
pub struct HfFolder<'a> {
    files: &'a [(&'a str, &'a [u8])],
    config: Value,
    tokenizer_config: Option<Value>,
    generation_config: Option<Value>,
}

/// One tensor of a folder.
#[derive(Clone, Debug)]
pub struct HfTensor<'a> {
    /// Its name, `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its dimensions, the outermost first.
    pub shape: Vec<usize>,
    /// Its values.
    pub bytes: &'a [u8],
}

fn invalid(message: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidBundle, format!("the model's folder is invalid: {message}"))
}

impl<'a> HfFolder<'a> {
    /// Reads the configuration files.
    ///
    /// Errors: [`Code::InvalidBundle`] for a folder without `config.json` and for broken JSON.
    pub fn open(files: &'a [(&'a str, &'a [u8])]) -> Result<Self> {
        let config = parse(files, "config.json")?.ok_or_else(|| invalid("it has no `config.json`"))?;
        Ok(HfFolder {
            files,
            config,
            tokenizer_config: parse(files, "tokenizer_config.json")?,
            generation_config: parse(files, "generation_config.json")?,
        })
    }

    /// The bytes of a file.
    pub fn file(&self, name: &str) -> Option<&'a [u8]> {
        find(self.files, name)
    }

    /// `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// `tokenizer_config.json`.
    pub fn tokenizer_config(&self) -> Option<&Value> {
        self.tokenizer_config.as_ref()
    }

    /// `generation_config.json`.
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// The bytes of `tokenizer.json`.
    ///
    /// Errors: [`Code::UnsupportedModel`] for a folder with only a tokenizer of another form.
    pub fn tokenizer_json(&self) -> Result<&'a [u8]> {
        let Some(bytes) = self.file("tokenizer.json") else {
            let error = Error::new(Code::UnsupportedModel, "the model's folder has no `tokenizer.json`");
            return Err(error.hint(
                "Write one with Python: `AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`.",
            ));
        };
        if TOKENIZER_BYTES_MAX < bytes.len() {
            return Err(invalid(format_args!("`tokenizer.json` has {} bytes", bytes.len())));
        }
        Ok(bytes)
    }

    /// The tokenizer.
    ///
    /// Errors: as of [`Tokenizer::from_hf`], and for a folder without one.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::from_hf(&TokenizerFiles {
            tokenizer: self.tokenizer_json()?,
            tokenizer_config: self.tokenizer_config(),
            generation_config: self.generation_config(),
            config: Some(&self.config),
        })
    }

    /// The chat template; `None` for a model that has none and whose vocabulary fits none.
    ///
    /// Errors: as of [`ChatTemplate::from_hf`].
    pub fn template(&self, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
        let json = parse(self.files, "chat_template.json")?;
        ChatTemplate::from_hf(
            &TemplateFiles {
                jinja: self.template_source()?,
                json: json.as_ref(),
                tokenizer_config: self.tokenizer_config(),
            },
            tokenizer,
        )
    }

    /// The template as a file of its own.
    pub(super) fn template_source(&self) -> Result<Option<&'a str>> {
        let Some(bytes) = self.file("chat_template.jinja") else { return Ok(None) };
        if limits::CHAT_TEMPLATE_BYTES_MAX < bytes.len() {
            return Err(invalid(format_args!("`chat_template.jinja` has {} bytes", bytes.len())));
        }
        std::str::from_utf8(bytes).map(Some).map_err(|_| invalid("`chat_template.jinja` is not UTF-8"))
    }

    /// All tensors, in the order of their names.
    ///
    /// Errors: [`Code::InvalidBundle`] for a broken file, a missing part, a tensor that is given twice, and one
    /// that the index promises and no part has.
    pub fn tensors(&self) -> Result<Vec<HfTensor<'a>>> {
        let (parts, mut promised) = self.parts()?;
        let mut tensors = Vec::new();
        let mut names = HashSet::new();
        for part in parts {
            let bytes = self
                .file(&part)
                .ok_or_else(|| invalid(format_args!("it lacks `{part}`")).hint("Get the whole folder."))?;
            for tensor in read(&part, bytes)? {
                if limits::MODEL_TENSORS_MAX <= tensors.len() {
                    return Err(invalid(format_args!(
                        "it has more than {} tensors",
                        limits::MODEL_TENSORS_MAX
                    )));
                }
                if !names.insert(tensor.name.clone()) {
                    return Err(invalid(format_args!("the tensor `{}` is given twice", tensor.name)));
                }
                if let Some(place) = promised.remove(&tensor.name)
                    && place != part
                {
                    return Err(invalid(format_args!(
                        "the tensor `{}` lies in `{part}`, the index says `{place}`",
                        tensor.name
                    )));
                }
                tensors.push(tensor);
            }
        }
        if let Some((name, place)) = promised.into_iter().min() {
            return Err(invalid(format_args!("`{place}` lacks the tensor `{name}`")));
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tensors)
    }

    /// The names of the files with tensors, and where the index says that each tensor lies.
    fn parts(&self) -> Result<(Vec<String>, HashMap<String, String>)> {
        if let Some(index) = parse(self.files, "model.safetensors.index.json")? {
            let wrong = || invalid("`model.safetensors.index.json` has no map of tensors to files");
            let map = index.get("weight_map").and_then(Value::as_object).ok_or_else(wrong)?;
            let mut promised = HashMap::with_capacity(map.len());
            for (name, part) in map {
                promised.insert(name.clone(), part.as_str().ok_or_else(wrong)?.to_owned());
            }
            let mut parts: Vec<String> = promised.values().cloned().collect();
            parts.sort_unstable();
            parts.dedup();
            return Ok((parts, promised));
        }
        // A folder may hold the same weights in another layout beside these.
        if self.file("model.safetensors").is_some() {
            return Ok((vec!["model.safetensors".into()], HashMap::new()));
        }
        let mut parts: Vec<String> = self
            .files
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .filter(|name| {
                name.ends_with(".safetensors") && !name.contains('/') && !name.starts_with("adapter_")
            })
            .collect();
        parts.sort_unstable();
        if parts.is_empty() {
            return Err(invalid("it has no tensors in `.safetensors` files"));
        }
        Ok((parts, HashMap::new()))
    }
}

fn find<'a>(files: &[(&str, &'a [u8])], name: &str) -> Option<&'a [u8]> {
    files.iter().find(|(path, _)| *path == name).map(|(_, bytes)| *bytes)
}

fn parse(files: &[(&str, &[u8])], name: &str) -> Result<Option<Value>> {
    let Some(bytes) = find(files, name) else { return Ok(None) };
    if CONFIG_BYTES_MAX < bytes.len() {
        return Err(invalid(format_args!("`{name}` has {} bytes", bytes.len())));
    }
    serde_json::from_slice(bytes)
        .map(Some)
        .map_err(|error| invalid(format_args!("`{name}` is no JSON: {error}")))
}

/// The tensors of one file.
///
/// Errors: [`Code::InvalidBundle`] when its header, its ranges or its length are not as the format wants them.
pub fn read<'a>(part: &str, bytes: &'a [u8]) -> Result<Vec<HfTensor<'a>>> {
    let broken = |error: safetensors::SafeTensorError| {
        invalid(format_args!("`{part}` is no whole safetensors file: {error}"))
    };
    // Reading once more compares the ranges with the length of the file.
    SafeTensors::deserialize(bytes).map_err(broken)?;
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let data = header.checked_add(8).and_then(|start| bytes.get(start..)).unwrap_or_default();
    let mut tensors = Vec::new();
    for (name, info) in metadata.tensors() {
        let (from, to) = info.data_offsets;
        let bytes = data
            .get(from..to)
            .ok_or_else(|| invalid(format_args!("the tensor `{name}` reaches beyond the end of `{part}`")))?;
        tensors.push(HfTensor { name, dtype: info.dtype, shape: info.shape.clone(), bytes });
    }
    Ok(tensors)
}
