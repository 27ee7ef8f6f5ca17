//! Slurm's programs, run one at a time.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bms_wire::{Code, Error, Result, limits};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// How long one of them may take. They wait for a controller that is away, for longer than is of use here.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// What of this program's environment they get: jobs inherit it, and it may hold secrets.
const PASSED_ON: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "LD_LIBRARY_PATH", "SLURM_CONF", "SLURM_CLUSTERS"];
/// Bytes of an error that are told.
const ERROR_BYTES_MAX: u64 = 4096;

/// Where they are.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    folder: Option<PathBuf>,
}

impl Programs {
    pub(super) fn new(folder: Option<PathBuf>) -> Programs {
        Programs { folder }
    }

    /// Runs one and gives what it printed.
    ///
    /// # Errors
    /// [`Code::NotFound`] when it is not installed, [`Code::Unavailable`] when the controller does not answer,
    /// [`Code::InvalidRequest`] with Slurm's own words when it refuses.
    pub(super) async fn run(
        &self,
        name: &'static str,
        arguments: &[String],
        input: &str,
        environment: &[(String, String)],
    ) -> Result<Vec<u8>> {
        let program = self.folder.as_ref().map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
        let mut command = Command::new(&program);
        command.args(arguments).env_clear().env("LC_ALL", "C").envs(environment.iter().cloned());
        command.envs(PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(Code::NotFound, format!("Slurm's `{}` is not on this machine", program.display()))
                    .hint("Run the launcher where jobs are submitted, or say with --programs where Slurm's programs lie.")
            }
            _ => Error::new(Code::Io, format!("failed to start `{name}`: {e}")).because(e),
        })?;
        let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let talk = async {
            let give = async {
                if let Some(stdin) = &mut stdin {
                    // One that ends early says why itself.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
                drop(stdin);
            };
            let ((), out, err) = tokio::join!(
                give,
                all(stdout, limits::SLURM_LISTING_BYTES_MAX),
                all(stderr, ERROR_BYTES_MAX)
            );
            (child.wait().await, out, err)
        };
        let (status, out, err) = tokio::time::timeout(ANSWERS_WITHIN, talk).await.map_err(|_| {
            let what = format!("`{name}` did not answer within {} s", ANSWERS_WITHIN.as_secs());
            Error::new(Code::Unavailable, what)
                .hint("Its controller may be away; nothing is changed until it answers.")
        })?;
        let failed =
            |e: std::io::Error| Error::new(Code::Io, format!("failed to hear `{name}`: {e}")).because(e);
        let (status, out, err) = (status.map_err(failed)?, out.map_err(failed)?, err.map_err(failed)?);
        if limits::SLURM_LISTING_BYTES_MAX <= out.len() as u64 {
            return Err(Error::new(Code::TooLarge, format!("`{name}` prints too much")));
        }
        match status.success() {
            true => Ok(out),
            false => Err(refusal(name, &String::from_utf8_lossy(&err))),
        }
    }
}

/// Reads to the end, and keeps no more than `most` bytes.
async fn all(from: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return Ok(kept) };
    (&mut from).take(most).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(kept)
}

/// Slurm's words as an error. That its controller is away is another matter than a refusal.
fn refusal(name: &str, said: &str) -> Error {
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let away = [
        "Unable to contact slurm controller",
        "Connection refused",
        "Socket timed out",
        "Zero Bytes were transmitted",
    ];
    let code = match away.iter().any(|sign| words.contains(sign)) {
        true => Code::Unavailable,
        false => Code::InvalidRequest,
    };
    Error::new(code, format!("{name}: {words}"))
}
