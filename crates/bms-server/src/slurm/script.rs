//! The script of a job, and how it is submitted.

use super::queue::Tag;
use super::settings::Settings;

/// Words in a worker's arguments that the job knows, and the variables of the script that hold them.
const PLACES: &[(&str, &str)] =
    &[("{job}", "\"$job\""), ("{host}", "\"$host\""), ("{seconds}", "\"$seconds\"")];

/// The script. What it is told by Slurm (TERM, by `--signal` or `scancel`) it tells the worker, and it ends as the worker does.
pub(super) fn script(settings: &Settings) -> String {
    let worker: Vec<String> = settings.worker.iter().map(|word| quoted(word)).collect();
    let walltime = settings.walltime.as_secs();
    format!(
        r#"#!/bin/sh
# A worker of the group {group}; its launcher has submitted this.
umask 077
job=$SLURM_JOB_ID
host=$(uname -n | cut -d. -f1 | tr '[:upper:]' '[:lower:]')
# Known from Slurm 22.05 on.
end=${{SLURM_JOB_END_TIME:-}}
case $end in
    '' | *[!0-9]*) seconds={walltime} ;;
    *) seconds=$((end - $(date +%s))) ;;
esac
worker=
trap '[ -n "$worker" ] && kill -TERM "$worker" 2>/dev/null' TERM
{worker} &
worker=$!
# A signal ends the wait, not the worker.
while :; do
    wait "$worker"
    code=$?
    kill -0 "$worker" 2>/dev/null || break
done
exit "$code"
"#,
        group = settings.group,
        worker = worker.join(" "),
    )
}

/// One word of the shell, with the places filled by variables.
fn quoted(word: &str) -> String {
    let plain = format!("'{}'", word.replace('\'', r"'\''"));
    PLACES.iter().fold(plain, |word, (place, variable)| word.replace(place, &format!("'{variable}'")))
}

/// Arguments of `sbatch`; the script comes over its standard input.
pub(super) fn arguments(settings: &Settings, tag: Tag) -> Vec<String> {
    // Slurm rounds up to minutes.
    let minutes = settings.walltime.as_secs() / 60;
    let output = match &settings.output {
        Some(folder) => format!("{}/%x-%j.out", folder.display()),
        None => "/dev/null".to_owned(),
    };
    let mut arguments = vec![
        "--parsable".to_owned(),
        format!("--job-name={}", tag.name(&settings.group)),
        "--comment=bms".to_owned(),
        format!("--time={minutes}"),
        "--nodes=1".to_owned(),
        "--ntasks=1".to_owned(),
        // The launcher submits the next one, so that it knows of it.
        "--no-requeue".to_owned(),
        "--dependency=singleton".to_owned(),
        format!("--signal=B:TERM@{}", settings.drain.as_secs()),
        format!("--output={output}"),
        "--chdir=/".to_owned(),
    ];
    let named = [("partition", &settings.partition), ("account", &settings.account), ("qos", &settings.qos)];
    arguments.extend(named.iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?))));
    arguments.extend(settings.memory_mib.map(|memory| format!("--mem={memory}M")));
    arguments.extend(settings.cores.map(|cores| format!("--cpus-per-task={cores}")));
    arguments.extend(settings.extra.iter().cloned());
    arguments
}

#[cfg(test)]
mod tests;
