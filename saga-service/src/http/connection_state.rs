//! What a connection waits for its client for, and since when.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long a client may take for each of its parts. What is in between, the request's body and our own work, the guards
/// and handlers limit, who can answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Until the next request begins.
    pub(crate) idle: Duration,
    /// For a request's head, from its first byte.
    pub(crate) head: Duration,
    /// To take in an answer.
    pub(crate) answer: Duration,
    /// The answer to a request after that is the connection's last.
    pub(crate) age: Duration,
}

impl Limits {
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle, head: Duration::from_secs(10), answer: Duration::from_secs(20), age: Duration::from_secs(30 * 60) }
    }
}

/// How far a connection is. Shared by those who see its parts: the socket, the request's body, the service.
pub(super) struct ConnectionState {
    limits: Limits,
    opened: Instant,
    state: Mutex<State>,
    /// Its place is needed.
    evicted: Notify,
}

struct State {
    phase: Phase,
    /// Since when something is written that the client has not taken yet.
    untaken: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Idle(Instant),
    Head(Instant),
    Body(Instant),
    /// It is our turn.
    Serving,
    /// The answer is ready, and perhaps not written.
    Answered,
}

/// What a client took too long for.
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

    /// A request's head is read.
    pub(super) fn begun(&self) {
        self.state().phase = Phase::Serving;
    }

    /// Whoever reads the request's body waits for more of it, or has got some.
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

    /// All that was written is taken, by the client or by the operating system for it.
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

    /// When the client will be late, and with what.
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

    /// Since when it is the client's turn; none while it is ours.
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

    /// Ends when somebody has given the connection up.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
