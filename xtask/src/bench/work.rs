//! What is measured: names, units, and which direction is better.

use anyhow::{Result, bail};

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// A prompt of 512 tokens.
    Prompt,
    /// 128 tokens of one sequence, one after another.
    Generate,
    /// Tokens of sixteen sequences at once.
    Batch,
    /// Sixteen users with prompts of their own, over HTTP.
    Http,
    /// Sixteen users whose prompts begin with the same thousand tokens: time to the first token.
    Prefix,
    /// The longest pauses of running answers while new prompts arrive.
    Pauses,
    /// Memory of a server at the same context.
    Memory,
    /// From the start of the program to the first token over HTTP.
    Load,
}

impl Work {
    pub(crate) const ALL: [Work; 8] = [
        Work::Prompt,
        Work::Generate,
        Work::Batch,
        Work::Http,
        Work::Prefix,
        Work::Pauses,
        Work::Memory,
        Work::Load,
    ];

    /// Its name in `--only`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Work::Prompt => "pp",
            Work::Generate => "tg",
            Work::Batch => "batch",
            Work::Http => "http",
            Work::Prefix => "prefix",
            Work::Pauses => "itl",
            Work::Memory => "rss",
            Work::Load => "load",
        }
    }

    /// What it is, for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Work::Prompt => "prompt of 512 tokens",
            Work::Generate => "128 tokens, one sequence",
            Work::Batch => "decode, 16 sequences",
            Work::Http => "HTTP, 16 users, own prompts",
            Work::Prefix => "HTTP, 16 users, shared prefix: TTFT p50",
            Work::Pauses => "HTTP, running answers: pause p99",
            Work::Memory => "server's peak memory",
            Work::Load => "start to first token",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Work::Prompt | Work::Generate | Work::Batch | Work::Http => "tok/s",
            Work::Prefix | Work::Pauses | Work::Load => "ms",
            Work::Memory => "MiB",
        }
    }

    pub(crate) fn higher_is_better(self) -> bool {
        self.unit() == "tok/s"
    }

    /// Whether it needs a server.
    pub(crate) fn is_served(self) -> bool {
        Work::Http <= self
    }

    /// The works of a comma-separated list, all of them when there is none.
    pub(crate) fn parse_list(list: Option<&str>) -> Result<Vec<Work>> {
        let Some(list) = list else { return Ok(Work::ALL.to_vec()) };
        let mut works = Vec::new();
        for name in list.split(',') {
            match Work::ALL.into_iter().find(|work| work.name() == name.trim()) {
                Some(work) => works.push(work),
                None => bail!("`--only` knows {}, not `{name}`", Work::ALL.map(Work::name).join(", ")),
            }
        }
        Ok(works)
    }
}
