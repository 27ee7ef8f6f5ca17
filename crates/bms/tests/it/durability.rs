//! A server that loses its power loses nothing it has acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::program::{Server, bms, ok, shared, zeros};

#[test]
fn what_was_registered_is_there_after_kill_9() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let server = Server::start(&shared.home(), &["up", "--data", data]);
    let url = server.client.base().to_owned();
    for bundle in ["fp32", "int8"] {
        ok(bms(&shared.home()).arg("push").arg(shared.at(bundle)).args([
            "--alias",
            "production",
            "--server",
            &url,
        ]));
    }
    ok(bms(&shared.home()).args(["deploy", "digits", "--server", &url]));
    server.wait_for("digits");
    let before = server.client.models().unwrap();
    server.kill();

    let server = Server::start(&shared.home(), &["up", "--data", data]);
    assert_eq!(server.client.models().unwrap(), before);
    assert_eq!(before[0].versions.len(), 2);
    server.wait_for("digits");
    server.client.infer("digits", &zeros()).unwrap();
    assert!(0 < server.client.verify_audit().unwrap());
}

#[test]
fn a_killed_slot_loses_no_request() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&shared.home(), &["up", "--data", dir.path().to_str().unwrap()]);
    let url = server.client.base().to_owned();
    ok(bms(&shared.home()).arg("push").arg(shared.at("int8")).args([
        "--alias",
        "production",
        "--server",
        &url,
    ]));
    ok(bms(&shared.home()).args(["deploy", "digits", "--server", &url]));
    server.wait_for("digits");
    let (stop, answers) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    server.client.infer("digits", &zeros()).expect("no request is lost");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut killed = Vec::new();
        while killed.len() < 3 {
            let slots = server.client.slots().unwrap();
            match slots[0]
                .pid
                .filter(|pid| !killed.contains(pid) && answers.load(Ordering::Relaxed) > 50 * killed.len())
            {
                Some(pid) => {
                    let kill =
                        std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
                    assert!(kill.success());
                    killed.push(pid);
                }
                None => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        }
        let at = answers.load(Ordering::Relaxed);
        while answers.load(Ordering::Relaxed) < at + 50 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.client.slots().unwrap()[0].restarts, 3);
}
