//! Versions coming in, and versions kept out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bms_bundle::SigningKey;

use crate::agent::{Agent, labels, settings};
use crate::bundles::{Made, easy, made, made_with};
use crate::centre::Centre;

/// A centre with one good version, and an agent that runs it.
pub(crate) struct Scene {
    pub(crate) key: SigningKey,
    pub(crate) centre: Centre,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) agent: Agent,
    pub(crate) first: Made,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let (key, centre, dir) = (SigningKey::generate(), Centre::start(), tempfile::tempdir().unwrap());
        let first = made(Some(&key), "small", 20.0);
        centre.deploy(1, &first);
        let agent = Agent::start(settings(&centre.url(), dir.path(), &key));
        agent.wait_for_version(1);
        Scene { key, centre, dir, agent, first }
    }

    /// Deploys a version that must not come in: the agent says why and goes on with the first.
    fn refuses(&self, number: u64, bad: &Made, code: &str) {
        self.centre.deploy(number, bad);
        let wanted = format!("version {number} does not run here ({code})");
        let status = self.agent.wait(&wanted, |status| {
            status.problem.as_ref().is_some_and(|problem| problem.starts_with(&wanted))
        });
        assert_eq!(status.version, Some(1), "{code}");
        assert_eq!(labels(&self.agent.ask(&[easy(0)]).unwrap()), ["a"], "{code}");
        // The centre hears of it.
        self.centre.state(|state| state.reports.clear());
        self.agent.wait("a report", |_| {
            self.centre.state(|state| {
                state
                    .reports
                    .iter()
                    .any(|report| report.problem.as_ref().is_some_and(|p| p.starts_with(&wanted)))
            })
        });
    }
}

#[test]
fn a_node_joins_pulls_verifies_and_answers() {
    let scene = Scene::new();
    let status = scene.agent.status();
    assert_eq!(status.digest.as_ref(), Some(&scene.first.digest));
    assert_eq!(status.signer.as_deref(), Some("tests"));
    assert_eq!(status.runtime.as_deref(), Some("rten"));
    assert!(status.centre_reachable);
    assert!(scene.agent.client.is_ready());
    assert!(scene.agent.client.is_model_ready("small").unwrap());
    let answer = scene.agent.ask(&[easy(0), easy(1), easy(2)]).unwrap();
    assert_eq!(labels(&answer), ["a", "b", "a"]);
    assert_eq!((answer.id.as_deref(), answer.model_version.as_deref()), (Some("q"), Some("1")));
    assert!(answer.parameters.is_empty(), "no sample was hard");
    let wanted = |report: &bms_wire::api::NodeReport| {
        report.model == "small"
            && report.version == Some(1)
            && report.answers == 1
            && report.problem.is_none()
    };
    scene.agent.wait("a report", |_| scene.centre.state(|state| state.reports.iter().any(wanted)));
    assert_eq!(scene.agent.status().offline_answers, 0);
}

#[test]
fn versions_are_exchanged_under_load_without_a_failed_answer_and_back_without_fetching() {
    let scene = Scene::new();
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut versions = Vec::new();
                    while !done.load(Ordering::Acquire) {
                        let answer = scene.agent.ask(&[easy(0), easy(1)]).unwrap();
                        assert_eq!(labels(&answer), ["a", "b"]);
                        asked.fetch_add(1, Ordering::Relaxed);
                        versions.push(answer.model_version.unwrap());
                    }
                    versions.dedup();
                    versions
                })
            })
            .collect();
        let enough = |count: usize| scene.agent.wait("answers", |_| count <= asked.load(Ordering::Relaxed));
        enough(20);
        scene.centre.deploy(2, &made(Some(&scene.key), "small", 30.0));
        scene.agent.wait_for_version(2);
        enough(asked.load(Ordering::Relaxed) + 20);
        let fetched = scene.centre.state(|state| state.fetched.len());
        scene.centre.deploy(1, &scene.first);
        scene.agent.wait_for_version(1);
        enough(asked.load(Ordering::Relaxed) + 20);
        assert_eq!(scene.centre.state(|state| state.fetched.len()), fetched, "the slot still held it");
        done.store(true, Ordering::Release);
        for client in clients {
            let versions = client.join().unwrap();
            assert!(versions.len() <= 3, "no version comes back once replaced: {versions:?}");
        }
    });
    assert_eq!(scene.agent.status().failures, 0);
}

#[test]
fn only_files_that_changed_are_fetched() {
    let scene = Scene::new();
    let second = made(Some(&scene.key), "small", 30.0);
    assert_eq!(scene.first.blake3("README.md"), second.blake3("README.md"));
    scene.centre.state(|state| state.fetched.clear());
    scene.centre.deploy(2, &second);
    scene.agent.wait_for_version(2);
    let fetched = scene.centre.state(|state| state.fetched.clone());
    assert!(!fetched.contains(&second.blake3("README.md")));
    assert_eq!(fetched.len(), 4, "model, notes, manifest, signature");
}

#[test]
fn what_the_gate_refuses_never_answers() {
    let scene = Scene::new();
    scene.refuses(2, &made(None, "small", 30.0), "signature_missing");
    scene.refuses(3, &made(Some(&SigningKey::generate()), "small", 30.0), "signer_untrusted");
    let mut tampered = made(Some(&scene.key), "small", 30.0);
    let notes = tampered.files.iter_mut().find(|(path, _)| path == "notes/scale.txt").unwrap();
    notes.1[0] ^= 1;
    scene.refuses(4, &tampered, "tampered");
    let mut malicious = made(Some(&scene.key), "small", 30.0);
    // A pickle that would run `os.system`.
    malicious.files.push(("weights.pkl".to_owned(), b"cos\nsystem\n(S'true'\ntR.".to_vec()));
    scene.refuses(5, &malicious, "malicious_content");
    // Refused once, it is not fetched again and again.
    let fetched = scene.centre.state(|state| state.fetched.len());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(scene.centre.state(|state| state.fetched.len()), fetched);
}

#[test]
fn a_trusted_signature_on_another_model_is_not_enough() {
    let scene = Scene::new();
    scene.refuses(2, &made(Some(&scene.key), "other", 30.0), "invalid_bundle");
}

#[test]
fn a_good_bundle_under_the_digest_of_another_is_not_taken_for_it() {
    let scene = Scene::new();
    let (asked, given) = (made(Some(&scene.key), "small", 30.0), made(Some(&scene.key), "small", 40.0));
    scene.refuses(2, &Made { files: given.files, digest: asked.digest }, "tampered");
}

#[test]
fn a_version_that_fails_its_test_never_answers_and_the_next_one_does() {
    let scene = Scene::new();
    // Well signed, but its answers are not numbers.
    scene.refuses(2, &made(Some(&scene.key), "small", f32::INFINITY), "internal");
    scene.centre.deploy(3, &made(Some(&scene.key), "small", 30.0));
    let status = scene.agent.wait_for_version(3);
    assert_eq!(scene.agent.wait("no problem", |status| status.problem.is_none()).version, status.version);
}

#[test]
fn a_centre_that_sends_other_bytes_or_names_bad_paths_is_not_believed() {
    let scene = Scene::new();
    let second = made(Some(&scene.key), "small", 30.0);
    scene.centre.state(|state| state.corrupted.push(second.blake3("model.onnx")));
    scene.refuses(2, &second, "tampered");
    // The network, not the version, was at fault: once it is right, the version comes in.
    scene.centre.state(|state| state.corrupted.clear());
    scene.agent.wait_for_version(2);

    let third = made(Some(&scene.key), "small", 40.0);
    // A name nobody else uses, one folder above the agent's.
    let name = format!("{}-escaped", scene.dir.path().file_name().unwrap().to_str().unwrap());
    let outside = scene.dir.path().with_file_name(&name);
    let absolute = outside.to_str().unwrap().to_owned();
    for path in [format!("../../../{name}"), absolute, format!("a/../../../../{name}")] {
        let mut escaping = Made { files: third.files.clone(), digest: third.digest.clone() };
        escaping.files.push((path, b"out".to_vec()));
        scene.centre.deploy(3, &escaping);
        let status = scene.agent.wait("a refusal", |status| {
            status.problem.as_ref().is_some_and(|problem| problem.contains("invalid_bundle"))
        });
        assert_eq!(status.version, Some(2));
        assert!(!outside.exists());
        scene.centre.deploy(2, &second);
        scene.agent.wait("no problem", |status| status.problem.is_none());
    }
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was_even_after_a_restart() {
    let Scene { key, centre, dir, agent, .. } = Scene::new();
    let second = made(Some(&key), "small", 30.0);
    // The last file in order breaks off: all others are complete.
    let broken = second.blake3("notes/scale.txt");
    centre.state(|state| {
        state.fetched.clear();
        state.cut_off.push(broken.clone());
    });
    centre.deploy(2, &second);
    agent.wait("the transfer to break off", |status| {
        status.problem.as_ref().is_some_and(|problem| problem.contains("notes/scale.txt"))
    });
    agent.stop().unwrap();
    centre.state(|state| state.cut_off.clear());
    let agent = Agent::start(settings(&centre.url(), dir.path(), &key));
    agent.wait_for_version(2);
    let fetched = centre.state(|state| state.fetched.clone());
    for (path, _) in &second.files {
        let count = fetched.iter().filter(|digest| **digest == second.blake3(path)).count();
        match path.as_str() {
            "notes/scale.txt" => assert!(2 <= count),
            "README.md" => assert_eq!(count, 0, "the installed version has it"),
            _ => assert_eq!(count, 1, "{path}"),
        }
    }
    // Nothing is left of the download.
    assert_eq!(std::fs::read_dir(dir.path().join("download")).unwrap().count(), 0);
}

#[test]
fn of_a_large_file_only_the_chunks_that_changed_are_fetched() {
    let Scene { key, centre, dir: _dir, agent, .. } = Scene::new();
    centre.state(|state| state.gives_chunks = true);
    // Words that repeat nowhere.
    let words: String = (0..300_000_u32).map(|n| format!("{:08x}\n", n.wrapping_mul(0x9E37_79B9))).collect();
    let first = made_with(Some(&key), "small", 30.0, &[("notes/large.txt", &words)]);
    centre.deploy(2, &first);
    agent.wait_for_version(2);
    let whole = centre.state(|state| std::mem::take(&mut state.chunk_bytes));
    assert!(words.len() <= whole, "{whole} bytes of chunks were fetched");

    let mut changed = words.clone();
    changed.replace_range(1_000_000..1_000_008, "changed!");
    let second = made_with(Some(&key), "small", 30.0, &[("notes/large.txt", &changed)]);
    centre.deploy(3, &second);
    agent.wait_for_version(3);
    let (delta, fetched) = centre.state(|state| (state.chunk_bytes, state.fetched.clone()));
    assert!((1..100_000).contains(&delta), "{delta} bytes of chunks were fetched");
    assert!(!fetched.contains(&second.blake3("notes/large.txt")), "and not the file");
}
