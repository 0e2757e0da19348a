//! Handlers run: once for all events of a half of a step that share the transaction, and once for each refusal and for each
//! effect that is prepared.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::runtime::{
    in_flight::InFlight,
    transaction::{
        counts::label,
        open::Attempt,
        result::{FailedAttempt, FailedIn},
    },
};
use crate::{
    barrier::Op,
    clock::Clock,
    handler::{Cx, SagaContext},
    outcome::{ErrorClass, StepError},
    step::Input,
    store::Store,
    trace::Around,
    transport::Producer,
};

impl<S: Store, P: Producer, C: Clock> Attempt<'_, S, P, C> {
    /// What an effect needs is read anew each time that it is about to be called: the value is kept nowhere.
    pub(crate) async fn run_prepares(&mut self, tx: &mut S::Tx) -> Result<(), FailedAttempt> {
        for i in std::mem::take(&mut self.to_prepare) {
            let event = &self.events[i];
            let half = self.shared.participant.steps[event.step].half(event.op);
            let Some(prepare) = half.and_then(|half| half.prepare.as_ref()) else { continue };
            self.has_run_code = true;
            let sagas = [self.saga_context(i)];
            let around = Around { lines: event.lines(), spans: self.collect(event.half, &[i]) };
            let mut cx = Cx::new(tx, self.writes.now).of(&sagas);
            let prepared = AssertUnwindSafe(prepare(&mut cx, self.input(i).trigger)).catch_unwind();
            let prepared = around.run(prepared).await;
            let prepared = prepared.unwrap_or_else(|panic| Err(StepError::panicked(&*panic)))?;
            none_rejected(&mut cx, &[i])?;
            cx.take_waits(None)?;
            if let Some(done) = &mut self.done[i] {
                done.prepared = Some(prepared);
            }
        }
        Ok(())
    }

    pub(crate) async fn run_handlers(&mut self, tx: &mut S::Tx) -> Result<(), FailedAttempt> {
        let (shared, events) = (self.shared, self.events);
        for ((step, op), at) in std::mem::take(&mut self.calls) {
            let inputs: Vec<Input> = at.iter().map(|i| self.input(*i)).collect();
            let half = shared.participant.steps[step].half(op);
            let half = half.ok_or_else(|| StepError::permanent("the step has no compensation"))?;
            self.has_run_code = true;
            let mut sagas: Vec<SagaContext> = at.iter().map(|i| self.saga_context(*i)).collect();
            for (sagas, i) in sagas.iter_mut().zip(&at) {
                sagas.spans = self.collect(events[*i].half, &[*i]);
            }
            let spans = match &sagas[..] {
                [one] => one.spans.clone(),
                _ => self.collect(events[at[0]].half, &at),
            };
            let around = Around { lines: lines(&events[at[0]], &sagas), spans };
            let mut cx = Cx::new(tx, self.writes.now).of(&sagas);
            let began = shared.clock.now();
            let ends = around.run(AssertUnwindSafe((half.run)(&mut cx, inputs)).catch_unwind()).await;
            let took = shared.clock.now().duration_since(began).as_secs_f64();
            shared.metrics.handler_seconds.get_or_create(&label(&events[at[0]])).observe(took);
            let ends = ends.unwrap_or_else(|panic| Err(StepError::panicked(&*panic)))?;
            none_rejected(&mut cx, &at)?;
            let chosen = cx.take_waits((op == Op::Action).then_some(&shared.participant.steps[step].spec))?;
            self.waits.extend(chosen);
            // What fails here concerns one event of the set, and the others are handled without it.
            let mut named = Vec::new();
            for (&i, end) in at.iter().zip(ends) {
                if let Err(error) = self.ran(i, end) {
                    named.push((i, error));
                }
            }
            if !named.is_empty() {
                let error = StepError::transient("the outcomes of some events cannot be committed");
                return Err(FailedAttempt { error, at: FailedIn::Handler, named });
            }
        }
        Ok(())
    }

    pub(crate) async fn run_refusals(&mut self, tx: &mut S::Tx) -> Result<(), FailedAttempt> {
        for i in std::mem::take(&mut self.refusals) {
            let event = &self.events[i];
            let handler = self.shared.participant.steps[event.step].action.exhausted.as_ref();
            let (Some(handler), Some(failure)) = (handler, &event.failure) else { continue };
            self.has_run_code = true;
            let sagas = [self.saga_context(i)];
            let around = Around { lines: event.lines(), spans: self.collect(event.half, &[i]) };
            let mut cx = Cx::new(tx, self.writes.now).of(&sagas);
            let end = AssertUnwindSafe(handler(&mut cx, self.input(i).trigger, failure)).catch_unwind();
            let end = around.run(end).await;
            let end = end.unwrap_or_else(|panic| Err(StepError::panicked(&*panic)))?;
            none_rejected(&mut cx, &[i])?;
            // A refusal waits for nothing.
            cx.take_waits(Some(&self.shared.participant.steps[event.step].spec))?;
            self.ran(i, end)?;
        }
        Ok(())
    }
}

/// Fails with the events that the handler has named; `at` are those that it was called with.
fn none_rejected<S: Store>(cx: &mut Cx<'_, S>, at: &[usize]) -> Result<(), FailedAttempt> {
    let rejected = cx.take_rejected();
    if rejected.is_empty() {
        return Ok(());
    }
    // After a failed statement every further one fails, whichever event it is for: then the names say nothing.
    let of_database = |error: &StepError| error.is_of_store() || error.class() == ErrorClass::Infrastructure;
    let (mut failed, rejected): (Vec<_>, Vec<_>) = rejected.into_iter().partition(|(_, error)| of_database(error));
    if !failed.is_empty() {
        return Err(failed.swap_remove(0).1.into());
    }
    let event = |(place, error): (usize, StepError)| Some((*at.get(place)?, error));
    let Some(named) = rejected.into_iter().map(event).collect::<Option<Vec<_>>>() else {
        return Err(StepError::permanent("the handler has named an event that it was not given").into());
    };
    let error = StepError::transient("the handler has named the events that fail");
    Err(FailedAttempt { error, at: FailedIn::Handler, named })
}

/// What lines say that are logged while a handler runs: whose they are when it runs for one saga alone.
fn lines(event: &InFlight, sagas: &[SagaContext]) -> tracing::Span {
    match sagas {
        [one] => one.lines(Some(event.half)),
        many => tracing::error_span!("step", step = event.half, sagas = many.len()),
    }
}
