//! How an event comes into the worker's hands: from a partition, or from the table of parked ones.

use std::sync::Arc;

use futures::FutureExt;

use super::{
    super::{
        burial::{Burial, Buried},
        lanes::Entered,
        work::{Origin, Reading, Work, read},
    },
    FULL_LANE, Worker,
    repeats::Repeat,
};
use crate::{
    clock::Clock,
    dead_letter::letter,
    envelope::{open, trace_of},
    event::SagaId,
    handler::Seen,
    record::Record,
    store::{ParkedEvent, Store},
    transport::Producer,
};

impl<S: Store, P: Producer, C: Clock> Worker<S, P, C> {
    /// A record was read.
    pub(super) fn take(&mut self, record: Record) {
        let partition = record.topic_partition();
        let offset = record.offset;
        let Some(epoch) = self.offsets.take(&partition, offset) else { return };
        let record = Arc::new(record);
        match read(&self.shared.participant, record.clone(), Origin::Partition { epoch }) {
            Reading::PassOver => {
                self.shared.metrics.passed_over.inc();
                self.warn_of_unknown_type(&record);
                self.offsets.done(&partition, epoch, offset);
            }
            Reading::Poison(poison) => {
                let bytes = size(&record);
                self.in_hand += 1;
                self.bytes += bytes;
                let now = self.shared.clock.now();
                let saga_id = record.saga_id();
                let place = self.shared.spans.arrived(&trace_of(&record), saga_id.unwrap_or_else(SagaId::random));
                let _lines = Seen::lines_of(saga_id, &place.context, None).entered();
                let dead = letter(&self.shared.group(), &record, &poison, 1, now);
                tracing::warn!(%partition, offset, reason = poison.reason.as_str(), why = poison.message, "dead letter");
                let buried = Buried::Poison { partition, epoch, offset, bytes };
                let burial =
                    Burial { dead, reason: poison.reason, buried, place, record, began: now, why: poison.message };
                self.burials.push(burial.carry_out(self.shared.clone()).boxed_local());
            }
            Reading::Event(mut work) => {
                self.in_hand += 1;
                self.bytes += size(&record);
                self.take_in_hand(&mut work);
                if let Some(published) = work.envelope.time {
                    self.shared.metrics.waited(published, work.taken);
                }
                self.enter(*work);
            }
        }
    }

    /// From here on it is being handled.
    pub(super) fn take_in_hand(&self, work: &mut Work) {
        work.taken = self.shared.clock.now();
        work.place = self.shared.spans.arrived(&work.envelope.trace, work.saga_id());
    }

    pub(super) fn warn_of_unknown_type(&mut self, record: &Record) {
        let known = &self.shared.options.known_events;
        if known.is_empty() || self.unknown_types.len() >= 100 {
            return;
        }
        if let Ok(opened) = open(record)
            && !known.contains(&opened.event_type())
            && self.unknown_types.insert(opened.event_type().to_owned())
        {
            let event_type: String = opened.event_type().chars().take(100).collect();
            tracing::warn!(event_type, topic = %record.topic, "passing over events of a type that no participant declares");
        }
    }

    /// The head of a parked saga is due.
    pub(super) fn unpark(&mut self, event: ParkedEvent) {
        if !self.claimed.insert(event.seq) {
            return;
        }
        let origin = Origin::Parked { seq: event.seq };
        match read(&self.shared.participant, Arc::new(event.record), origin) {
            Reading::Event(mut work) => {
                work.attempts = event.attempts;
                work.failed_at = event.failed_at;
                self.take_in_hand(&mut work);
                self.enter(*work);
            }
            Reading::PassOver | Reading::Poison(_) => {
                // It could be read when it was parked: this is another version of the program. It waits for the right one.
                tracing::error!(saga_id = %event.saga_id, "a parked event cannot be read by this version");
                self.claimed.remove(&event.seq);
            }
        }
    }

    fn enter(&mut self, work: Work) {
        let (saga, partition) = (work.saga_id(), work.record.topic_partition());
        let fresh = matches!(work.origin, Origin::Partition { .. });
        match self.lanes.enter(saga, work, Repeat::of) {
            Entered::Starts(work) => self.ready.push_back(work),
            Entered::Waits(count) if fresh && count >= FULL_LANE && !self.full.contains_key(&partition) => {
                tracing::debug!(saga_id = %saga, %partition, "one saga brings too much at once: its partition pauses");
                self.pauses.push((partition.clone(), true));
                self.full.insert(partition, saga);
            }
            Entered::Waits(_) | Entered::Repeats => {}
        }
    }
}

pub(super) fn size(record: &Record) -> usize {
    let headers = record.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len));
    record.value.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
}
