//! The little of a command line that the chores need: flags and options with a value.

use anyhow::{Context as _, Result, bail};

/// Arguments not yet asked for.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn new(arguments: impl Iterator<Item = String>) -> Arguments {
        Arguments(arguments.collect())
    }

    /// Takes the first argument.
    pub(crate) fn command(&mut self) -> Option<String> {
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }

    /// Takes `name`; says whether it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let count = self.0.len();
        self.0.retain(|argument| argument != name);
        self.0.len() < count
    }

    /// Takes `name VALUE`, once.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>> {
        let mut values = self.values(name)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => bail!("`{name}` is given twice"),
        }
    }

    /// Takes every `name VALUE`.
    pub(crate) fn values(&mut self, name: &str) -> Result<Vec<String>> {
        let mut values = Vec::new();
        while let Some(at) = self.0.iter().position(|argument| argument == name) {
            self.0.remove(at);
            let value = (at < self.0.len()).then(|| self.0.remove(at));
            values.push(
                value.filter(|v| !v.starts_with("--")).with_context(|| format!("`{name}` needs a value"))?,
            );
        }
        Ok(values)
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(extra) => bail!("unexpected argument `{extra}`; `cargo xtask help` lists what there is"),
        }
    }
}

#[cfg(test)]
mod tests;
