//! A connection's state: what it waits for its client for, and since when.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Time limits of a client. Request bodies and handlers have limits in the layers, which can answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Time until the next request begins.
    pub(crate) idle: Duration,
    /// Time for a request's head, from its first byte.
    pub(crate) head: Duration,
    /// Time to take an answer.
    pub(crate) answer: Duration,
    /// Age after which a connection's next answer is its last.
    pub(crate) age: Duration,
}

impl Limits {
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle, head: Duration::from_secs(10), answer: Duration::from_secs(20), age: Duration::from_secs(30 * 60) }
    }
}

/// A connection's state, shared by the socket, the request's body and the service.
pub(super) struct ConnectionState {
    limits: Limits,
    opened: Instant,
    state: Mutex<State>,
    /// Its slot is needed.
    evicted: Notify,
}

struct State {
    phase: Phase,
    /// Start of a write that the client has not taken yet.
    untaken: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Idle(Instant),
    Head(Instant),
    Body(Instant),
    /// The service is working on the request.
    Serving,
    /// The answer is ready, and may not be written yet.
    Answered,
}

/// The time limit that a client exceeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TimedOut {
    Request,
    Head,
    Answer,
}

impl ConnectionState {
    pub(super) fn new(limits: Limits) -> Self {
        let opened = Instant::now();
        let state = Mutex::new(State { phase: Phase::Idle(opened), untaken: None });
        Self { limits, opened, state, evicted: Notify::new() }
    }

    /// Bytes have arrived.
    pub(super) fn received(&self) {
        let mut state = self.state();
        if let Phase::Idle(_) = state.phase {
            state.phase = Phase::Head(Instant::now());
        }
    }

    /// A request's head was read.
    pub(super) fn begun(&self) {
        self.state().phase = Phase::Serving;
    }

    /// The reader of the body waits for more, or has got some.
    pub(super) fn body(&self, waits: bool) {
        let mut state = self.state();
        match state.phase {
            Phase::Serving if waits => state.phase = Phase::Body(Instant::now()),
            Phase::Body(_) if !waits => state.phase = Phase::Serving,
            _ => {}
        }
    }

    pub(super) fn answered(&self) {
        self.state().phase = Phase::Answered;
    }

    /// Something is written.
    pub(super) fn writing(&self) {
        self.state().untaken.get_or_insert_with(Instant::now);
    }

    /// The client, or the operating system for it, has taken everything that was written.
    pub(super) fn written(&self) {
        let mut state = self.state();
        state.untaken = None;
        if state.phase == Phase::Answered {
            state.phase = Phase::Idle(Instant::now());
        }
    }

    /// Whether the next answer is to be the last.
    pub(super) fn is_old(&self) -> bool {
        self.opened.elapsed() > self.limits.age
    }

    /// When the client exceeds a time limit, and which.
    pub(super) fn deadline(&self) -> Option<(Instant, TimedOut)> {
        let state = self.state();
        let untaken = state.untaken.map(|since| (since + self.limits.answer, TimedOut::Answer));
        let phase = match state.phase {
            Phase::Idle(since) => Some((since + self.limits.idle, TimedOut::Request)),
            Phase::Head(since) => Some((since + self.limits.head, TimedOut::Head)),
            Phase::Body(_) | Phase::Serving | Phase::Answered => None,
        };
        untaken.into_iter().chain(phase).min_by_key(|(at, _)| *at)
    }

    /// Since when the client is waited for; none while the service works.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let state = self.state();
        let phase = match state.phase {
            Phase::Idle(since) | Phase::Head(since) | Phase::Body(since) => Some(since),
            Phase::Serving | Phase::Answered => None,
        };
        state.untaken.into_iter().chain(phase).min()
    }

    pub(super) fn evict(&self) {
        self.evicted.notify_one();
    }

    /// Resolves when the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
