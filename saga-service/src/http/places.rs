//! Places for connections. There is always one for a newcomer: who has kept us waiting longest gives his up.
//!
//! So whoever takes all places and does nothing with them keeps nobody away, neither a probe nor a customer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::progress::Progress;

const MAX_CONNECTIONS: usize = 4096;
const MIN_CONNECTIONS: usize = 64;
/// File descriptors left to everything but HTTP connections.
const RESERVED: usize = 256;
/// Nobody loses his place for the time that a packet takes.
const COURTESY: Duration = Duration::from_millis(50);
/// Between two looks for a place, when there was none.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct Places {
    number: usize,
    free: Arc<Semaphore>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    last: u64,
    by: HashMap<u64, Arc<Progress>>,
}

/// A connection's place, free again when this is dropped.
pub(super) struct Place {
    id: u64,
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

/// The process's soft limit of open files; none without a limit, and on systems other than Linux.
#[cfg(target_os = "linux")]
fn open_files_limit() -> Option<usize> {
    use procfs::process::{LimitValue, Process};
    match Process::myself().and_then(|process| process.limits()).ok()?.max_open_files.soft_limit {
        LimitValue::Value(files) => usize::try_from(files).ok(),
        LimitValue::Unlimited => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn open_files_limit() -> Option<usize> {
    None
}

impl Places {
    pub(crate) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self { number, free: Arc::new(Semaphore::new(number)), held: Mutex::default() })
    }

    /// As many as callers may have: they must not use up the file descriptors that the database and the broker need.
    pub(crate) fn of_this_process() -> Arc<Self> {
        let most = |files: usize| files.saturating_sub(RESERVED).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS);
        Self::new(open_files_limit().map_or(MAX_CONNECTIONS, most))
    }

    /// How many there are.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// A place for a newcomer.
    pub(super) async fn take(self: &Arc<Self>, progress: Arc<Progress>) -> Place {
        let permit = loop {
            if let Ok(permit) = self.free.clone().try_acquire_owned() {
                break permit;
            }
            self.free_one();
            if let Ok(Ok(permit)) = tokio::time::timeout(PAUSE, self.free.clone().acquire_owned()).await {
                break permit;
            }
        };
        let mut held = self.held();
        held.last += 1;
        let id = held.last;
        held.by.insert(id, progress);
        Place { id, places: self.clone(), _permit: permit }
    }

    /// Gives up whoever has kept us waiting longest. While it is our turn everywhere, none.
    fn free_one(&self) {
        let waiting = |progress: &Arc<Progress>| Some((progress.waits_since()?, progress.clone()));
        let longest = self.held().by.values().filter_map(waiting).min_by_key(|(since, _)| *since);
        if let Some((since, progress)) = longest
            && since + COURTESY <= Instant::now()
        {
            progress.give_up();
        }
    }

    /// Gives all connections up, and tells how many they were.
    pub(super) fn free_all(&self) -> usize {
        let held = self.held();
        held.by.values().for_each(|progress| progress.give_up());
        held.by.len()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held().by.remove(&self.id);
    }
}
