//! Loading, asking and unloading again and again: the server's memory comes back.

use std::process::Command;

use crate::harness::{Server, real_launch};

/// Set in the process in which the cycles run: others' tests would count as well.
const VARIABLE: &str = "BMS_CYCLES";
/// Cycles before memory is looked at: buffers, threads and connections get their usual size.
const WARM_UP: usize = 10;
const CYCLES: usize = 50;
const ADD: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#;

#[test]
fn fifty_cycles_of_loading_and_unloading_leave_the_servers_memory_as_it_was() {
    if std::env::var_os(VARIABLE).is_some() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(cycles());
        return;
    }
    let name = "cycles::fifty_cycles_of_loading_and_unloading_leave_the_servers_memory_as_it_was";
    let done = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stdout));
    assert!(said.contains("resident memory"), "it has run: {said}");
}

async fn cycles() {
    let server = Server::with_registry(|settings| settings.launch = real_launch()).await;
    server.publish(1, &[], &[]).await.unwrap();
    for _ in 0..WARM_UP {
        cycle(&server).await;
    }
    let before = resident();
    for _ in 0..CYCLES {
        cycle(&server).await;
    }
    let after = resident();
    eprintln!("resident memory: {before} KiB before, {after} KiB after {CYCLES} cycles");
    assert!(after as f64 <= before as f64 * 1.05, "{before} KiB have become {after} KiB");
    server.stop().await.0.unwrap();
}

async fn cycle(server: &Server) {
    let mut connection = server.connect().await;
    let (status, body) = connection.send("POST", "/v2/repository/models/m/load", "{}").await;
    assert_eq!(status, 200, "{body}");
    for _ in 0..10 {
        let (status, body) = connection.send("POST", "/v2/models/m/infer", ADD).await;
        assert_eq!(status, 200, "{body}");
    }
    let (status, body) = connection.send("POST", "/v2/repository/models/m/unload", "").await;
    assert_eq!(status, 200, "{body}");
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
}
