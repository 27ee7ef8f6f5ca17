//! Hard samples: kept while the centre is away, delivered once it is back.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::agent::{Agent, queued, settings};
use crate::bundles::{easy, hard};
use crate::updates::Scene;

fn id(picture: &[u8]) -> String {
    blake3::hash(picture).to_hex().to_string()
}

fn arrived(scene: &Scene, count: usize) {
    scene.agent.wait("samples at the centre", |_| scene.centre.state(|state| state.samples.len()) == count);
    scene.agent.wait("an empty outbox", |status| status.outbox == 0 && status.outbox_bytes == 0);
}

#[test]
fn only_what_the_model_is_unsure_of_is_sent_with_all_that_is_known_of_it() {
    let scene = Scene::new();
    let answer = scene.agent.ask(&[easy(0), hard(1), easy(1), hard(2)]).unwrap();
    assert_eq!(answer.parameters.get("hard_samples"), Some(&2.into()));
    assert_eq!(queued(&answer), 2);
    arrived(&scene, 2);
    scene.centre.state(|state| {
        let (sample, times) = &state.samples[&id(&hard(1))];
        assert_eq!(*times, 1);
        assert_eq!(STANDARD.decode(&sample.image).unwrap(), hard(1));
        assert_eq!(sample.version, 1);
        assert!(["a", "b"].contains(&sample.label.as_str()));
        assert!((0.5..0.8).contains(&sample.confidence), "{}", sample.confidence);
        assert!(1_600_000_000_000 < sample.at_ms);
        assert!(state.samples.contains_key(&id(&hard(2))));
    });
    let status = scene.agent.status();
    assert_eq!((status.hard_samples, status.samples_delivered, status.samples_dropped), (2, 2, 0));
}

#[test]
fn without_the_centre_answers_go_on_and_samples_wait() {
    let mut scene = Scene::new();
    scene.centre.stop();
    scene.agent.wait("the loss to be noticed", |status| !status.centre_reachable);
    for number in 0..100 {
        let answer = scene.agent.ask(&[easy(number), hard(number)]).unwrap();
        assert_eq!(queued(&answer), 1);
    }
    let status = scene.agent.status();
    assert_eq!((status.answers, status.offline_answers, status.outbox), (100, 100, 100));
    scene.centre.start_again();
    arrived(&scene, 100);
    scene.agent.ask(&[easy(0)]).unwrap();
    let status = scene.agent.status();
    assert_eq!((status.answers, status.offline_answers, status.samples_delivered), (101, 100, 100));
    scene.centre.state(|state| {
        assert!(state.samples.values().all(|(_, times)| *times == 1));
        assert!(state.reports.iter().any(|report| report.offline_answers == 100));
    });
}

#[test]
fn an_answer_lost_on_its_way_makes_the_delivery_come_again_not_the_samples() {
    let scene = Scene::new();
    scene.centre.state(|state| state.answers_to_lose = 3);
    scene.agent.ask(&(0..10).map(hard).collect::<Vec<_>>()).unwrap();
    arrived(&scene, 10);
    scene.centre.state(|state| {
        assert_eq!(state.answers_to_lose, 0);
        assert!(state.samples.values().any(|(_, times)| 1 < *times), "some came more than once");
        assert_eq!(state.samples.len(), 10, "and are still one each");
    });
}

#[test]
fn a_sample_the_centre_will_not_have_does_not_hold_up_the_others() {
    let mut scene = Scene::new();
    scene.centre.state(|state| state.unwelcome = Some(id(&hard(3))));
    scene.centre.stop();
    scene.agent.wait("the loss to be noticed", |status| !status.centre_reachable);
    scene.agent.ask(&(0..8).map(hard).collect::<Vec<_>>()).unwrap();
    scene.centre.start_again();
    arrived(&scene, 7);
    let status = scene.agent.status();
    assert_eq!((status.samples_delivered, status.samples_dropped), (7, 1));
}

#[test]
fn samples_survive_a_restart_and_the_same_picture_goes_once() {
    let mut scene = Scene::new();
    scene.centre.stop();
    scene.agent.wait("the loss to be noticed", |status| !status.centre_reachable);
    let samples: Vec<_> = (0..20).map(hard).collect();
    assert_eq!(queued(&scene.agent.ask(&samples).unwrap()), 20);
    assert_eq!(queued(&scene.agent.ask(&samples).unwrap()), 20, "known ones are queued");
    assert_eq!(scene.agent.status().outbox, 20);
    let Scene { key, mut centre, dir, agent, first } = scene;
    agent.stop().unwrap();
    let agent = Agent::start(settings(&centre.url(), dir.path(), &key));
    agent.wait("the outbox", |status| status.outbox == 20);
    centre.start_again();
    let scene = Scene { key, centre, dir, agent, first };
    arrived(&scene, 20);
    scene.centre.state(|state| assert!(state.samples.values().all(|(_, times)| *times == 1)));
}

#[test]
fn a_full_outbox_refuses_the_newest_and_says_so() {
    let scene = Scene::new();
    let Scene { key, mut centre, dir, agent, .. } = scene;
    agent.stop().unwrap();
    centre.stop();
    let mut few = settings(&centre.url(), dir.path(), &key);
    few.outbox_bytes_max = 2 << 20;
    let agent = Agent::start(few);
    agent.wait_for_version(1);
    // Trailing bytes after a picture's end are ignored by decoders; they make it large.
    let large = |number: u8| [hard(number), vec![number; 900 << 10]].concat();
    let kept: Vec<u64> = (0..4).map(|number| queued(&agent.ask(&[large(number)]).unwrap())).collect();
    assert_eq!(kept, [1, 1, 0, 0]);
    let status = agent.status();
    assert_eq!((status.outbox, status.samples_dropped, status.answers), (2, 2, 4));
    assert!(status.outbox_bytes <= 2 << 20);
}

#[test]
fn an_answer_does_not_wait_for_the_disk_longer_than_allowed() {
    let scene = Scene::new();
    let Scene { key, centre, dir, agent, .. } = scene;
    agent.stop().unwrap();
    let mut hasty = settings(&centre.url(), dir.path(), &key);
    hasty.queue_wait = Duration::ZERO;
    let agent = Agent::start(hasty);
    agent.wait_for_version(1);
    let answer = agent.ask(&[hard(1)]).unwrap();
    assert_eq!(answer.parameters.get("hard_samples"), Some(&1.into()));
    // Whatever the answer could say in no time, the sample is kept all the same.
    agent.wait("the sample", |_| centre.state(|state| state.samples.len()) == 1);
}
