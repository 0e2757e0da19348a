//! What every part of a participant's runtime works with.

use std::{borrow::Cow, cell::RefCell, collections::HashSet};

use jiff::Timestamp;

use crate::runtime::{
    deadlines::failing::FailingDeadlines,
    options::Options,
    publish::outbox::Outbox,
    telemetry::{
        health::Health,
        metrics::{Metrics, OutcomeLabel, outcome},
        spans::Spans,
    },
    transaction::handler_failures::HandlerFailures,
};
use crate::{
    clock::Clock,
    envelope::is_partly_compensated,
    participant::Participant,
    step::End,
    store::{Committed, OutboxRow, Store},
    transport::Producer,
};

/// What every part of the runtime works with.
pub(crate) struct Shared<S: Store, P: Producer, C: Clock> {
    pub(crate) participant: Participant<S>,
    pub(crate) store: S,
    pub(crate) clock: C,
    pub(crate) outbox: Outbox<S, P, C>,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) spans: Spans,
    pub(crate) options: Options,
    pub(crate) has_deadlines: bool,
    /// Whether a step waits for several events.
    pub(crate) has_joins: bool,
    pub(crate) handler_failures: RefCell<HandlerFailures>,
    pub(crate) failing: RefCell<FailingDeadlines>,
}

impl<S: Store, P: Producer, C: Clock> Shared<S, P, C> {
    /// Whether a saga ends in this.
    pub(crate) fn ends(&self, end: &End) -> bool {
        end.events().iter().any(|event| self.participant.ending(event.event_type.name).is_some())
    }

    /// The participant's consumer group.
    pub(crate) fn group(&self) -> Cow<'static, str> {
        self.outbox.namespace().of(self.participant.name)
    }

    /// Counts the sagas that began and ended in a transaction that has committed.
    pub(crate) fn progressed(&self, committed: &Committed, now: Timestamp, published: &[OutboxRow]) {
        self.metrics.started.inc_by(committed.begun);
        let mut counted = HashSet::new();
        for row in published {
            let Some(ending) = self.participant.ending(&row.event_type) else { continue };
            // Several events of one saga may be its ends.
            if !counted.insert(row.saga_id) {
                continue;
            }
            let label = OutcomeLabel { outcome: outcome(ending, is_partly_compensated(&row.record)) };
            self.metrics.finished.get_or_create(&label).inc();
            let begun = committed.ended.iter().find(|progress| progress.saga_id == row.saga_id);
            if let Some(begun) = begun {
                let took = now.duration_since(begun.at).as_secs_f64().max(0.0);
                self.metrics.duration_seconds.get_or_create(&label).observe(took);
            }
        }
    }
}
