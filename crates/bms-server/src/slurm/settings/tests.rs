use super::*;

fn settings() -> Settings {
    Settings::new("a", vec!["bms".to_owned()], Duration::from_secs(3600))
}

#[test]
fn times_fit_every_walltime() {
    for seconds in [60, 61, 120, 300, 3600, 86_400, limits::SLURM_WALLTIME_SECONDS_MAX] {
        let settings = Settings::new("a", vec!["bms".to_owned()], Duration::from_secs(seconds));
        settings.check().unwrap_or_else(|error| panic!("{seconds}: {error}"));
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Settings), says: &str) {
    let mut settings = settings();
    change(&mut settings);
    let error = settings.check().unwrap_err();
    assert!(error.code() == Code::InvalidRequest && error.to_string().contains(says), "{error}");
}

#[test]
fn what_cannot_work_is_refused() {
    for name in ["", "A", "a.b", "a b", "-a", "1a", &"a".repeat(41), "a\n"] {
        refused(|s| s.group = name.to_owned(), "no name of a group");
    }
    refused(|s| s.worker.clear(), "no command");
    refused(|s| s.walltime = Duration::from_secs(59), "a walltime is");
    refused(|s| s.replace_before = Duration::from_secs(3601), "has to lie between");
    refused(|s| s.replace_before = Duration::from_secs(10), "has to lie between");
    refused(|s| s.drain = Duration::ZERO, "a drain takes");
    refused(|s| s.worker.push("a\nb".to_owned()), "control characters");
    refused(|s| s.partition = Some("a\nb".to_owned()), "control characters");
    for option in ["--job-name=x", "-Jx", "-J", "--array=1-3", "--requeue", "--wrap=rm", "-N2"] {
        refused(|s| s.extra.push(option.to_owned()), "launcher's own");
    }
    refused(|s| s.extra.push("script.sh".to_owned()), "no option");
    refused(|s| s.environment.push(("A=B".to_owned(), String::new())), "no variable");
}

#[test]
fn other_options_of_sbatch_pass() {
    let mut settings = settings();
    settings.extra =
        ["--constraint=avx512", "--exclusive", "-C avx2", "--nice=5"].map(str::to_owned).to_vec();
    settings.check().unwrap();
}
