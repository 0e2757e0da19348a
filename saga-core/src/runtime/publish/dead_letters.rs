//! Dead letters: published until the broker acknowledges them. Only then is the original acknowledged or kept.

use std::{rc::Rc, sync::Arc};

use jiff::Timestamp;

use crate::runtime::{
    Shared,
    in_flight::InFlight,
    telemetry::metrics::{ReasonLabel, StepOnly},
};
use crate::{
    barrier::Op,
    clock::Clock,
    dead_letter::{Reason, reduced},
    event::SagaId,
    record::{OutRecord, Record, TopicPartition},
    store::Store,
    trace::NewSpan,
    transport::{Producer, PublishError},
};

/// What an acknowledged dead letter was made of.
pub(crate) enum DeadLettered {
    /// A record that could not be read.
    Poison { partition: TopicPartition, epoch: u64, offset: i64, bytes: usize },
    /// An event whose step failed for good.
    Event(Box<InFlight>),
}

/// A dead letter to be published, and what its spans need.
pub(crate) struct DeadLetterDelivery {
    pub(crate) dead: OutRecord,
    pub(crate) reason: Reason,
    pub(crate) dead_lettered: DeadLettered,
    pub(crate) span: NewSpan,
    pub(crate) record: Arc<Record>,
    pub(crate) began: Timestamp,
    pub(crate) why: String,
}

impl DeadLetterDelivery {
    /// Publishes it, however long the broker is away.
    pub(crate) async fn deliver<S: Store, P: Producer, C: Clock>(
        mut self,
        shared: Rc<Shared<S, P, C>>,
    ) -> DeadLettered {
        let mut pause = shared.options.first_pause;
        let mut reduced = reduced(&self.dead);
        loop {
            match shared.outbox.producer().publish(vec![self.dead.clone()]).await.pop() {
                Some(Ok(())) => break,
                Some(Err(error)) => {
                    let refused = matches!(error, PublishError::Refused(_));
                    if refused && let Some(less) = reduced.next() {
                        let topic = &less.topic;
                        tracing::error!(%topic, %error, "a dead letter is refused and is published without a part of the original");
                        self.dead = less;
                        continue;
                    }
                    let why = format!("{} cannot be written: {error}", self.dead.topic);
                    shared.health.set_waiting("dead letters", Some(why));
                }
                None => {}
            }
            shared.clock.sleep(pause).await;
            pause = (pause * 2).min(shared.options.longest_pause);
        }
        shared.health.set_waiting("dead letters", None);
        shared.metrics.dead_letters.get_or_create(&ReasonLabel { reason: self.reason.as_str() }).inc();
        if let DeadLettered::Event(event) = &self.dead_lettered
            && event.op == Op::Compensate
            && !shared.participant.steps[event.step].is_best_effort(event.op)
        {
            shared.metrics.compensations_dead_lettered.get_or_create(&StepOnly { step: event.name }).inc();
        }
        self.record_spans(&shared)
    }

    /// Records the span of the dead letter. The handling of a record that cannot be read ends with it; that of an event ends when
    /// the event is kept.
    fn record_spans<S: Store, P: Producer, C: Clock>(self, shared: &Shared<S, P, C>) -> DeadLettered {
        let Self { dead, reason, dead_lettered, span, record, began, why } = self;
        let (spans, now) = (&shared.spans, shared.clock.now());
        spans.dead_letter(&span, record.saga_id().unwrap_or_else(SagaId::random), &dead.topic, began, now);
        if matches!(dead_lettered, DeadLettered::Poison { .. }) {
            spans.poison(&span, &record, (began, now), (reason.as_str(), why));
        }
        dead_lettered
    }
}
