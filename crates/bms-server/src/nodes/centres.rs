//! The replicas of a centre as a worker knows them: it speaks with one, and with the next when that does not answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bms_wire::{Result, limits};

use super::host_and_port;
use crate::slots::{Address, Connections, Tls};

/// The replicas a worker knows.
#[derive(Debug)]
pub(crate) struct Centres {
    tls: Tls,
    known: Mutex<Known>,
}

/// Those there are, with the one that is spoken with at the front.
#[derive(Debug)]
struct Known(Vec<(String, Arc<Connections>)>);

impl Centres {
    /// The replicas at these addresses, of which the first is asked first.
    ///
    /// # Errors
    /// [`bms_wire::Code::InvalidRequest`] when one of them is no address.
    pub(super) fn new(addresses: &[String], tls: Tls) -> Result<Self> {
        let known = addresses.iter().map(|address| Ok((address.clone(), connections(address, &tls)?)));
        let known = Mutex::new(Known(known.collect::<Result<_>>()?));
        Ok(Centres { tls, known })
    }

    /// The way to the one that is spoken with.
    pub(super) fn now(&self) -> Arc<Connections> {
        self.known().0[0].1.clone()
    }

    /// Their addresses, that of the one that is spoken with first.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.known().0.iter().map(|(address, _)| address.clone()).collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.known().0.len()
    }

    /// Takes over which there are. The one that says so stays, whatever it says of itself. Whether they are others than
    /// before.
    pub(super) fn learn(&self, addresses: &[String]) -> bool {
        let mut known = self.known();
        let mut next = vec![known.0[0].clone()];
        for address in addresses.iter().take(limits::CENTRES_MAX) {
            if next.iter().any(|(other, _)| other == address) {
                continue;
            }
            let before = known.0.iter().find(|(other, _)| other == address).cloned();
            // What is no address helps nobody.
            let made = || Some((address.clone(), connections(address, &self.tls).ok()?));
            next.extend(before.or_else(made));
        }
        let sorted = |known: &[(String, _)]| {
            let mut names: Vec<_> = known.iter().map(|(address, _)| address.clone()).collect();
            names.sort();
            names
        };
        // An empty list is of a centre that does not tell.
        let changed = !addresses.is_empty() && sorted(&known.0) != sorted(&next);
        if changed {
            known.0 = next;
        }
        changed
    }

    /// Opens connections of its own to each from now on: those there are showed a certificate that has been replaced, and end
    /// once what is under way on them has ended.
    pub(super) fn open_anew(&self) {
        for (address, before) in &mut self.known().0 {
            // What has been an address is one.
            if let Ok(fresh) = connections(address, &self.tls) {
                *before = fresh;
            }
        }
    }

    /// Speaks with the next one from now on.
    pub(super) fn go_on(&self) {
        self.known().0.rotate_left(1);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connections(address: &str, tls: &Tls) -> Result<Arc<Connections>> {
    let (host, port) = host_and_port(address)?;
    let address = Address::Tcp { host: host.into(), port, tls: Some(tls.clone()) };
    Ok(Arc::new(Connections::new(address, Arc::default())))
}

#[cfg(test)]
mod tests;
