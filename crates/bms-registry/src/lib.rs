//! Names, versions, aliases, lineage, deployments, jobs, samples and audit, over SQLite and an object store.
