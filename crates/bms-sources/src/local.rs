//! A file or folder of this machine.

use std::path::Path;

use bms_wire::{Code, Error, Result, limits};

use crate::digest::Expected;
use crate::patterns::Patterns;
use crate::plan::{Item, Place, Plan};

/// Folders inside folders.
const DEPTH_MAX: usize = 32;

/// What is there. Links are not followed: what they lead to may be another file tomorrow.
pub(crate) fn plan(source: String, path: &Path, patterns: &Patterns) -> Result<Plan> {
    let metadata = std::fs::symlink_metadata(path).map_err(|e| Error::io("open", path, e))?;
    let mut plan = Plan { source, revision: None, single: !metadata.is_dir(), items: Vec::new() };
    if plan.single {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        plan.items.push(item(path, name, &metadata)?);
        return Ok(plan);
    }
    let mut pending = vec![(path.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = pending.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| Error::io("read the folder", &folder, e))? {
            let path = entry.map_err(|e| Error::io("read the folder", &folder, e))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| odd(&path))?;
            let inside = format!("{prefix}{name}");
            let metadata = std::fs::symlink_metadata(&path).map_err(|e| Error::io("open", &path, e))?;
            if metadata.is_dir() && depth < DEPTH_MAX {
                pending.push((path, format!("{inside}/"), depth + 1));
                continue;
            }
            if !patterns.wants(&inside) {
                continue;
            }
            plan.items.push(item(&path, inside, &metadata)?);
            if limits::PULL_FILES_MAX < plan.items.len() {
                let what = format!("there are over {} files", limits::PULL_FILES_MAX);
                return Err(Error::new(Code::TooLarge, what).hint("Pull a part of them, with --include."));
            }
        }
    }
    plan.items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(plan)
}

fn item(path: &Path, inside: String, metadata: &std::fs::Metadata) -> Result<Item> {
    match metadata.is_file() {
        true => Ok(Item {
            path: inside,
            size: Some(metadata.len()),
            expected: Expected::Unknown,
            place: Place::Local(path.to_owned()),
            cached: None,
        }),
        false => Err(odd(path)),
    }
}

fn odd(path: &Path) -> Error {
    let what =
        format!("`{}` is a link, a special file, too deep, or has a name that is not UTF-8", path.display());
    Error::new(Code::InvalidInput, what).hint("Leave it out with --exclude, or copy what it stands for.")
}
