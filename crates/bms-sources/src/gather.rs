//! All files of a plan, several at once, each scanned as it is complete.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bms_bundle::{Content, Finding, Severity, scan};
use bms_wire::{Code, Error, Result};

use crate::http::Http;
use crate::plan::{Item, Plan};
use crate::pull::Watch;
use crate::retry::Tries;
use crate::staging::{Key, Staging};
use crate::transfer::{Arrived, Transfers};

/// How files are brought.
pub(crate) struct Gathering<'a> {
    pub(crate) http: &'a Http,
    pub(crate) watch: &'a dyn Watch,
    pub(crate) tries: Tries,
    pub(crate) jobs: usize,
    pub(crate) bytes_max: u64,
    pub(crate) deny: Severity,
}

/// A file that is here, and what the scan found in it.
#[derive(Clone, Debug)]
pub(crate) struct Gathered {
    pub(crate) arrived: Arrived,
    pub(crate) findings: Vec<Finding>,
}

/// Brings all files of a plan to the staging folder.
///
/// # Errors
/// That of the first file that failed or was refused; what else has arrived stays for the next try.
pub(crate) fn gather(
    plan: &Plan,
    staging: &Staging,
    how: &Gathering<'_>,
) -> Result<BTreeMap<String, Gathered>> {
    let (stop, here, next) = (AtomicBool::new(false), AtomicU64::new(0), AtomicUsize::new(0));
    let budget = AtomicU64::new(how.bytes_max.saturating_sub(plan.bytes()));
    let transfers = Transfers {
        http: how.http,
        staging,
        watch: how.watch,
        tries: how.tries,
        stop: &stop,
        here: &here,
        budget: &budget,
    };
    // Small ones first: settings and code that attack show before gigabytes have come.
    let mut order: Vec<&Item> = plan.items.iter().collect();
    order.sort_by_key(|item| (item.size.unwrap_or(u64::MAX), &item.path));
    let (all, failure) = (Mutex::new(BTreeMap::new()), Mutex::new(None));
    let work = || {
        while let Some(item) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match transfers.bring(item).and_then(|arrived| judge(item, arrived, staging, how.deny)) {
                Ok(gathered) => drop(locked(&all).insert(item.path.clone(), gathered)),
                Err(error) => {
                    // What stopped because of another's failure is not the reason.
                    if !stop.swap(true, Ordering::Relaxed) {
                        *locked(&failure) = Some(error);
                    }
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..how.jobs.clamp(1, order.len().max(1)) {
            scope.spawn(work);
        }
    });
    match locked(&failure).take() {
        Some(error) => Err(error),
        None => Ok(std::mem::take(&mut *locked(&all))),
    }
}

/// Scans a file that has arrived. One that is denied is removed.
fn judge(item: &Item, arrived: Arrived, staging: &Staging, deny: Severity) -> Result<Gathered> {
    let key = Key::of(item);
    let content = Content::open(&staging.done(&key))?;
    let findings = scan::scan_file(&item.path, &content).findings;
    drop(content);
    match findings.iter().filter(|finding| deny <= finding.severity).max_by_key(|finding| finding.severity) {
        None => Ok(Gathered { arrived, findings }),
        Some(worst) => {
            staging.forget(&key)?;
            let what = format!("`{}` is denied: {worst}", item.path);
            Err(Error::new(Code::MaliciousContent, what).hint(
                "It was removed and nothing appears at the target; leave the file out with --exclude if the model \
                 does without it.",
            ))
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
