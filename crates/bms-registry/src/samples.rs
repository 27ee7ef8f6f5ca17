//! Samples that edge nodes were unsure of, and the labels they got here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bms_wire::api::{AssignedLabel, HardSample, SampleDelivery, StoredSample};
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use crate::Registry;
use crate::database::{Row, count, reading, text, to_db, value, writing};
use crate::names::{check_digest, check_name};

/// Samples one registry holds.
const SAMPLES_MAX: u64 = 1_000_000;
/// Samples in one answer.
const ANSWER_SAMPLES_MAX: u32 = 1000;
/// Characters of a label or of who gave it.
const LABEL_CHARS_MAX: usize = 1000;

/// Which samples to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleFilter {
    /// Only samples of this model.
    pub model: Option<String>,
    /// `Some(true)`: only those with an assigned label; `Some(false)`: only those without.
    pub labelled: Option<bool>,
    /// Only samples that arrived after the one with this id: the next page.
    pub after: Option<String>,
}

/// How many samples there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleCounts {
    /// All samples.
    pub total: u64,
    /// Those without an assigned label.
    pub unlabelled: u64,
}

impl Registry {
    /// Stores a delivery of an edge node as a whole and returns how many samples were new. A sample whose
    /// id is known already is left as it is, so a delivery can be repeated.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when a sample is not what its id says or a value is out of range,
    /// [`Code::TooLarge`] over a limit, [`Code::StorageFull`] when the registry holds all it may.
    pub async fn store_samples(&self, node: &str, model: &str, delivery: &SampleDelivery) -> Result<u64> {
        check_name("node name", node)?;
        check_name("model name", model)?;
        if limits::EDGE_DELIVERY_SAMPLES_MAX < delivery.samples.len() {
            return Err(Error::new(
                Code::TooLarge,
                format!("a delivery holds at most {} samples", limits::EDGE_DELIVERY_SAMPLES_MAX),
            ));
        }
        let images = delivery.samples.iter().map(decode).collect::<Result<Vec<_>>>()?;
        let mut change = self.change().await?;
        let row = sqlx::query("SELECT COALESCE(MAX(sequence), 0) AS last FROM samples")
            .fetch_one(change.db())
            .await
            .map_err(reading)?;
        // Samples are never removed one by one, so the last number is the count.
        let last = count(&row, "last")?;
        let mut stored = 0;
        for (sample, image) in delivery.samples.iter().zip(images) {
            let inserted = sqlx::query(
                "INSERT INTO samples (id, sequence, node, model, label, confidence, version, at_ms)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
            )
            .bind(&sample.id)
            .bind(to_db(last + stored + 1)?)
            .bind(node)
            .bind(model)
            .bind(&sample.label)
            .bind(f64::from(sample.confidence))
            .bind(to_db(sample.version)?)
            .bind(sample.at_ms)
            .execute(change.db())
            .await
            .map_err(writing)?;
            if inserted.rows_affected() == 0 {
                continue;
            }
            sqlx::query("INSERT INTO sample_images (id, image) VALUES ($1, $2)")
                .bind(&sample.id)
                .bind(image)
                .execute(change.db())
                .await
                .map_err(writing)?;
            stored += 1;
        }
        if SAMPLES_MAX < last + stored {
            return Err(Error::new(
                Code::StorageFull,
                format!("the registry holds {SAMPLES_MAX} samples already"),
            ));
        }
        change.commit().await?;
        Ok(stored)
    }

    /// Samples in order of arrival, without their pictures, at most `limit` (and at most 1000).
    pub async fn samples(&self, filter: &SampleFilter, limit: u32) -> Result<Vec<StoredSample>> {
        let rows = sqlx::query(
            "SELECT * FROM samples
             WHERE ($1 IS NULL OR model = $1)
               AND ($2 IS NULL OR (assigned_label IS NOT NULL) = $2)
               AND ($3 IS NULL OR sequence > (SELECT sequence FROM samples WHERE id = $3))
             ORDER BY sequence LIMIT $4",
        )
        .bind(&filter.model)
        .bind(filter.labelled)
        .bind(&filter.after)
        .bind(i64::from(limit.min(ANSWER_SAMPLES_MAX)))
        .fetch_all(&self.db.pool)
        .await
        .map_err(reading)?;
        rows.iter().map(|row| stored_sample(row, String::new())).collect()
    }

    /// One sample with its picture.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn sample(&self, id: &str) -> Result<StoredSample> {
        let row = sqlx::query(
            "SELECT s.*, i.image FROM samples s JOIN sample_images i ON i.id = s.id WHERE s.id = $1",
        )
        .bind(id)
        .fetch_optional(&self.db.pool)
        .await
        .map_err(reading)?
        .ok_or_else(|| no_sample(id))?;
        let image: &[u8] = value(&row, "image")?;
        stored_sample(&row, BASE64.encode(image))
    }

    /// Gives a sample its label; a later one replaces it.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::InvalidRequest`] when the label is empty or too long or the confidence
    /// is not between 0 and 1.
    pub async fn label_sample(&self, id: &str, label: &AssignedLabel) -> Result<()> {
        check_label(&label.label)?;
        check_label(&label.by)?;
        check_confidence(label.confidence)?;
        let mut change = self.change().await?;
        let updated = sqlx::query(
            "UPDATE samples SET assigned_label = $2, assigned_by = $3, assigned_confidence = $4 WHERE id = $1",
        )
        .bind(id)
        .bind(&label.label)
        .bind(&label.by)
        .bind(f64::from(label.confidence))
        .execute(change.db())
        .await
        .map_err(writing)?;
        if updated.rows_affected() == 0 {
            return Err(no_sample(id));
        }
        // Labels become training data: who gave which one must be traceable.
        let details =
            json!({ "label": label.label, "by": label.by, "confidence": label.confidence.to_string() });
        change.audit("sample.labelled", id, details).await?;
        change.commit().await
    }

    /// How many samples there are.
    pub async fn sample_counts(&self) -> Result<SampleCounts> {
        let row = sqlx::query("SELECT COUNT(*) AS total, COUNT(assigned_label) AS labelled FROM samples")
            .fetch_one(&self.db.pool)
            .await
            .map_err(reading)?;
        let total = count(&row, "total")?;
        Ok(SampleCounts { total, unlabelled: total - count(&row, "labelled")? })
    }
}

/// The picture of a sample, after everything about it was checked.
fn decode(sample: &HardSample) -> Result<Vec<u8>> {
    check_digest(&sample.id)?;
    check_label(&sample.label)?;
    check_confidence(sample.confidence)?;
    // Base64 takes four characters for three bytes.
    if limits::EDGE_SAMPLE_BYTES_MAX.div_ceil(3) * 4 < sample.image.len() {
        return Err(Error::new(
            Code::TooLarge,
            format!("sample `{}` has more than {} bytes", sample.id, limits::EDGE_SAMPLE_BYTES_MAX),
        ));
    }
    let image = BASE64.decode(&sample.image).map_err(|e| {
        Error::new(Code::InvalidRequest, format!("the picture of `{}` is not base64: {e}", sample.id))
    })?;
    if blake3::hash(&image).to_hex().as_str() != sample.id {
        return Err(Error::new(
            Code::InvalidRequest,
            format!("the picture of `{}` is another one", sample.id),
        )
        .hint("The id is the BLAKE3 of the picture's bytes."));
    }
    Ok(image)
}

fn check_label(label: &str) -> Result<()> {
    if label.is_empty() || LABEL_CHARS_MAX < label.len() {
        return Err(Error::new(
            Code::InvalidRequest,
            format!("a label has 1 to {LABEL_CHARS_MAX} characters"),
        ));
    }
    Ok(())
}

fn check_confidence(confidence: f32) -> Result<()> {
    if (0.0..=1.0).contains(&confidence) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidRequest, format!("a confidence is between 0 and 1, not {confidence}")))
}

fn stored_sample(row: &Row, image: String) -> Result<StoredSample> {
    let confidence: f64 = value(row, "confidence")?;
    let label: Option<String> = value(row, "assigned_label")?;
    let assigned = match label {
        Some(label) => {
            let confidence: f64 = value(row, "assigned_confidence")?;
            Some(AssignedLabel { label, by: text(row, "assigned_by")?, confidence: confidence as f32 })
        }
        None => None,
    };
    Ok(StoredSample {
        node: text(row, "node")?,
        model: text(row, "model")?,
        sample: HardSample {
            id: text(row, "id")?,
            image,
            label: text(row, "label")?,
            confidence: confidence as f32,
            version: count(row, "version")?,
            at_ms: value(row, "at_ms")?,
        },
        assigned,
    })
}

fn no_sample(id: &str) -> Error {
    let shown: String = id.chars().take(80).collect();
    Error::new(Code::NotFound, format!("there is no sample `{shown}`"))
}
