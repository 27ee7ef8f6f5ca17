//! `bms convert`: a language model as a GGUF file in another format.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bms_kernels::MappedFile;
use bms_nn::lm::ModelFiles;
use bms_nn::lm::convert::{ConvertOptions, ConvertProgress, Converted, Recipe, convert};
use bms_wire::{Code, Error, Result};
use clap::Args;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::cmd::train::{free, taken};
use crate::output::{self, Output, Progress};

/// Options of `bms convert`.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// The model: a GGUF file, or a folder with `config.json`, safetensors and `tokenizer.json`.
    model: PathBuf,
    /// How weights are stored: f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q5_1, q5_0, q4_1 or q4_0.
    #[arg(long = "type", value_name = "TYPE", value_parser = recipe)]
    recipe: Recipe,
    /// The GGUF file to write; must not exist yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Quantise weights again that are quantised already. Loses more than quantising the original ones.
    #[arg(long)]
    requantise: bool,
    /// Threads to compute on; all processors when not given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn recipe(name: &str) -> std::result::Result<Recipe, String> {
    Recipe::parse(name).ok_or_else(|| {
        let known: Vec<String> =
            Recipe::all().map(|recipe| format!("{} ({})", recipe.name(), recipe.about())).collect();
        format!("known are {}", known.join(", "))
    })
}

impl Convert {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        free(&self.out)?;
        let source = Source::open(&self.model)?;
        let views = source.views();
        let files = match &source.gguf {
            Some(map) => ModelFiles::Gguf(map),
            None => ModelFiles::Folder(&views),
        };
        let threads =
            self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
        let options = ConvertOptions {
            recipe: self.recipe,
            threads,
            requantise: self.requantise,
            release: &|bytes| source.release(bytes),
        };
        let progress = output.progress("converting", 1);
        let partial = Partial::create(&self.out)?;
        let mut writer = BufWriter::with_capacity(1 << 20, partial.0.as_file());
        let done = convert(&files, &mut writer, &options, &mut |step| report(&progress, &step))?;
        writer.flush().map_err(|error| Error::io("write", partial.0.path(), error))?;
        drop(writer);
        source.check()?;
        partial.publish(&self.out)?;
        progress.done();
        let size = std::fs::metadata(&self.out).map_err(|error| Error::io("read", &self.out, error))?.len();
        let formats: serde_json::Map<String, serde_json::Value> = done
            .formats
            .iter()
            .map(|(format, count)| (format.as_str().to_owned(), (*count).into()))
            .collect();
        let value = json!({
            "out": self.out, "type": self.recipe.name(), "arch": done.arch, "name": done.name,
            "parameters": done.parameters, "bytes_in": done.bytes_in, "bytes_out": done.bytes_out,
            "size_bytes": size, "formats": formats, "relative_error": done.error,
        });
        output.result(text(&done, &self.out, size), &value);
        Ok(())
    }
}

fn report(progress: &Progress, step: &ConvertProgress<'_>) {
    progress.span(step.bytes);
    progress.at(step.bytes_done);
    progress.note(&format!("{} {}", step.format.as_str(), step.tensor));
    progress.event(json!({
        "tensor": step.tensor, "format": step.format.as_str(), "tensors_done": step.tensors_done,
        "tensors": step.tensors, "bytes_done": step.bytes_done, "bytes": step.bytes,
    }));
}

fn text(done: &Converted, out: &Path, size: u64) -> String {
    let mut table = output::table(&["", "before", "after"]);
    let bits = |bytes: u64| format!("{:.2}", bytes as f64 * 8.0 / done.parameters.max(1) as f64);
    table.add_row(["weights".to_owned(), output::bytes(done.bytes_in), output::bytes(done.bytes_out)]);
    table.add_row(["bits a weight".to_owned(), bits(done.bytes_in), bits(done.bytes_out)]);
    let formats: Vec<String> =
        done.formats.iter().map(|(format, count)| format!("{count} {}", format.as_str())).collect();
    let error = match done.error {
        0.0 => "nothing was quantised".to_owned(),
        error => format!("relative error of quantised weights {:.3} %", error * 100.0),
    };
    format!(
        "{table}\n{} with {:.1} M weights; tensors: {}; {error}\n`{}` has {}",
        done.arch,
        done.parameters as f64 / 1e6,
        formats.join(", "),
        out.display(),
        output::bytes(size)
    )
}

/// The mapped files of a model.
struct Source {
    gguf: Option<MappedFile>,
    files: Vec<(String, MappedFile)>,
}

impl Source {
    fn open(model: &Path) -> Result<Self> {
        if !model.is_dir() {
            return Ok(Source { gguf: Some(map(model)?), files: Vec::new() });
        }
        let mut files = Vec::new();
        for folder in ["", "1_Pooling/"] {
            let path = model.join(folder);
            if !path.is_dir() {
                continue;
            }
            let entries = std::fs::read_dir(&path).map_err(|error| Error::io("read", &path, error))?;
            for entry in entries {
                let path = entry.map_err(|error| Error::io("read", &path, error))?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                if let Some(name) = name.filter(|name| is_wanted(name) && path.is_file()) {
                    files.push((format!("{folder}{name}"), map(&path)?));
                }
            }
        }
        Ok(Source { gguf: None, files })
    }

    fn views(&self) -> Vec<(&str, &[u8])> {
        self.files.iter().map(|(name, map)| (name.as_str(), &**map)).collect()
    }

    /// Gives back the memory of bytes that were read.
    fn release(&self, bytes: &[u8]) {
        for map in self.gguf.iter().chain(self.files.iter().map(|(_, map)| map)) {
            let (start, all) = (bytes.as_ptr().addr(), map.as_ptr().addr());
            if (all..=all + map.len()).contains(&start) {
                map.release(start - all..start - all + bytes.len());
            }
        }
    }

    /// Refuses a result made of files that changed meanwhile.
    fn check(&self) -> Result<()> {
        let changed =
            self.gguf.iter().chain(self.files.iter().map(|(_, map)| map)).any(|map| !map.unchanged());
        match changed {
            true => Err(Error::new(Code::Conflict, "the model's files were changed while they were read")),
            false => Ok(()),
        }
    }
}

fn is_wanted(name: &str) -> bool {
    [".json", ".safetensors", ".jinja"].iter().any(|kind| name.ends_with(kind))
}

fn map(path: &Path) -> Result<MappedFile> {
    let opened = File::open(path).and_then(MappedFile::open);
    opened.map_err(|error| Error::io("open", path, error))
}

/// A file of a new name beside the wanted one, which takes that name when it is whole, and goes when it is not.
struct Partial(NamedTempFile);

impl Partial {
    fn create(out: &Path) -> Result<Self> {
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&name).suffix(".partial");
        // Less what the user's mask takes away, like any file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(folder).map(Partial).map_err(|error| Error::io("create a file in", folder, error))
    }

    /// Leaves what another run wrote to the wanted name in the meantime.
    fn publish(self, out: &Path) -> Result<()> {
        self.0.as_file().sync_all().map_err(|error| Error::io("write", self.0.path(), error))?;
        self.0.persist_noclobber(out).map_err(|failed| match failed.error.kind() {
            std::io::ErrorKind::AlreadyExists => taken(out),
            _ => Error::io("write", out, failed.error),
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
