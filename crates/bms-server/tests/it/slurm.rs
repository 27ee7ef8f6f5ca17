//! Workers on a real Slurm: submitted, replaced, drained, lost with their node, and found again.
//!
//! `cargo xtask services` starts it: a controller and three nodes on this machine. Tests that end its daemons would disturb
//! each other, so one runs at a time, in whatever process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bms_server::slurm::{Event, Settings, run};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long anything may take. What fails on a node is noticed after half a minute.
const WITHIN: Duration = Duration::from_secs(150);

/// The cluster, for one test alone.
struct Cluster {
    root: PathBuf,
    group: String,
    /// What workers write: a line when they begin, a line when they are told to end.
    notes: PathBuf,
    _lock: File,
}

fn cluster(group: &str) -> Option<Cluster> {
    let Some(root) = std::env::var_os("BMS_SLURM").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "BMS_SLURM must name a running Slurm's folder in CI");
        eprintln!(
            "SKIPPED: no Slurm; `cargo xtask services start slurm`, then `eval \"$(cargo xtask services env)\"`"
        );
        return None;
    };
    let lock = File::create(root.join("tests.lock")).unwrap();
    lock.lock().unwrap();
    let group = format!("{group}-{}", std::process::id());
    let notes = root.join("out").join(&group);
    File::create(&notes).unwrap();
    let cluster = Cluster { root, group, notes, _lock: lock };
    // What a test that failed has left.
    cluster.slurm("scancel", &["--me"]);
    for node in ["n1", "n2", "n3"] {
        // Refused for one that is well.
        cluster.slurm("scontrol", &["update", &format!("nodename={node}"), "state=resume"]);
    }
    cluster.wait("all nodes are idle", || {
        cluster.slurm("sinfo", &["-h", "-N", "-p", "batch", "-o", "%T"]).lines().all(|s| s == "idle")
    });
    Some(cluster)
}

impl Cluster {
    /// A worker that notes what happens to it, with `end` for what it does when told to.
    fn settings(&self, end: &str) -> Settings {
        let notes = self.notes.display();
        let worker = format!(
            "echo {{job}} begins >> {notes}; trap 'echo {{job}} is told >> {notes}; {end}' TERM; while :; do sleep 0.1; done"
        );
        let worker = ["sh", "-c", &worker].map(str::to_owned).to_vec();
        let mut settings = Settings::new(&self.group, worker, Duration::from_secs(1200));
        settings.drain = Duration::from_secs(5);
        settings.settle = Duration::from_secs(2);
        settings.poll = Duration::from_millis(300);
        settings.memory_mib = Some(100);
        settings
    }

    #[track_caller]
    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            let queue = self.slurm("squeue", &["--states=all", "-o", "%i %j %T %R %N"]);
            assert!(begin.elapsed() < WITHIN, "not within {WITHIN:?}: {what}\n{queue}\n{}", self.noted());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn noted(&self) -> String {
        std::fs::read_to_string(&self.notes).unwrap()
    }

    /// Whether a worker noted this.
    fn has(&self, job: u64, what: &str) -> bool {
        self.noted().lines().any(|line| line == format!("{job} {what}"))
    }

    /// What one of Slurm's programs prints; nothing when it fails.
    fn slurm(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new("timeout").arg("20").arg(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Jobs of the group in a state: number, name and node.
    fn jobs(&self, states: &str) -> Vec<(u64, String, String)> {
        let listed = self.slurm("squeue", &["-h", "-t", states, "-o", "%i|%j|%N"]);
        let mut jobs: Vec<_> = listed
            .lines()
            .filter_map(|line| {
                let mut fields = line.split('|');
                let (id, name, node) = (fields.next()?.parse().ok()?, fields.next()?, fields.next()?);
                name.starts_with(&format!("bms.{}.", self.group))
                    .then(|| (id, name.to_owned(), node.to_owned()))
            })
            .collect();
        jobs.sort();
        jobs
    }

    /// The numbers of those that run.
    fn running(&self) -> Vec<u64> {
        self.jobs("running").into_iter().map(|(id, _, _)| id).collect()
    }

    /// Waits until so many run and their workers have begun.
    #[track_caller]
    fn wait_running(&self, count: usize) -> Vec<u64> {
        self.wait(&format!("{count} workers run"), || {
            let running = self.running();
            running.len() == count && running.iter().all(|id| self.has(*id, "begins"))
        });
        self.running()
    }

    /// Ends a daemon and keeps it away until the value is dropped.
    fn without(&self, daemon: &str, signal: &str) -> Held {
        let hold = self.root.join("hold").join(daemon);
        File::create(&hold).unwrap();
        let pid = std::fs::read_to_string(self.root.join("run").join(format!("{daemon}.pid"))).unwrap();
        assert!(Command::new("kill").args(["-s", signal, pid.trim()]).status().unwrap().success());
        Held(hold)
    }
}

/// A daemon that is kept away.
struct Held(PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A launcher that runs.
struct Launcher {
    wanted: watch::Sender<u32>,
    told: Arc<Mutex<Vec<String>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<bms_wire::Result<()>>,
}

impl Launcher {
    fn start(settings: Settings, count: u32) -> Launcher {
        let (wanted, wants) = watch::channel(count);
        let (stop, stopped) = oneshot::channel::<()>();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            run(
                settings,
                wants,
                None,
                move |event: &Event| tell.lock().unwrap().push(event.to_string()),
                shutdown,
            )
            .await
        });
        Launcher { wanted, told, stop, task }
    }

    fn said(&self, words: &str) -> bool {
        self.told.lock().unwrap().iter().any(|line| line.contains(words))
    }

    /// Wants none any more, and waits until it has ended by itself.
    async fn finish(self) -> Vec<String> {
        self.wanted.send(0).unwrap();
        tokio::time::timeout(WITHIN, self.task).await.expect("it ends once none is left").unwrap().unwrap();
        drop(self.stop);
        Arc::try_unwrap(self.told).unwrap().into_inner().unwrap()
    }

    /// Ends it; its jobs stay.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// What is blocking in a test does not hold up the launcher's thread.
macro_rules! blocking {
    ($body:expr) => {
        tokio::task::block_in_place(|| $body)
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_worker_is_there_before_the_last_one_drains() {
    let Some(cluster) = cluster("early") else { return };
    let mut settings = cluster.settings("exit 0");
    settings.walltime = Duration::from_secs(60);
    settings.replace_before = Duration::from_secs(50);
    let launcher = Launcher::start(settings, 2);
    let first = blocking!(cluster.wait_running(2));
    // Ten seconds later both have successors, and are told once those have run for two.
    blocking!(
        cluster.wait("the first two have drained", || first.iter().all(|id| !cluster.running().contains(id)))
    );
    let second = blocking!(cluster.wait_running(2));
    let notes = cluster.noted();
    let at = |id: u64, what: &str| {
        let line = format!("{id} {what}");
        notes.lines().position(|other| other == line).unwrap_or_else(|| panic!("`{line}` in:\n{notes}"))
    };
    for id in &first {
        let name = |id: u64| cluster.jobs("all").into_iter().find(|job| job.0 == id).unwrap().1;
        let seat = name(*id).strip_suffix(".0").unwrap().to_owned();
        let heir = second.iter().find(|heir| name(**heir) == format!("{seat}.1")).unwrap();
        assert!(at(*heir, "begins") < at(*id, "is told"), "{notes}");
    }
    let told = launcher.finish().await;
    assert!(told.iter().any(|line| line.contains("drains: the next one is ready")), "{told:#?}");
    assert!(
        told.iter().any(|line| line.contains("COMPLETED on ") && line.ends_with("its worker ended as told")),
        "{told:#?}"
    );
    assert_eq!(cluster.running(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_drain_and_those_that_do_not_are_cancelled() {
    let Some(cluster) = cluster("fewer") else { return };
    // It notes that it was told, and goes on.
    let launcher = Launcher::start(cluster.settings("true"), 3);
    let all = blocking!(cluster.wait_running(3));
    launcher.wanted.send(1).unwrap();
    let kept = blocking!(cluster.wait_running(1));
    for id in all.iter().filter(|id| !kept.contains(id)) {
        assert!(cluster.has(*id, "is told"), "{}", cluster.noted());
    }
    assert!(!cluster.has(kept[0], "is told"));
    launcher.wanted.send(2).unwrap();
    let grown = blocking!(cluster.wait_running(2));
    assert!(grown.contains(&kept[0]) && !all.contains(grown.last().unwrap()), "{grown:?} after {all:?}");
    let told = launcher.finish().await;
    assert!(told.iter().any(|line| line.contains("it did not drain in time")), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_cancelled_by_somebody_is_replaced_and_jobs_of_others_are_left_alone() {
    let Some(cluster) = cluster("others") else { return };
    let group = &cluster.group;
    let odd = [
        format!("bms.{group}.0.0 "),
        format!("bms.{group}.00.0"),
        format!("bms.{group}x.0.0"),
        format!("x\nbms.{group}.0.0"),
        format!("\"}}],\"jobs\":[bms.{group}.0.0"),
        "é\u{1F600}'; rm".to_owned(),
    ];
    let theirs: Vec<String> = odd
        .iter()
        .map(|name| {
            let name = format!("--job-name={name}");
            let submit = ["--parsable", &name, "--mem=10M", "--output=/dev/null", "--wrap", "sleep 600"];
            cluster.slurm("sbatch", &submit).trim().to_owned()
        })
        .collect();
    assert!(theirs.iter().all(|id| id.parse::<u64>().is_ok()), "{theirs:?}");
    let launcher = Launcher::start(cluster.settings("exit 0"), 1);
    let launched = |_: &()| -> Vec<u64> {
        let told = launcher.told.lock().unwrap();
        told.iter()
            .filter_map(|line| line.strip_prefix("submitted job ")?.split(',').next()?.parse().ok())
            .collect()
    };
    blocking!(
        cluster
            .wait("one is submitted and runs", || launched(&()).iter().any(|id| cluster.has(*id, "begins")))
    );
    let first = launched(&())[0];
    cluster.slurm("scancel", &[&first.to_string()]);
    blocking!(
        cluster.wait("another runs", || launched(&()).iter().skip(1).any(|id| cluster.has(*id, "begins")))
    );
    assert_eq!(launched(&()).len(), 2);
    assert!(launcher.said("CANCELLED"));
    launcher.finish().await;
    for id in &theirs {
        let state = cluster.slurm("squeue", &["-h", "-j", id, "-o", "%T"]);
        assert_eq!(state.trim(), "RUNNING", "job {id} of somebody else");
        cluster.slurm("scancel", &[id]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launcher_that_starts_again_finds_its_jobs_and_two_submit_none_twice() {
    let Some(cluster) = cluster("again") else { return };
    let launcher = Launcher::start(cluster.settings("exit 0"), 2);
    let first = blocking!(cluster.wait_running(2));
    // As a kill does: no word to anybody.
    launcher.task.abort();
    let one = Launcher::start(cluster.settings("exit 0"), 3);
    let two = Launcher::start(cluster.settings("exit 0"), 3);
    blocking!(cluster.wait("three run and none waits", || {
        cluster.jobs("pending").is_empty()
            && cluster.running().len() == 3
            && one.said("RUNNING")
            && two.said("RUNNING")
    }));
    let now = cluster.running();
    assert!(first.iter().all(|id| now.contains(id)), "{now:?} after {first:?}");
    let mut names: Vec<String> = cluster.jobs("running").into_iter().map(|job| job.1).collect();
    names.dedup();
    assert_eq!(names.len(), 3);
    // One job of a name at most has ever begun.
    assert_eq!(
        cluster.noted().lines().filter(|line| line.ends_with("begins")).count(),
        3,
        "{}",
        cluster.noted()
    );
    one.stop().await;
    assert_eq!(cluster.running(), now, "what ends leaves its jobs");
    two.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_away_costs_nothing() {
    // It ends in order, since one that is killed may itself lose what it was told in its last seconds.
    let Some(cluster) = cluster("away") else { return };
    let launcher = Launcher::start(cluster.settings("exit 0"), 1);
    let first = blocking!(cluster.wait_running(1));
    let held = cluster.without("slurmctld", "TERM");
    blocking!(cluster.wait("the launcher notices", || launcher.said("no answer, again in")));
    launcher.wanted.send(2).unwrap();
    assert!(!cluster.has(first[0], "is told"));
    drop(held);
    let now = blocking!(cluster.wait_running(2));
    assert!(now.contains(&first[0]), "{now:?} after {first:?}");
    assert!(launcher.said("Slurm answers again"));
    assert_eq!(
        cluster.noted().lines().filter(|line| line.ends_with("begins")).count(),
        2,
        "{}",
        cluster.noted()
    );
    launcher.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_node_fails_is_replaced_elsewhere() {
    let Some(cluster) = cluster("node") else { return };
    let launcher = Launcher::start(cluster.settings("exit 0"), 1);
    blocking!(cluster.wait_running(1));
    let (lost, _, node) = cluster.jobs("running").remove(0);
    let held = cluster.without(&format!("slurmd.{node}"), "KILL");
    blocking!(cluster.wait("another runs", || cluster.running().iter().any(|id| *id != lost)));
    assert!(launcher.said("NODE_FAIL"), "{:#?}", launcher.told.lock().unwrap());
    assert!(launcher.said("its node failed"));
    assert!(cluster.jobs("running").iter().all(|job| job.2 != node));
    drop(held);
    launcher.finish().await;
    blocking!(cluster.wait("the node is back", || {
        cluster.slurm("sinfo", &["-h", "-N", "-n", &node, "-p", "batch", "-o", "%T"]).trim() == "idle"
    }));
    // The worker on the lost node was not told, as nothing could tell it.
    end_left_behind(&cluster.notes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_has_to_make_room_is_replaced() {
    let Some(cluster) = cluster("room") else { return };
    let launcher = Launcher::start(cluster.settings("exit 0"), 1);
    blocking!(cluster.wait_running(1));
    let (lost, _, node) = cluster.jobs("running").remove(0);
    let node = format!("--nodelist={node}");
    let submit = [
        "--parsable",
        "-p",
        "urgent",
        &node,
        "-N1",
        "-n4",
        "--mem=7500M",
        "--output=/dev/null",
        "--wrap",
        "sleep 600",
    ];
    let urgent = cluster.slurm("sbatch", &submit);
    blocking!(cluster.wait("another runs", || cluster.running().iter().any(|id| *id != lost)));
    assert!(launcher.said("it had to make room"), "{:#?}", launcher.told.lock().unwrap());
    cluster.slurm("scancel", &[urgent.trim()]);
    launcher.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_slurm_refuses_is_told_in_its_words_and_what_waits_says_why() {
    let Some(cluster) = cluster("refused") else { return };
    let mut settings = cluster.settings("exit 0");
    settings.memory_mib = Some(9_999_999);
    let launcher = Launcher::start(settings, 1);
    blocking!(cluster.wait("it is refused", || launcher.said("Slurm refused to submit")));
    assert!(
        launcher.said("Memory specification can not be satisfied"),
        "{:#?}",
        launcher.told.lock().unwrap()
    );
    launcher.finish().await;
    let mut settings = cluster.settings("exit 0");
    settings.extra = vec!["--hold".to_owned()];
    settings.group = format!("{}h", cluster.group);
    let launcher = Launcher::start(settings, 1);
    blocking!(cluster.wait("it waits", || launcher.said("PENDING: somebody holds it")));
    launcher.finish().await;
}

#[tokio::test]
async fn without_slurm_the_launcher_says_so() {
    let mut settings = Settings::new("none", vec!["true".to_owned()], Duration::from_secs(60));
    settings.programs = Some("/nonexistent".into());
    let error = run(settings, watch::channel(1).1, None, |_| {}, std::future::pending()).await.unwrap_err();
    assert_eq!(error.code(), bms_wire::Code::NotFound);
}

/// Ends workers that Slurm gave up together with their node.
fn end_left_behind(notes: &Path) {
    let ours = notes.to_string_lossy().into_owned();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let told = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&told).contains(&ours) {
            let pid = process.file_name();
            let _ = Command::new("kill").args(["-s", "KILL"]).arg(pid).status();
        }
    }
}
