//! Data sets and models that go into a run or come out of it.

use bms_wire::{Code, Error, Result, limits};

use super::writing::writable;
use super::{RunLink, check_key, check_storable};
use crate::Registry;
use crate::database::{count, reading, writing};

impl Registry {
    /// Notes what went into a run or came out of it. The same again replaces what was said of it.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is no such run; [`Code::TooLarge`].
    pub async fn link_run(&self, run: &str, links: &[RunLink]) -> Result<()> {
        let mut change = self.change().await?;
        writable(&mut change, run).await?;
        for link in links {
            check_key("data set or model", &link.id)?;
            let details = link.details.to_string();
            // JSON escapes NUL; its length is what can be too much.
            check_storable("description", &details)?;
            if limits::LINK_BYTES_MAX < details.len() {
                let what =
                    format!("`{}` is described in more than {} bytes", link.id, limits::LINK_BYTES_MAX);
                return Err(Error::new(Code::TooLarge, what));
            }
            sqlx::query(
                "INSERT INTO run_links (run, kind, id, details) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (run, kind, id) DO UPDATE SET details = excluded.details",
            )
            .bind(run)
            .bind(&link.kind)
            .bind(&link.id)
            .bind(details)
            .execute(change.db())
            .await
            .map_err(writing)?;
        }
        let row = sqlx::query("SELECT COUNT(*) AS n FROM run_links WHERE run = $1")
            .bind(run)
            .fetch_one(change.db())
            .await
            .map_err(reading)?;
        if limits::RUN_KEYS_MAX < count(&row, "n")? {
            let what = format!("a run has at most {} inputs and outputs", limits::RUN_KEYS_MAX);
            return Err(Error::new(Code::TooLarge, what));
        }
        change.commit().await
    }
}
