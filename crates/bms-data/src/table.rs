//! A labelled table of numbers, from CSV.

use std::path::Path;

use bms_wire::{Code, Error, Result};

use crate::images::split_positions;

/// Rows one table may hold.
const ROWS_MAX: usize = 50_000_000;
/// Column names that mean the label when none is named.
const LABEL_NAMES: [&str; 4] = ["label", "target", "class", "species"];

/// Rows of finite numbers with a label each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableSet {
    /// Names of the columns, the label's left out.
    pub columns: Vec<String>,
    /// Class names, sorted (as numbers when all are numbers).
    pub labels: Vec<String>,
    /// Row-major, `columns.len()` a row.
    pub rows: Vec<f32>,
    /// Index into `labels`, one a row.
    pub targets: Vec<usize>,
}

impl TableSet {
    /// Reads a CSV with a header. The label's column is the one named, else the first called `label`, `target`,
    /// `class` or `species`, else the last.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] naming line and column of the first value that is not a finite number.
    pub fn read(path: &Path, bytes: &[u8], label_column: Option<&str>) -> Result<TableSet> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
        let header = reader.headers().map_err(|e| broken(path, e))?.clone();
        let label_at = label_position(path, &header, label_column)?;
        let mut set = TableSet::default();
        set.columns.extend(
            header.iter().enumerate().filter(|(i, _)| *i != label_at).map(|(_, name)| name.to_owned()),
        );
        let mut names = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| broken(path, e))?;
            if ROWS_MAX <= names.len() {
                return Err(Error::new(
                    Code::TooLarge,
                    format!("`{}` has over {ROWS_MAX} rows", path.display()),
                ));
            }
            for (column, value) in record.iter().enumerate() {
                if column == label_at {
                    names.push(value.to_owned());
                } else {
                    set.rows.push(number(path, &record, &header[column], value)?);
                }
            }
        }
        if names.is_empty() || set.columns.is_empty() {
            return Err(Error::new(
                Code::InvalidInput,
                format!("`{}` holds no rows of numbers", path.display()),
            )
            .hint("Expected is a header, then rows of numbers with one label column."));
        }
        set.labels = distinct(&names);
        // Every name is among the labels: they were made of the names.
        set.targets =
            names.iter().map(|n| set.labels.iter().position(|l| l == n).unwrap_or_default()).collect();
        Ok(set)
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.rows[index * self.columns.len()..][..self.columns.len()]
    }

    /// The rows of these positions, in this order.
    #[must_use]
    pub fn select(&self, positions: &[usize]) -> TableSet {
        TableSet {
            columns: self.columns.clone(),
            labels: self.labels.clone(),
            rows: positions.iter().flat_map(|&i| self.row(i).iter().copied()).collect(),
            targets: positions.iter().map(|&i| self.targets[i]).collect(),
        }
    }

    /// Splits into two, the first with `share` of every class (rounded), by seed.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when `share` is not between 0 and 1.
    pub fn split(&self, share: f64, seed: u64) -> Result<(TableSet, TableSet)> {
        let (first, second) = split_positions(&self.targets, self.labels.len(), share, seed)?;
        Ok((self.select(&first), self.select(&second)))
    }

    /// Hex BLAKE3 of the content; the order of rows does not matter.
    pub fn digest(&self) -> String {
        let mut entries: Vec<[u8; 32]> = (0..self.targets.len())
            .map(|index| {
                let mut hasher = blake3::Hasher::new();
                self.row(index).iter().for_each(|v| {
                    hasher.update(&v.to_le_bytes());
                });
                hasher.update(self.labels[self.targets[index]].as_bytes());
                hasher.finalize().into()
            })
            .collect();
        entries.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"bms table set 1");
        self.columns.iter().for_each(|column| {
            hasher.update(&(column.len() as u64).to_le_bytes());
            hasher.update(column.as_bytes());
        });
        entries.iter().for_each(|entry| {
            hasher.update(entry);
        });
        hasher.finalize().to_hex().to_string()
    }
}

/// Rows of a CSV with a header, for prediction: the columns picked by name and in this order.
///
/// # Errors
/// [`Code::InvalidInput`] naming the missing column, or line and column of what is not a finite number.
pub fn read_rows(path: &Path, bytes: &[u8], columns: &[String]) -> Result<Vec<Vec<f32>>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header = reader.headers().map_err(|e| broken(path, e))?.clone();
    let mut positions = Vec::with_capacity(columns.len());
    for column in columns {
        positions.push(header.iter().position(|name| name == column).ok_or_else(|| {
            Error::new(Code::InvalidInput, format!("`{}` has no column `{column}`", path.display()))
        })?);
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| broken(path, e))?;
        let row = positions.iter().map(|&at| number(path, &record, &header[at], &record[at]));
        rows.push(row.collect::<Result<_>>()?);
    }
    Ok(rows)
}

fn label_position(path: &Path, header: &csv::StringRecord, wanted: Option<&str>) -> Result<usize> {
    if let Some(wanted) = wanted {
        return header.iter().position(|name| name == wanted).ok_or_else(|| {
            let names: Vec<_> = header.iter().collect();
            Error::new(Code::InvalidInput, format!("`{}` has no column `{wanted}`", path.display()))
                .hint(format!("Its columns are: {}.", names.join(", ")))
        });
    }
    let known = LABEL_NAMES.iter().find_map(|name| header.iter().position(|h| h.eq_ignore_ascii_case(name)));
    Ok(known.unwrap_or_else(|| header.len().saturating_sub(1)))
}

fn number(path: &Path, record: &csv::StringRecord, column: &str, value: &str) -> Result<f32> {
    match value.parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => {
            let line = record.position().map_or(0, csv::Position::line);
            let path = path.display();
            let message =
                format!("`{path}` line {line}, column `{column}`: {value:?} is not a finite number");
            Err(Error::new(Code::InvalidInput, message))
        }
    }
}

/// The distinct names, as numbers in order when all are numbers.
fn distinct(names: &[String]) -> Vec<String> {
    let mut labels = names.to_vec();
    labels.sort();
    labels.dedup();
    if labels.iter().all(|l| l.parse::<f64>().is_ok_and(f64::is_finite)) {
        labels.sort_by(|a, b| {
            let value = |l: &String| l.parse::<f64>().unwrap_or(f64::MAX);
            value(a).total_cmp(&value(b)).then_with(|| a.cmp(b))
        });
    }
    labels
}

fn broken(path: &Path, error: csv::Error) -> Error {
    Error::new(Code::InvalidInput, format!("`{}` is not a CSV: {error}", path.display())).because(error)
}

#[cfg(test)]
mod tests;
