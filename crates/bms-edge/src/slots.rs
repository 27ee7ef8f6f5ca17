//! Two places for versions: one that answers, one before it or on its way.
//!
//! `state.json` says which is which and is replaced in one step, so whenever the machine stops, it
//! names a slot whose content is whole.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bms_wire::api::VersionRef;
use bms_wire::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use crate::durable;

/// The layout of `state.json`.
const SCHEMA: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Slot {
    A,
    B,
}

/// A version and where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    slot: Slot,
    version: VersionRef,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    schema: u32,
    /// The version that answers.
    current: Option<Held>,
    /// The one before it.
    previous: Option<Held>,
}

/// The two slots of one node.
#[derive(Debug)]
pub(crate) struct Slots {
    dir: PathBuf,
    state: State,
}

impl Slots {
    /// Opens the slots in `dir`. A state that cannot be read counts as none: the version is pulled
    /// again.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin.
    pub(crate) fn open(dir: &Path) -> Result<Slots> {
        durable::make_folder(&dir.join("slots"))?;
        let path = dir.join("state.json");
        let state = match fs::read(&path) {
            Ok(text) => match serde_json::from_slice::<State>(&text) {
                Ok(state) if state.schema == SCHEMA => state,
                Ok(state) => {
                    tracing::warn!(
                        schema = state.schema,
                        "the node's state is of another schema; starting empty"
                    );
                    State::default()
                }
                Err(error) => {
                    tracing::warn!("the node's state cannot be read; starting empty: {error}");
                    State::default()
                }
            },
            Err(e) if e.kind() == ErrorKind::NotFound => State::default(),
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        Ok(Slots { dir: dir.to_owned(), state })
    }

    /// The version that shall answer, and its folder.
    pub(crate) fn current(&self) -> Option<(VersionRef, PathBuf)> {
        self.state.current.as_ref().map(|held| self.place(held))
    }

    /// The version before it, and its folder.
    pub(crate) fn previous(&self) -> Option<(VersionRef, PathBuf)> {
        self.state.previous.as_ref().map(|held| self.place(held))
    }

    /// Folders that may hold files of a new version.
    pub(crate) fn folders(&self) -> [PathBuf; 2] {
        [self.folder(Slot::A), self.folder(Slot::B)]
    }

    /// Makes the tested version in the folder `staged` the current one, in the slot that is not the
    /// current one's. The current one becomes the previous.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin; the current version is untouched then.
    pub(crate) fn install(&mut self, staged: &Path, version: VersionRef) -> Result<()> {
        let spare = match &self.state.current {
            Some(Held { slot: Slot::A, .. }) => Slot::B,
            _ => Slot::A,
        };
        let place = self.folder(spare);
        self.save(State { previous: None, ..self.state.clone() })?;
        durable::remove_folder(&place)?;
        durable::rename(staged, &place)?;
        let current = Some(Held { slot: spare, version });
        self.save(State { schema: SCHEMA, current, previous: self.state.current.clone() })
    }

    /// Makes the previous version the current one, and the current the previous.
    ///
    /// # Errors
    /// [`Code::NotFound`] without a previous one; [`Code::Io`] and its kin.
    pub(crate) fn swap(&mut self) -> Result<()> {
        let State { schema, current, previous } = self.state.clone();
        if previous.is_none() {
            return Err(Error::new(Code::NotFound, "there is no previous version"));
        }
        self.save(State { schema, current: previous, previous: current })
    }

    fn save(&mut self, state: State) -> Result<()> {
        let state = State { schema: SCHEMA, ..state };
        let text = serde_json::to_vec_pretty(&state)
            .map_err(|e| Error::new(Code::Internal, "the state cannot be written as JSON").because(e))?;
        durable::replace(&self.dir.join("state.json"), &text)?;
        self.state = state;
        Ok(())
    }

    fn place(&self, held: &Held) -> (VersionRef, PathBuf) {
        (held.version.clone(), self.folder(held.slot))
    }

    fn folder(&self, slot: Slot) -> PathBuf {
        self.dir.join("slots").join(match slot {
            Slot::A => "a",
            Slot::B => "b",
        })
    }
}

#[cfg(test)]
mod tests;
