//! Which imports only rebuild data.
//!
//! The whole dotted path is compared: `numpy.dtype` is data, `numpy.f2py.os.system` is not. What
//! is on no list is denied, because a list of dangerous names is never complete.

mod list;
mod packages;

use crate::Severity;
use list::DATA;
use packages::{CLASSES, DANGEROUS, ENUMERATIONS, METRICS, SPARSE, STATES};

/// How bad an import is; `None` when it only rebuilds data.
pub(super) fn judge(module: &str, name: &str) -> Option<Severity> {
    if DATA.iter().any(|(known, names)| *known == module && names.contains(&name)) {
        return None;
    }
    let within = |packages: &[&str]| packages.iter().any(|package| inside(module, package));
    if is_class(name) && (within(CLASSES) || within(STATES)) {
        return None;
    }
    let word = name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    if word && inside(module, "sklearn.metrics") && METRICS.iter().any(|end| name.ends_with(end)) {
        return None;
    }
    if inside(module, "scipy.sparse") && is_sparse(name) {
        return None;
    }
    let top = module.split('.').next().unwrap_or(module).trim_start_matches('_');
    let reaches = |word: &str| DANGEROUS.iter().any(|known| known.trim_start_matches('_') == word);
    match reaches(top) || name.split('.').any(reaches) {
        true => Some(Severity::Critical),
        false => Some(Severity::High),
    }
}

/// Whether a class that passed [`judge`] may not be constructed with these arguments: `text` when they are one text
/// or number.
pub(super) fn is_state_only(path: &str, text: bool) -> bool {
    let Some((module, name)) = path.rsplit_once('.') else { return false };
    let within = |packages: &[&str]| packages.iter().any(|package| inside(module, package));
    is_class(name) && within(STATES) && !(text && within(ENUMERATIONS))
}

/// `csr_matrix`, `_csr_base` and the like.
fn is_sparse(name: &str) -> bool {
    let plain = name.strip_prefix('_').unwrap_or(name);
    plain
        .split_once('_')
        .is_some_and(|(format, kind)| SPARSE.contains(&format) && matches!(kind, "array" | "matrix" | "base"))
}

/// Whether `module` is `package` or lies in it, and is plainly named.
fn inside(module: &str, package: &str) -> bool {
    let rest = module.strip_prefix(package);
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|rest| rest.split('.').all(plain))
    })
}

/// `LogisticRegression`, `_Criterion`; neither `load` nor `Tree.fit`.
fn is_class(name: &str) -> bool {
    let first = name.trim_start_matches('_').chars().next();
    // `_LIB` is something a module keeps for itself.
    let kept = name.starts_with('_') && !name.chars().any(|c| c.is_ascii_lowercase());
    !kept
        && first.is_some_and(|c| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        || name.strip_prefix("__pyx_unpickle_").is_some_and(is_class)
}
