//! What becomes of something in quarantine: another look, release through the gate, or deletion.

use bms_bundle::{Action, Order, Policy, Signer};
use bms_wire::api::{FileRef, NewVersion, Quarantined, QuarantinedBundle, Version};
use bms_wire::{Code, Error, Result};
use serde_json::json;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{count, reading, text, to_db, value, writing};

impl Registry {
    /// One refused bundle with its files.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn quarantined_bundle(&self, id: &str) -> Result<QuarantinedBundle> {
        let mut db = self.db.pool.acquire().await.map_err(reading)?;
        let row = sqlx::query("SELECT * FROM quarantine WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *db)
            .await
            .map_err(reading)?;
        let row = row.ok_or_else(|| {
            Error::new(Code::NotFound, format!("there is no {id:?} in quarantine"))
                .hint("`bms quarantine list` shows what there is.")
        })?;
        let rows = sqlx::query(
            "SELECT path, size, blake3 FROM quarantine_files WHERE quarantine = $1 ORDER BY path",
        )
        .bind(id)
        .fetch_all(&mut *db)
        .await
        .map_err(reading)?;
        let mut files = Vec::with_capacity(rows.len());
        for row in &rows {
            files.push(FileRef {
                path: text(row, "path")?,
                size: count(row, "size")?,
                blake3: text(row, "blake3")?,
            });
        }
        let code = text(&row, "code")?;
        let about = Quarantined {
            id: text(&row, "id")?,
            model: text(&row, "model")?,
            // A newer program may have written a code this one does not know.
            code: Code::from_wire(&code).unwrap_or(Code::Internal),
            reason: text(&row, "reason")?,
            at_ms: value(&row, "at_ms")?,
        };
        Ok(QuarantinedBundle { about, files_kept: value::<i64>(&row, "files_kept")? != 0, files })
    }

    /// The id of the key that signed a version, when one on the allow-list did.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn signer_key(&self, model: &str, version: u64) -> Result<Option<String>> {
        let mut db = self.db.pool.acquire().await.map_err(reading)?;
        let row = sqlx::query("SELECT signer_key FROM versions WHERE model = $1 AND version = $2")
            .bind(model)
            .bind(to_db(version)?)
            .fetch_optional(&mut *db)
            .await
            .map_err(reading)?;
        row.map_or(Ok(None), |row| value::<Option<String>>(&row, "signer_key"))
    }

    /// Passes a refused bundle through the gate again, as somebody who may ordered, and makes a version of it when the
    /// policy admits it by now. One that is refused once more stays in quarantine.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`] and its kin for the order, [`Code::NotFound`] when it or its files are gone, and the
    /// gate's.
    pub async fn release(&self, id: &str, order: &Order, policy: &Policy) -> Result<Version> {
        let bundle = self.quarantined_bundle(id).await?;
        let signer = self.ordered(order, Action::Release, &bundle, policy).await?;
        if !bundle.files_kept {
            return Err(Error::new(Code::NotFound, "its files were let go to bound the space"));
        }
        let model = &bundle.about.model;
        for file in &bundle.files {
            if !self.store.copy_from_quarantine(id, &file.blake3).await? {
                return Err(Error::new(
                    Code::NotFound,
                    format!("{:?} is gone from the quarantine", file.path),
                ));
            }
        }
        // The whole gate, as for any upload: an order replaces no check.
        let new = NewVersion { files: bundle.files.clone(), aliases: Vec::new() };
        let version = self.publish(model, new, policy).await?;
        let details = json!({
            "quarantine": id, "reason": order.reason(), "version": version.version,
            "by": signer.publisher, "key": signer.key_id,
        });
        self.forget(&bundle, "quarantine.released", details).await?;
        Ok(version)
    }

    /// Deletes the files of a refused bundle and its entry, as somebody who may ordered. The audit log keeps what was
    /// refused and why.
    ///
    /// # Errors
    /// As [`Registry::release`] for the order.
    pub async fn purge(&self, id: &str, order: &Order, policy: &Policy) -> Result<()> {
        let bundle = self.quarantined_bundle(id).await?;
        let signer = self.ordered(order, Action::Purge, &bundle, policy).await?;
        let details = json!({
            "quarantine": id, "reason": order.reason(), "by": signer.publisher, "key": signer.key_id,
            "code": bundle.about.code.as_str(),
        });
        self.forget(&bundle, "quarantine.purged", details).await
    }

    /// Who ordered. An order that is refused is an event, too.
    async fn ordered(
        &self,
        order: &Order,
        action: Action,
        bundle: &QuarantinedBundle,
        policy: &Policy,
    ) -> Result<Signer> {
        let about = &bundle.about;
        match policy.check_order(order, (action, &about.id), &about.model, now_ms()) {
            Ok(signer) => Ok(signer),
            Err(error) => {
                let details = json!({ "quarantine": about.id, "code": error.code().as_str(), "reason": error.message() });
                self.audit("quarantine.order_refused", &about.model, details).await?;
                Err(error)
            }
        }
    }

    /// Files first: an entry without files can be purged again, files without an entry would stay for ever.
    async fn forget(
        &self,
        bundle: &QuarantinedBundle,
        action: &str,
        details: serde_json::Value,
    ) -> Result<()> {
        let id = &bundle.about.id;
        let mut change = self.change().await?;
        for file in &bundle.files {
            self.store.remove_from_quarantine(id, &file.blake3).await?;
        }
        for table in
            ["DELETE FROM quarantine_files WHERE quarantine = $1", "DELETE FROM quarantine WHERE id = $1"]
        {
            sqlx::query(table).bind(id).execute(change.db()).await.map_err(writing)?;
        }
        change.audit(action, &bundle.about.model, details).await?;
        change.commit().await
    }
}
