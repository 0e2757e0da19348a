//! The commit: the pending writes go to the database, and after it metrics, spans and the outbox follow.

use std::sync::Arc;

use jiff::Timestamp;

use crate::runtime::{
    Shared,
    in_flight::InFlight,
    stage::{Happened, Stage},
    telemetry::spans::HandlingOutcome,
    transaction::{
        open::Attempt,
        pending_writes::PendingWrites,
        result::{Done, FailedAttempt, FailedIn, Transaction},
    },
};
use crate::{
    clock::{Clock, after},
    outcome::StepError,
    store::{Store, StoreError},
    trace::{NewSpan, TraceContext, UserSpans},
    transport::Producer,
};

impl<S: Store, P: Producer, C: Clock> Attempt<'_, S, P, C> {
    pub(crate) async fn commit(self, tx: S::Tx) -> Result<Transaction, FailedAttempt> {
        let Self { shared, events, writes, done, ran, has_run_code, new_spans, user_spans, .. } = self;
        // An event that is not decided must not count as done.
        let Some(done) = done.into_iter().collect::<Option<Vec<Done>>>() else {
            return Err(StepError::permanent("a defect of the framework: an event was not decided").into());
        };
        let PendingWrites { now, mut changes, counts, due, outcomes, .. } = writes;
        let rows = changes.outbox.clone();
        changes.sent = shared.outbox.take_acknowledged();
        let sent = changes.sent.clone();
        let armed = changes.arm.len();
        let committed = match shared.store.commit(tx, changes).await {
            Ok(committed) => committed,
            Err(error) => {
                shared.outbox.put_back(&sent);
                if matches!(error, StoreError::Unavailable(_)) {
                    shared.outbox.perhaps_committed(&rows);
                }
                let at = if has_run_code { FailedIn::Commit } else { FailedIn::Framework };
                return Err(FailedAttempt { error: error.into(), at, named: Vec::new() });
            }
        };
        let end = shared.clock.now();
        shared.progressed(&committed, end, &rows);
        shared.outbox.forgotten(&sent);
        shared.outbox.committed(rows);
        shared.metrics.deadlines_armed.inc_by(armed as u64);
        #[allow(clippy::cast_precision_loss, reason = "a batch is small")]
        shared.metrics.batch_events.observe(events.len() as f64);
        shared.metrics.transaction_seconds.observe(end.duration_since(now).as_secs_f64());
        for count in counts {
            count.add(shared, events);
        }
        let mut links = keep(&user_spans, events.len()).into_iter();
        for (((event, span), done), outcome) in events.iter().zip(&new_spans).zip(&done).zip(outcomes) {
            let link = links.next().flatten();
            trace(shared, (event, span, link), done, outcome, ((now, end), events.len()));
        }
        // The database counts from the begin of the transaction, so this is not too early.
        Ok(Transaction { done, ran, due: due.map(|pause| after(end, pause)) })
    }
}

/// Records the user's own spans: the transaction that they are about is committed. For each event, the span about several
/// events that it is one of.
fn keep(user_spans: &[(Vec<usize>, Arc<dyn UserSpans>)], events: usize) -> Vec<Option<TraceContext>> {
    let mut links = vec![None; events];
    for (at, spans) in user_spans {
        if let Some(together) = spans.keep() {
            at.iter().for_each(|i| links[*i] = Some(together.clone()));
        }
    }
    links
}

/// The spans of an event's part in a transaction, and of its handling when it ended here.
fn trace<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    (event, span, link): (&InFlight, &NewSpan, Option<TraceContext>),
    done: &Done,
    outcome: Option<&'static str>,
    (times, events): ((Timestamp, Timestamp), usize),
) {
    shared.spans.transaction((event, span), phase_name(event.stage), times, events, link);
    let end = times.1;
    match done.happened {
        Happened::Ended => {
            shared.spans.process(event, end, &HandlingOutcome { outcome: outcome.unwrap_or("none"), error: None });
            shared.spans.parked(event, end);
        }
        Happened::Kept => {
            let reason = event.reason();
            let ending = HandlingOutcome { outcome: outcome.unwrap_or("none"), error: Some(&reason) };
            shared.spans.process(event, end, &ending);
        }
        _ => {}
    }
}

/// The phase as the transaction's span names it.
fn phase_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Start => "start",
        Stage::Finish => "finish",
        Stage::Void | Stage::Abandon => "void",
        Stage::Exhaust => "exhausted",
        Stage::Park => "park",
        Stage::Block => "block",
        Stage::RecordFailure => "record_failure",
        Stage::Whole | Stage::Call | Stage::DeadLetter | Stage::Settled => "whole",
    }
}
