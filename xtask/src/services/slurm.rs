//! A real Slurm on this machine alone: a controller and several nodes, without cgroups, accounting or systemd.
//!
//! One shell script keeps the daemons: killed ones come back, and the script is the process that is noted, so that a service
//! whose daemons were replaced still counts as running. A file `hold/NAME` keeps a daemon away, for tests of failures.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::place::free_port;
use super::{Place, Service, Started};
use crate::debian::{self, Need};
use crate::process;

pub(super) const SERVICE: Service = Service { name: "slurm", start };

const DAEMONS: Need = Need {
    purpose: "the tests of the launcher on Slurm",
    probe: &[
        "sh",
        "-c",
        "command -v slurmctld && command -v slurmd && command -v sbatch && command -v munged",
    ],
    packages: &["slurmctld", "slurmd", "slurm-client", "munge", "slurm-wlm-basic-plugins"],
};
const KEEP: &str = include_str!("slurm_keep.sh");
/// Nodes, all on this machine; each says it has four processors and 8 GB, whatever there is.
const NODES: usize = 3;
/// How long it may take until all nodes are idle.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const MUNGE_KEY_BYTES: usize = 1024;

fn start(place: &Place) -> Result<Started> {
    debian::provide(&[&DAEMONS])?;
    let root = folder(place);
    end_leftovers(&root)?;
    prepare(&root)?;
    let keep = place.dir().join("keep.sh");
    fs::write(&keep, KEEP)?;
    let conf = root.join("etc/slurm.conf");
    let pid =
        place.spawn(Command::new("sh").arg(&keep).arg(&root).arg(NODES.to_string()).current_dir("/"))?;
    let value = |path: &Path| path.to_string_lossy().into_owned();
    let started = Started {
        pids: vec![pid],
        environment: vec![("BMS_SLURM".to_owned(), value(&root)), ("SLURM_CONF".to_owned(), value(&conf))],
    };
    // Noted before it is ready, so that one that never gets ready can be stopped.
    place.keep(&started)?;
    let begin = Instant::now();
    while idle_nodes(&conf) < NODES {
        if STARTS_WITHIN < begin.elapsed() {
            let said = log_end(&root.join("log/slurmctld.log"));
            place.stop()?;
            bail!("Slurm's nodes were not idle within {} s:\n{said}", STARTS_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(started)
}

/// Where its state lies: not in the checkout, whose path may be longer than a socket's name can be, and which jobs of other
/// users could not enter.
fn folder(place: &Place) -> PathBuf {
    let digest = Sha256::digest(place.dir().as_os_str().as_encoded_bytes());
    std::env::temp_dir().join(format!("bms-slurm-{}", &hex::encode(digest)[..12]))
}

/// Ends daemons whose keeper was killed: those of the files in `run` that were told the same configuration.
fn end_leftovers(root: &Path) -> Result<()> {
    let Ok(files) = fs::read_dir(root.join("run")) else { return Ok(()) };
    // Parts of the keeper outlive it, and would start again what is ended.
    fs::write(root.join("ending"), "")?;
    let ours = |pid: &str| {
        let told = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&told).contains(&*root.to_string_lossy())
    };
    let begin = Instant::now();
    let pids: Vec<String> = files
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok())
        .map(|pid| pid.trim().to_owned())
        .collect();
    for signal in ["TERM", "KILL"] {
        for pid in pids.iter().filter(|pid| ours(pid)) {
            // One that ended meanwhile is what is wanted.
            let _ = process::output(Command::new("kill").args(["-s", signal, pid]));
        }
        while pids.iter().any(|pid| ours(pid)) && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    // Those parts look for that file a few times a second.
    std::thread::sleep(Duration::from_secs(1));
    match pids.iter().find(|pid| ours(pid)) {
        Some(pid) => bail!("process {pid} of an earlier Slurm does not end"),
        None => Ok(()),
    }
}

/// A new folder with keys and configuration.
fn prepare(root: &Path) -> Result<()> {
    if let Err(error) = fs::remove_dir_all(root)
        && root.exists()
    {
        return Err(error).with_context(|| format!("failed to remove `{}`", root.display()));
    }
    for folder in ["state", "log", "run", "spool", "etc", "munge", "hold", "out"] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    }
    let mut key = [0; MUNGE_KEY_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    let file = root.join("etc/munge.key");
    fs::write(&file, key)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400))?;
    let mut ports = [0_u16; NODES + 1];
    for port in &mut ports {
        *port = free_port(0)?;
    }
    let host = process::output(Command::new("uname").arg("-n"))?;
    let user = process::output(Command::new("id").arg("-un"))?;
    // Slurm wants the name up to the first dot.
    let host = host.trim().split('.').next().unwrap_or_default();
    fs::write(root.join("etc/slurm.conf"), configuration(root, host, user.trim(), &ports))?;
    Ok(())
}

/// The settings of <https://slurm.schedmd.com/slurm.conf.html>: the first port is the controller's.
fn configuration(root: &Path, host: &str, user: &str, ports: &[u16]) -> String {
    let at = root.display();
    let nodes: String = ports.iter().enumerate().skip(1).fold(String::new(), |lines, (number, port)| {
        format!("{lines}NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}\n")
    });
    let (controller, count) = (ports[0], ports.len() - 1);
    format!(
        "ClusterName=bms-test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={at}/munge/socket
SlurmctldPort={controller}
SlurmctldPidFile={at}/state/slurmctld.pid
SlurmctldLogFile={at}/log/slurmctld.log
StateSaveLocation={at}/state
SlurmdPidFile={at}/state/slurmd.%n.pid
SlurmdLogFile={at}/log/slurmd.%n.log
SlurmdSpoolDir={at}/spool/%n
SlurmdParameters=config_overrides
# Loopback only.
CommunicationParameters=NoAddrCache,NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,bf_resolution=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
# Nodes and jobs that fail are noticed within half a minute.
SlurmctldTimeout=30
SlurmdTimeout=10
KillWait=2
MinJobAge=120
InactiveLimit=0
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
NodeName=DEFAULT CPUs=4 RealMemory=8000 State=UNKNOWN
{nodes}PartitionName=batch Nodes=n[1-{count}] Default=YES MaxTime=30 State=UP PriorityTier=1
PartitionName=urgent Nodes=n[1-{count}] MaxTime=30 State=UP PriorityTier=10
PartitionName=short Nodes=n[1-{count}] MaxTime=1 State=UP PriorityTier=1
"
    )
}

fn idle_nodes(conf: &Path) -> usize {
    let mut sinfo = Command::new("timeout");
    sinfo.args(["5", "sinfo", "-h", "-N", "-p", "batch", "-o", "%T"]).env("SLURM_CONF", conf);
    let states = process::output(&mut sinfo).unwrap_or_default();
    states.lines().filter(|state| *state == "idle").count()
}

/// The last lines of a log, for an error's message.
fn log_end(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
