//! `kill -9` of a node at every step of bringing a version in.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bms_bundle::SigningKey;

use crate::agent::{Agent, WAIT, labels, settings};
use crate::bundles::{Made, easy, made_with};
use crate::centre::{Centre, Kill};

/// Names the node's folder and the centre to the process that is to be killed.
const CHILD: &str = "BMS_EDGE_TEST_KILLED_IN";
const CENTRE: &str = "BMS_EDGE_TEST_CENTRE";
/// After the last answer files are put in place: times at which that is interrupted.
const LATER_MS: [u64; 8] = [0, 1, 2, 4, 8, 16, 32, 64];

/// Versions share all but their weights and one line of a large file.
fn version(key: &SigningKey, number: u64) -> Made {
    let mut words: String =
        (0..200_000_u32).map(|n| format!("{:08x}\n", n.wrapping_mul(0x9E37_79B9))).collect();
    words.replace_range(900_000..900_008, &format!("{number:08}"));
    made_with(Some(key), "small", 20.0 + number as f32, &[("notes/large.txt", &words)])
}

/// A node of its own, until it is killed.
fn live_until_killed(dir: &Path) {
    let key = SigningKey::load(&dir.join("key.pem")).unwrap();
    let _agent = Agent::start(settings(&std::env::var(CENTRE).unwrap(), &dir.join("node"), &key));
    loop {
        std::thread::park();
    }
}

fn node(dir: &Path, centre: &Centre) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::a_node_may_be_killed_at_every_step_of_a_pull", "--nocapture"])
        .env(CHILD, dir)
        .env(CENTRE, centre.url())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_node_may_be_killed_at_every_step_of_a_pull() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return live_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate();
    key.save(&dir.path().join("key.pem")).unwrap();
    let mut scene = Killed { dir, key, centre: Centre::start(), number: 1 };
    scene.centre.state(|state| state.gives_chunks = true);
    scene.centre.deploy(1, &version(&scene.key, 1));
    Agent::start(scene.settings()).wait_for_version(1);

    let mut steps = 0;
    for answered in [false, true] {
        steps = 0;
        while scene.is_killed_at(Kill { at: steps + 1, answered, delay: Duration::ZERO, pid: 0 }) {
            steps += 1;
        }
        assert!(5 < steps, "a pull has {steps} steps only");
    }
    for delay in LATER_MS.map(Duration::from_millis) {
        scene.is_killed_at(Kill { at: steps, answered: true, delay, pid: 0 });
    }
    println!("{steps} requests of a pull, {} rounds", scene.number - 1);
}

struct Killed {
    dir: tempfile::TempDir,
    key: SigningKey,
    centre: Centre,
    /// Of the version that the node has.
    number: u64,
}

impl Killed {
    fn settings(&self) -> bms_edge::Settings {
        settings(&self.centre.url(), &self.dir.path().join("node"), &self.key)
    }

    /// Deploys the next version to a node that is killed on the way, looks at what is left of it without the centre, and lets it
    /// go on. Whether it was killed, or had the version before it came to that.
    fn is_killed_at(&mut self, kill: Kill) -> bool {
        let what = format!("{kill:?}");
        let next = self.number + 1;
        let mut child = node(self.dir.path(), &self.centre);
        self.centre.state(|state| {
            state.pulls = 0;
            state.kill = Some(Kill { pid: child.id(), ..kill });
            state.reports.clear();
        });
        self.centre.deploy(next, &version(&self.key, next));
        let begin = Instant::now();
        let has_it =
            || self.centre.state(|state| state.reports.iter().any(|report| report.version == Some(next)));
        while child.try_wait().unwrap().is_none() && !has_it() {
            assert!(begin.elapsed() < WAIT, "{what}: neither killed nor done");
            std::thread::sleep(Duration::from_millis(5));
        }
        // One that is to be killed later may have said that it is done before.
        let was_killed = self.centre.state(|state| state.kill.take().is_none());
        child.kill().unwrap();
        child.wait().unwrap();

        self.centre.stop();
        let agent = Agent::start(self.settings());
        let status = agent.wait("a version", |status| status.version.is_some());
        assert!([Some(self.number), Some(next)].contains(&status.version), "{what}: {status:?}");
        assert_eq!(status.problem, None, "{what}");
        assert_eq!(labels(&agent.ask(&[easy(0), easy(1)]).unwrap()), ["a", "b"], "{what}");
        self.centre.start_again();
        agent.wait(&what, |status| status.version == Some(next) && status.problem.is_none());
        agent.stop().unwrap();
        let left: Vec<_> =
            std::fs::read_dir(self.dir.path().join("node/download")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{what}: {left:?}");
        self.number = next;
        was_killed
    }
}
