//! What servers that share stand on: a database and a bucket of their own, or a folder.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::helm::{Rendered, list};
use crate::process;

/// Servers that share, where they can.
const REPLICAS: usize = 2;

/// Where the servers of one set of values keep what they know.
#[derive(Debug)]
pub(super) enum Ground {
    /// Each in a folder of its pod.
    Folder,
    Shared {
        /// With the database's address and what the client of S3 needs.
        environment: Vec<(String, String)>,
        store: String,
    },
}

impl Ground {
    /// A database and a part of the bucket for this set of values, if it is one for servers that share and `services` has them.
    pub(super) fn of(set: &str, rendered: &[Rendered], services: &[(String, String)]) -> Result<Ground> {
        let containers =
            rendered.iter().flat_map(|one| list(&one.document["spec"]["template"]["spec"]["containers"]));
        let mut arguments =
            containers.flat_map(|one| list(&one["args"])).filter_map(|argument| argument.as_str());
        let service =
            |name: &str| services.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let shares = arguments.any(|argument| argument.starts_with("--store=s3://"));
        let (true, Some(postgres), Some(bucket)) = (shares, service("BMS_POSTGRES"), service("BMS_TEST_S3"))
        else {
            return Ok(Ground::Folder);
        };
        let name = format!("chart_{set}_{}", std::process::id());
        let database = postgres.replacen("/postgres?", &format!("/{name}?"), 1);
        let mut create = Command::new("psql");
        create.args(["--no-psqlrc", "--quiet", "--command", &format!("CREATE DATABASE {name}"), postgres]);
        process::output(create.current_dir("/"))
            .context("failed to make a database; is `psql` installed?")?;
        let mut environment = vec![("BMS_DATABASE".to_owned(), database)];
        environment.extend(services.iter().filter(|(name, _)| name.starts_with("AWS_")).cloned());
        Ok(Ground::Shared { environment, store: format!("{bucket}/{name}") })
    }

    /// How many servers it bears.
    pub(super) fn servers(&self) -> usize {
        match self {
            Ground::Folder => 1,
            Ground::Shared { .. } => REPLICAS,
        }
    }
}

#[cfg(test)]
mod tests;
