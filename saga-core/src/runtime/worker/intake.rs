//! Takes events in flight: records of a partition, and parked events that are due.

use std::sync::Arc;

use futures::FutureExt;

use crate::runtime::{
    consume::read::{Reading, read},
    consume::repeats::Repeat,
    consume::saga_queues::Entered,
    in_flight::{InFlight, TakenFrom},
    publish::dead_letters::{DeadLetterDelivery, DeadLettered},
    worker::{FULL_QUEUE, Worker},
};
use crate::{
    clock::Clock,
    dead_letter::letter,
    envelope::trace_of,
    event::SagaId,
    handler::SagaContext,
    record::Record,
    store::{ParkedEvent, Store},
    transport::Producer,
};

impl<S: Store, P: Producer, C: Clock> Worker<S, P, C> {
    /// Takes a record of a partition.
    pub(crate) fn take(&mut self, record: Record) {
        let partition = record.topic_partition();
        let offset = record.offset;
        let Some(epoch) = self.offsets.take(&partition, offset) else { return };
        let record = Arc::new(record);
        match read(&self.shared.participant, record.clone(), TakenFrom::Partition { epoch }) {
            Reading::PassOver => {
                self.shared.metrics.passed_over.inc();
                self.offsets.done(&partition, epoch, offset);
            }
            Reading::Poison(poison) => {
                let bytes = record.size();
                self.in_flight += 1;
                self.bytes += bytes;
                let now = self.shared.clock.now();
                let saga_id = record.saga_id();
                let span = self.shared.spans.arrived(&trace_of(&record), saga_id.unwrap_or_else(SagaId::random));
                let _lines = SagaContext::lines_of(saga_id, &span.context, None).entered();
                let dead = letter(&self.shared.group(), &record, &poison, 1, now);
                tracing::warn!(%partition, offset, reason = poison.reason.as_str(), why = poison.message, "dead letter");
                let dead_lettered = DeadLettered::Poison { partition, epoch, offset, bytes };
                let delivery = DeadLetterDelivery {
                    dead,
                    reason: poison.reason,
                    dead_lettered,
                    span,
                    record,
                    began: now,
                    why: poison.message,
                };
                self.dead_letters.push(delivery.deliver(self.shared.clone()).boxed_local());
            }
            Reading::Event(mut event) => {
                self.in_flight += 1;
                self.bytes += record.size();
                self.take_in_flight(&mut event);
                if let Some(published) = event.envelope.time {
                    self.shared.metrics.waited(published, event.taken);
                }
                self.enter(*event);
            }
        }
    }

    /// Notes when the handling of an event began, and its span.
    pub(crate) fn take_in_flight(&self, event: &mut InFlight) {
        event.taken = self.shared.clock.now();
        event.span = self.shared.spans.arrived(&event.envelope.trace, event.saga_id());
    }

    /// Takes the head of a parked saga, which is due.
    pub(crate) fn unpark(&mut self, parked: ParkedEvent) {
        if !self.claimed.insert(parked.seq) {
            return;
        }
        let origin = TakenFrom::Parked { seq: parked.seq };
        match read(&self.shared.participant, Arc::new(parked.record), origin) {
            Reading::Event(mut event) => {
                event.round = parked.round;
                event.attempts = parked.attempts;
                event.failed_at = parked.failed_at;
                self.take_in_flight(&mut event);
                self.enter(*event);
            }
            Reading::PassOver | Reading::Poison(_) => {
                // The version that parked it could read it. It waits for that version.
                tracing::error!(saga_id = %parked.saga_id, "a parked event cannot be read by this version");
                self.claimed.remove(&parked.seq);
            }
        }
    }

    fn enter(&mut self, event: InFlight) {
        let (saga, partition) = (event.saga_id(), event.record.topic_partition());
        let fresh = matches!(event.origin, TakenFrom::Partition { .. });
        match self.queues.enter(saga, event, Repeat::of) {
            Entered::Starts(event) => self.ready.push_back(event),
            Entered::Waits(count) if fresh && count >= FULL_QUEUE && !self.full.contains_key(&partition) => {
                tracing::debug!(saga_id = %saga, %partition, "one saga's queue is full: its partition pauses");
                self.pauses.push((partition.clone(), true));
                self.full.insert(partition, saga);
            }
            Entered::Waits(_) | Entered::Repeats => {}
        }
    }
}
