//! Names of classes and samples.

use std::collections::HashMap;

use bms_wire::{Code, Error, Result};

use crate::limits;

/// The order of labels: by value when all are whole numbers, else by bytes. So `2` stands before
/// `10`, and the order does not depend on a locale or a file system.
pub(crate) fn sort(labels: &mut [String]) {
    let numbers = labels.iter().all(|label| number(label).is_some());
    let by_value = |a: &String, b: &String| number(a).cmp(&number(b)).then_with(|| a.cmp(b));
    match numbers {
        true => labels.sort_unstable_by(by_value),
        false => labels.sort_unstable(),
    }
}

fn number(label: &str) -> Option<i64> {
    label.parse().ok()
}

/// Index of every label.
pub(crate) fn index(labels: &[String]) -> HashMap<&str, usize> {
    labels.iter().enumerate().map(|(at, label)| (label.as_str(), at)).collect()
}

/// Where each of `theirs` stands in `ours`.
///
/// # Errors
/// [`Code::InvalidInput`] naming the labels `ours` lacks.
pub(crate) fn map_onto(ours: &[String], theirs: &[String]) -> Result<Vec<usize>> {
    let index = index(ours);
    let unknown: Vec<&str> =
        theirs.iter().map(String::as_str).filter(|label| !index.contains_key(label)).collect();
    if !unknown.is_empty() {
        let message = format!("the labels do not match: `{}` not among the first set's", unknown.join("`, `"));
        return Err(Error::new(Code::InvalidInput, message)
            .hint("Merge the set with fewer classes into the one that has them all."));
    }
    Ok(theirs.iter().map(|label| index[label.as_str()]).collect())
}

/// Checks a list of labels: at least one, distinct, within the limit.
pub(crate) fn check(labels: &[String]) -> Result<()> {
    if labels.is_empty() {
        return Err(Error::new(Code::InvalidInput, "the data set has no classes"));
    }
    if limits::LABELS_MAX < labels.len() {
        let message = format!("{} classes are over the limit of {}", labels.len(), limits::LABELS_MAX);
        return Err(Error::new(Code::TooLarge, message)
            .hint("Is the label column the right one?"));
    }
    if index(labels).len() != labels.len() {
        return Err(Error::new(Code::InvalidInput, "two classes have the same name"));
    }
    Ok(())
}

/// Checks a name that becomes a file or folder name.
pub(crate) fn check_file_name(what: &str, name: &str) -> Result<()> {
    let long = limits::NAME_BYTES_MAX < name.len();
    let hidden = name.is_empty() || name.starts_with('.');
    if long || hidden || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        let message = format!("{what} {name:?} cannot be a file name");
        return Err(Error::new(Code::InvalidInput, message).hint(format!(
            "Use 1 to {} bytes without slashes or control characters, not beginning with a dot.",
            limits::NAME_BYTES_MAX
        )));
    }
    Ok(())
}
