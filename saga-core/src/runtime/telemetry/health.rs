//! Readiness: what a participant waits for, and when its loop last turned.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::Timestamp;

/// A participant's readiness. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<BTreeMap<&'static str, String>>,
    last_turn_ms: AtomicI64,
}

impl Health {
    /// Sets why `what` (`"database"`, `"broker"`) is not ready, or clears it.
    pub fn set_waiting(&self, what: &'static str, why: Option<String>) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) if waiting.get(what) != Some(&why) => {
                tracing::warn!(what, why, "waiting");
                waiting.insert(what, why);
            }
            Some(_) => {}
            None => {
                if waiting.remove(what).is_some() {
                    tracing::info!(what, "ready");
                }
            }
        }
    }

    /// Notes that the participant is stopping. It is not ready from now on.
    pub fn stopping(&self) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.insert("shutdown", "stopping".to_owned()).is_none() {
            tracing::info!("stopping");
        }
    }

    /// Everything that is waited for, as `what: why`; empty when the participant is ready.
    pub fn waiting_for(&self) -> Vec<String> {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().map(|(what, why)| format!("{what}: {why}")).collect()
    }

    /// Notes that the runtime's loop has turned.
    pub fn turned(&self, now: Timestamp) {
        self.0.last_turn_ms.store(now.as_millisecond(), Ordering::Relaxed);
    }

    /// When the runtime's loop turned last; none before it has started.
    pub fn last_turn(&self) -> Option<Timestamp> {
        match self.0.last_turn_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Timestamp::from_millisecond(ms).ok(),
        }
    }
}
