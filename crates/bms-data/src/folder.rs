//! Class folders of pictures: `DIR/LABEL/NAME.png`.

use std::fs;
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};

use crate::{Image, ImageSample, ImageSet};

/// Pictures one data set may hold.
const SAMPLES_MAX: usize = 10_000_000;
/// Classes one data set may have.
const LABELS_MAX: usize = 100_000;
/// Bytes of one picture file.
const FILE_BYTES_MAX: u64 = 256 << 20;

impl ImageSet {
    /// Opens a folder of class folders of PNG and JPEG files. Labels and names are in sorted order; hidden files
    /// and files of other kinds are left out.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] naming the file that is no picture, or when there is nothing to read.
    pub fn open(dir: &Path) -> Result<ImageSet> {
        let mut set = ImageSet::default();
        for class in entries(dir)?.into_iter().filter(|path| path.is_dir()) {
            let label = set.labels.len();
            if LABELS_MAX <= label {
                return Err(Error::new(
                    Code::TooLarge,
                    format!("`{}` has over {LABELS_MAX} classes", dir.display()),
                ));
            }
            set.labels.push(file_name(&class)?);
            for file in entries(&class)?.into_iter().filter(|path| is_picture(path)) {
                if SAMPLES_MAX <= set.samples.len() {
                    let dir = dir.display();
                    return Err(Error::new(
                        Code::TooLarge,
                        format!("`{dir}` has over {SAMPLES_MAX} pictures"),
                    ));
                }
                set.samples.push(read_sample(&file, label)?);
            }
        }
        if set.samples.is_empty() {
            return Err(Error::new(
                Code::InvalidInput,
                format!("`{}` holds no class folders of pictures", dir.display()),
            )
            .hint("Expected is DIR/LABEL/NAME.png or .jpg, one folder a class."));
        }
        Ok(set)
    }

    /// Writes the set as class folders of PNG. The folder appears whole or not at all; it must not exist yet.
    ///
    /// # Errors
    /// [`Code::Conflict`] when `dir` exists; [`Code::InvalidInput`] when a label or name is no file name.
    pub fn save(&self, dir: &Path) -> Result<()> {
        if dir.exists() {
            return Err(Error::new(Code::Conflict, format!("`{}` exists already", dir.display()))
                .hint("Choose another folder, or remove it first."));
        }
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
        let draft = tempfile::tempdir_in(parent).map_err(|e| Error::io("create a folder in", parent, e))?;
        for label in &self.labels {
            let class = draft.path().join(component(label)?);
            fs::create_dir(&class).map_err(|e| Error::io("create", &class, e))?;
        }
        for sample in &self.samples {
            let label = self.labels.get(sample.label).ok_or_else(|| {
                Error::new(
                    Code::InvalidInput,
                    format!("sample `{}` has a label that is not listed", sample.name),
                )
            })?;
            let path = draft.path().join(label).join(format!("{}.png", component(&sample.name)?));
            if path.exists() {
                return Err(Error::new(
                    Code::InvalidInput,
                    format!("two samples `{}` of label `{label}`", sample.name),
                ));
            }
            fs::write(&path, sample.image.encode_png()?).map_err(|e| Error::io("write", &path, e))?;
        }
        let draft = draft.keep();
        fs::rename(&draft, dir).map_err(|e| {
            // Nothing of the draft is of use without its name.
            let _ = fs::remove_dir_all(&draft);
            Error::io("name", dir, e)
        })
    }
}

fn read_sample(file: &Path, label: usize) -> Result<ImageSample> {
    let size = fs::metadata(file).map_err(|e| Error::io("read", file, e))?.len();
    if FILE_BYTES_MAX < size {
        return Err(Error::new(Code::TooLarge, format!("`{}` has {size} bytes", file.display())));
    }
    let bytes = fs::read(file).map_err(|e| Error::io("read", file, e))?;
    let image = Image::decode(&bytes).map_err(|e| e.while_doing(format!("read `{}`", file.display())))?;
    let name = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
    Ok(ImageSample { name, label, image })
}

/// The visible entries of a folder, sorted.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))? {
        let path = entry.map_err(|e| Error::io("read", dir, e))?.path();
        if !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    path.is_file() && matches!(extension.as_str(), "png" | "jpg" | "jpeg")
}

fn file_name(path: &Path) -> Result<String> {
    path.file_name().and_then(|n| n.to_str()).map(str::to_owned).ok_or_else(|| {
        Error::new(Code::InvalidInput, format!("the folder name `{}` is not UTF-8", path.display()))
    })
}

/// A label or name as one component of a path.
fn component(name: &str) -> Result<&str> {
    let sound =
        !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if sound {
        return Ok(name);
    }
    Err(Error::new(Code::InvalidInput, format!("{name:?} cannot be the name of a file or folder")))
}
