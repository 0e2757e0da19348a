//! The commit: what was collected is written, and what it means is counted, traced and handed to the outbox.

use jiff::Timestamp;

use crate::runtime::{
    Shared,
    in_flight::InFlight,
    stage::{Happened, Stage},
    telemetry::spans::Ending,
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
    transport::Producer,
};

impl<S: Store, P: Producer, C: Clock> Attempt<'_, S, P, C> {
    pub(crate) async fn commit(self, tx: S::Tx) -> Result<Transaction, FailedAttempt> {
        let Self { shared, events, writes, done, ran, .. } = self;
        // What nobody has decided must not count as done with.
        let Some(done) = done.into_iter().collect::<Option<Vec<Done>>>() else {
            return Err(StepError::permanent("a defect of the framework: an event was not decided").into());
        };
        let PendingWrites { now, mut changes, counts, due, outcomes } = writes;
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
                let at = if ran.contains(&true) { FailedIn::Commit } else { FailedIn::Framework };
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
        for ((event, done), outcome) in events.iter().zip(&done).zip(outcomes) {
            trace(shared, event, done, outcome, ((now, end), events.len()));
        }
        // The database counts from the transaction on: by now it is no earlier.
        Ok(Transaction { done, ran, due: due.map(|pause| after(end, pause)) })
    }
}

/// The spans of an event's part in a transaction, and of its handling when it ended here.
fn trace<S: Store, P: Producer, C: Clock>(
    shared: &Shared<S, P, C>,
    event: &InFlight,
    done: &Done,
    outcome: Option<&'static str>,
    (times, events): ((Timestamp, Timestamp), usize),
) {
    shared.spans.transaction(event, phase_name(event.stage), times, events);
    let end = times.1;
    match done.happened {
        Happened::Ended => {
            shared.spans.process(event, end, &Ending { outcome: outcome.unwrap_or("none"), error: None });
            shared.spans.parked(event, end);
        }
        Happened::Kept => {
            let reason = event.reason();
            let ending = Ending { outcome: outcome.unwrap_or("none"), error: Some(&reason) };
            shared.spans.process(event, end, &ending);
        }
        _ => {}
    }
}

/// As spans say it.
fn phase_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Start => "start",
        Stage::Finish => "finish",
        Stage::Void | Stage::Abandon => "void",
        Stage::Exhaust => "exhausted",
        Stage::Park => "park",
        Stage::Block => "hold",
        Stage::Whole | Stage::Call | Stage::DeadLetter | Stage::Settled => "whole",
    }
}
