use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

fn settings(worker: &[&str]) -> Settings {
    Settings::new("a", worker.iter().map(|word| (*word).to_owned()).collect(), Duration::from_secs(3600))
}

/// Runs a job's script as Slurm does.
fn run(worker: &[&str], end: Option<&str>) -> std::process::Child {
    let mut shell = Command::new("sh");
    shell.arg("-s").env("SLURM_JOB_ID", "42").env_remove("SLURM_JOB_END_TIME");
    if let Some(end) = end {
        shell.env("SLURM_JOB_END_TIME", end);
    }
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script(&settings(worker)).as_bytes()).unwrap();
    child
}

#[test]
fn words_reach_the_worker_as_they_are_and_places_are_filled() {
    let odd =
        ["printf", "%s\\n", "a b", "it's", "$HOME `id` $(id)", "\"\\", "*", "{job}-{seconds}", "'{job}'"];
    let output = run(&odd, None).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = ["a b", "it's", "$HOME `id` $(id)", "\"\\", "*", "42-3600", "'42'"];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn seconds_are_those_left_of_the_job() {
    let end = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 900;
    let output = run(&["echo", "{seconds}"], Some(&end.to_string())).wait_with_output().unwrap();
    let left: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!((800..=900).contains(&left), "{left}");
    let output = run(&["echo", "{seconds}"], Some("soon; id")).wait_with_output().unwrap();
    assert_eq!(output.stdout, b"3600\n");
}

#[test]
fn the_job_ends_as_its_worker_does() {
    assert_eq!(run(&["sh", "-c", "exit 7"], None).wait().unwrap().code(), Some(7));
    // The worker is told, takes its time, and its own code counts.
    let worker = ["sh", "-c", "trap 'sleep 0.3; exit 5' TERM; echo ready; while :; do sleep 0.1; done"];
    let mut child = run(&worker, None);
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn sbatch_is_told_everything() {
    let mut settings = settings(&["bms"]);
    settings.partition = Some("batch".to_owned());
    settings.memory_mib = Some(8192);
    settings.cores = Some(4);
    settings.extra = vec!["--nice=5".to_owned()];
    let arguments = arguments(&settings, Tag { seat: 2, generation: 9 });
    for expected in [
        "--job-name=bms.a.2.9",
        "--time=60",
        "--dependency=singleton",
        "--no-requeue",
        "--signal=B:TERM@60",
        "--partition=batch",
        "--mem=8192M",
        "--cpus-per-task=4",
        "--nice=5",
        "--output=/dev/null",
    ] {
        assert!(arguments.iter().any(|argument| argument == expected), "{expected} in {arguments:?}");
    }
}
