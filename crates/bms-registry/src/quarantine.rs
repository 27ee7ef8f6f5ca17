//! What the gate refused: set aside with its files, written to the audit log, never to be loaded.

mod decide;

use bms_bundle::Finding;
use bms_wire::api::{FileRef, Quarantined};
use bms_wire::{Code, Result};
use serde_json::json;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{count, reading, text, to_db, value, writing};
use crate::names::{check_digest, check_name};
use crate::registry::Change;

/// Refused bundles whose files are kept; of older ones the record stays and the files go.
const BUNDLES_KEPT_MAX: i64 = 100;
/// Refused bundles in one answer.
const ANSWER_MAX: i64 = 1000;
/// Findings written to the audit log; one bundle may have thousands.
const FINDINGS_MAX: usize = 20;
/// Characters of the reason and of each finding that are kept.
const REASON_CHARS_MAX: usize = 500;

/// A bundle that was refused, and why.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The model it was meant to be a version of.
    pub model: String,
    /// The gate's code.
    pub code: Code,
    /// The refusal in words.
    pub reason: String,
    /// What the scan found.
    pub findings: Vec<Finding>,
    /// Its files, in the store.
    pub files: Vec<FileRef>,
}

impl Registry {
    /// Sets a refused bundle aside: its files are copied to the quarantine, those that no version needs
    /// leave the store, and the audit log gets a `bundle.refused`. The same bundle refused again is one
    /// entry, with one more event.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when a name or digest does not fit; storage errors.
    pub async fn quarantine(&self, refusal: &Refusal) -> Result<Quarantined> {
        check_name("model name", &refusal.model)?;
        refusal.files.iter().try_for_each(|file| check_digest(&file.blake3))?;
        let entry = Quarantined {
            id: identity(refusal),
            model: refusal.model.clone(),
            code: refusal.code,
            reason: shortened(&refusal.reason),
            at_ms: now_ms(),
        };
        for file in &refusal.files {
            self.store.copy_to_quarantine(&entry.id, &file.blake3).await?;
        }
        self.record_refusal(&entry, refusal).await?;
        self.drop_unneeded(refusal).await?;
        self.let_old_files_go().await?;
        Ok(entry)
    }

    /// Refused bundles, the latest first, at most 1000.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>> {
        let rows = sqlx::query("SELECT * FROM quarantine ORDER BY at_ms DESC, id LIMIT $1")
            .bind(ANSWER_MAX)
            .fetch_all(&self.db.pool)
            .await
            .map_err(reading)?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let code = text(row, "code")?;
            entries.push(Quarantined {
                id: text(row, "id")?,
                model: text(row, "model")?,
                // A newer program may have written a code this one does not know.
                code: Code::from_wire(&code).unwrap_or(Code::Internal),
                reason: text(row, "reason")?,
                at_ms: value(row, "at_ms")?,
            });
        }
        Ok(entries)
    }

    async fn record_refusal(&self, entry: &Quarantined, refusal: &Refusal) -> Result<()> {
        let mut change = self.change().await?;
        sqlx::query(
            "INSERT INTO quarantine (id, model, code, reason, at_ms, files_kept) VALUES ($1, $2, $3, $4, $5, 1)
             ON CONFLICT (id) DO UPDATE SET
                 code = excluded.code, reason = excluded.reason, at_ms = excluded.at_ms, files_kept = 1",
        )
        .bind(&entry.id)
        .bind(&entry.model)
        .bind(entry.code.as_str())
        .bind(&entry.reason)
        .bind(entry.at_ms)
        .execute(change.db())
        .await
        .map_err(writing)?;
        for file in &refusal.files {
            sqlx::query(
                "INSERT INTO quarantine_files (quarantine, path, size, blake3) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (quarantine, path) DO NOTHING",
            )
            .bind(&entry.id)
            .bind(&file.path)
            .bind(to_db(file.size)?)
            .bind(&file.blake3)
            .execute(change.db())
            .await
            .map_err(writing)?;
        }
        let findings: Vec<String> = refusal
            .findings
            .iter()
            .take(FINDINGS_MAX)
            .map(|finding| shortened(&finding.to_string()))
            .collect();
        let details = json!({
            "code": entry.code.as_str(), "reason": entry.reason, "quarantine": entry.id,
            "findings": findings, "findings_total": refusal.findings.len(),
        });
        change.audit("bundle.refused", &entry.model, details).await?;
        change.commit().await
    }

    /// Removes the files that no version and no run needs from the store. Under the write lock, since a version that is
    /// being published checks its files under it too.
    async fn drop_unneeded(&self, refusal: &Refusal) -> Result<()> {
        let mut change = self.change().await?;
        for file in &refusal.files {
            if !is_needed(&mut change, &file.blake3).await? {
                self.store.remove(&file.blake3).await?;
            }
        }
        change.commit().await
    }

    /// Bounds the space: files of all but the latest refused bundles go, their records stay.
    async fn let_old_files_go(&self) -> Result<()> {
        let mut change = self.change().await?;
        let old = sqlx::query(
            "SELECT q.id, f.blake3 FROM quarantine q LEFT JOIN quarantine_files f ON f.quarantine = q.id
             WHERE q.files_kept = 1 AND q.id NOT IN (SELECT id FROM quarantine ORDER BY at_ms DESC, id LIMIT $1)",
        )
        .bind(BUNDLES_KEPT_MAX)
        .fetch_all(change.db())
        .await
        .map_err(reading)?;
        for row in &old {
            let id = text(row, "id")?;
            if let Some(digest) = value::<Option<&str>>(row, "blake3")? {
                self.store.remove_from_quarantine(&id, digest).await?;
            }
            sqlx::query("UPDATE quarantine SET files_kept = 0 WHERE id = $1")
                .bind(&id)
                .execute(change.db())
                .await
                .map_err(writing)?;
        }
        change.commit().await
    }
}

pub(crate) async fn is_needed(change: &mut Change, digest: &str) -> Result<bool> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM version_files WHERE blake3 = $1)
              + (SELECT COUNT(*) FROM artifacts WHERE blake3 = $1) AS n",
    )
    .bind(digest)
    .fetch_one(change.db())
    .await
    .map_err(reading)?;
    Ok(0 < count(&row, "n")?)
}

/// The same files under the same model name are the same refused bundle.
fn identity(refusal: &Refusal) -> String {
    let mut files: Vec<_> = refusal.files.iter().map(|file| (&file.path, &file.blake3)).collect();
    files.sort_unstable();
    let listing = json!([refusal.model, files]).to_string();
    blake3::hash(listing.as_bytes()).to_hex()[..32].to_owned()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
