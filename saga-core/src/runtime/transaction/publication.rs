//! The outbox rows of the events that a step or a deadline publishes.

use jiff::Timestamp;

use crate::runtime::Shared;
use crate::{
    SagaId,
    barrier::Op,
    clock::Clock,
    envelope::{Outgoing, mark_partly_compensated, seal},
    handler::Emitted,
    identity,
    outcome::StepError,
    step::End,
    store::{OutboxRow, Store},
    trace::TraceContext,
    transport::Producer,
};

/// What an event is to say about the compensations of its saga.
#[derive(Clone, Copy, Default)]
pub(crate) struct Publication {
    /// There was nothing to compensate.
    pub(crate) null: bool,
    /// It is the event of a compensation that failed for good.
    pub(crate) failed: bool,
    /// It follows from such a compensation.
    pub(crate) partly_compensated: bool,
}

/// What caused an event.
pub(crate) struct Cause<'a> {
    pub(crate) source: &'a str,
    pub(crate) id: &'a str,
    /// It is the last of several, and might have been any of them.
    pub(crate) joins: bool,
    pub(crate) step: &'static str,
    pub(crate) op: Op,
    pub(crate) trace: &'a TraceContext,
}

/// The outbox rows of the events that a step or a deadline ended in, in their order; none when it ended quietly.
pub(crate) fn outbox_rows<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    saga: SagaId,
    cause: &Cause<'_>,
    end: End,
    publication: Publication,
    now: Timestamp,
) -> Result<Vec<OutboxRow>, StepError> {
    let End::Events { events, .. } = end else { return Ok(Vec::new()) };
    let &Cause { source, id: caused_by, joins, step, op, trace } = cause;
    let participant = shared.participant.name;
    // Ids do not depend on which part of a join came last.
    let cause = if joins { identity::JOIN } else { (source, caused_by) };
    let origin = identity::Origin { participant, saga, cause, step, op };
    let mut rows = Vec::with_capacity(events.len());
    for (index, Emitted { event_type, data, saga_id: of }) in (0..).zip(events) {
        if of != saga {
            return Err(StepError::permanent(format!("{step} published {} of another saga", event_type.name)));
        }
        let id = identity::published(origin, index);
        let span = shared.spans.new_span(trace, saga);
        let outgoing = Outgoing {
            id,
            source: participant,
            saga_id: saga,
            causation_id: Some(caused_by),
            time: now,
            trace: shared.spans.outgoing(&span),
            null_compensation: publication.null,
        };
        let mut record = shared.outbox.namespace().place(seal(event_type, data, &outgoing));
        if publication.failed || publication.partly_compensated {
            mark_partly_compensated(&mut record, publication.failed);
        }
        let (event_type, created_at) = (event_type.name.to_owned(), now);
        rows.push(OutboxRow { id, saga_id: saga, event_type, created_at, record, span: span.ids, link: None });
    }
    Ok(rows)
}
