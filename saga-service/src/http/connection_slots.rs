//! A limit on connections that always admits a new one: it evicts the connection that has waited longest for its
//! client.
//!
//! So a client that opens many idle connections keeps no probe and no customer out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::connection_state::ConnectionState;

const MAX_CONNECTIONS: usize = 4096;
const MIN_CONNECTIONS: usize = 64;
/// File descriptors reserved for everything but HTTP connections.
const RESERVED: usize = 256;
/// Connections that wait for less are not evicted: a packet takes its time.
const COURTESY: Duration = Duration::from_millis(50);
/// Pause between attempts to evict a connection.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct ConnectionSlots {
    number: usize,
    free: Arc<Semaphore>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    by: HashMap<u64, Arc<ConnectionState>>,
}

/// A connection's slot, free again when this is dropped.
pub(super) struct ConnectionSlot {
    id: u64,
    slots: Arc<ConnectionSlots>,
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

impl ConnectionSlots {
    pub(crate) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self { number, free: Arc::new(Semaphore::new(number)), open: Mutex::default() })
    }

    /// As many as leave the database and the broker their file descriptors.
    pub(crate) fn of_this_process() -> Arc<Self> {
        let most = |files: usize| files.saturating_sub(RESERVED).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS);
        Self::new(open_files_limit().map_or(MAX_CONNECTIONS, most))
    }

    /// Number of slots.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// A slot for a new connection.
    pub(super) async fn take(self: &Arc<Self>, state: Arc<ConnectionState>) -> ConnectionSlot {
        let permit = loop {
            if let Ok(permit) = self.free.clone().try_acquire_owned() {
                break permit;
            }
            self.evict_one();
            if let Ok(Ok(permit)) = tokio::time::timeout(PAUSE, self.free.clone().acquire_owned()).await {
                break permit;
            }
        };
        let mut open = self.open();
        open.last += 1;
        let id = open.last;
        open.by.insert(id, state);
        ConnectionSlot { id, slots: self.clone(), _permit: permit }
    }

    /// Evicts the connection that has waited longest for its client; none while all are being served.
    fn evict_one(&self) {
        let waiting = |state: &Arc<ConnectionState>| Some((state.waits_since()?, state.clone()));
        let longest = self.open().by.values().filter_map(waiting).min_by_key(|(since, _)| *since);
        if let Some((since, state)) = longest
            && since + COURTESY <= Instant::now()
        {
            state.evict();
        }
    }

    /// Evicts all connections and returns their number.
    pub(super) fn evict_all(&self) -> usize {
        let open = self.open();
        open.by.values().for_each(|state| state.evict());
        open.by.len()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.open().by.remove(&self.id);
    }
}
