//! Handlers: plain async functions whose signature declares what a step consumes, publishes and refuses with.

mod emit;
mod waits;

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    event::{Event, SagaId},
    outcome::{Outcome, StepError, StepResult},
    step::AllOf,
    store::Store,
    trace::{Around, TraceContext, UserSpans},
};

pub use emit::{Emit, Emitted};
pub(crate) use waits::ChosenWaits;

/// The context of a handler: the step's local transaction, and what is known about its events.
pub struct Cx<'t, S: Store> {
    tx: &'t mut S::Tx,
    now: Timestamp,
    sagas: &'t [SagaContext],
    /// The index of the saga that the handler is called for, when it takes one event at a time.
    place: Option<usize>,
    rejected: Vec<(usize, StepError)>,
    waits: ChosenWaits,
}

/// A saga of the transaction, and its trace context.
#[derive(Clone, Debug)]
pub(crate) struct SagaContext {
    pub(crate) saga_id: SagaId,
    pub(crate) trace: TraceContext,
    /// The round of the step.
    pub(crate) round: u32,
    /// See [`Cx::is_partly_compensated`].
    pub(crate) partly_compensated: bool,
    /// Collects the spans that a handler opens for this saga alone.
    pub(crate) spans: Option<Arc<dyn UserSpans>>,
}

impl SagaContext {
    pub(crate) fn of(saga_id: SagaId, trace: TraceContext) -> Self {
        Self { saga_id, trace, round: 0, partly_compensated: false, spans: None }
    }

    /// The fields of every log line inside the step.
    pub(crate) fn lines(&self, step: Option<&'static str>) -> tracing::Span {
        Self::lines_of(Some(self.saga_id), &self.trace, step)
    }

    /// The span with the fields of every log line about this saga, as far as they are known.
    pub(crate) fn lines_of(saga_id: Option<SagaId>, trace: &TraceContext, step: Option<&'static str>) -> tracing::Span {
        // At the highest level, so that the fields are on log lines of every level.
        tracing::error_span!("step", step, saga_id = saga_id.map(tracing::field::display), trace_id = trace.trace_id())
    }
}

impl<'t, S: Store> Cx<'t, S> {
    /// A context on an open transaction.
    pub fn new(tx: &'t mut S::Tx, now: Timestamp) -> Self {
        Self { tx, now, sagas: &[], place: None, rejected: Vec::new(), waits: ChosenWaits::new() }
    }

    /// The sagas of the events, in the order of the events.
    pub(crate) fn of(mut self, sagas: &'t [SagaContext]) -> Self {
        self.sagas = sagas;
        self
    }

    /// The saga of the event; none in a set-based handler for several events.
    pub fn saga_id(&self) -> Option<SagaId> {
        match self.sagas {
            [one] => Some(one.saga_id),
            sagas => self.place.and_then(|place| sagas.get(place)).map(|sagas| sagas.saga_id),
        }
    }

    /// The round of the step, 0 for the first: see [`Step::again`](crate::Step::again). In a set-based handler for several
    /// events ask [`Cx::round_of`].
    pub fn round(&self) -> u32 {
        self.saga_id().map_or(0, |saga_id| self.round_of(saga_id))
    }

    /// The round of the step in this saga.
    pub fn round_of(&self, saga_id: SagaId) -> u32 {
        self.sagas.iter().find(|saga| saga.saga_id == saga_id).map_or(0, |saga| saga.round)
    }

    /// Rejects an event of a set, by its index, with this error. The other events are then handled without it, and the
    /// results of this run are dropped. When a set-based handler fails without rejecting an event, the runtime finds
    /// the failing event by bisection.
    pub fn reject(&mut self, place: usize, error: StepError) {
        // A handler for one event knows no other place than its own.
        self.rejected.push((self.place.unwrap_or(place), error));
    }

    /// The events that the handler has rejected.
    pub(crate) fn take_rejected(&mut self) -> Vec<(usize, StepError)> {
        std::mem::take(&mut self.rejected)
    }

    /// Whether the handler has rejected an event.
    pub(crate) fn has_rejected(&self) -> bool {
        !self.rejected.is_empty()
    }

    /// The transaction: writes through it are committed together with the step, or not at all.
    pub fn tx(&mut self) -> &mut S::Tx {
        self.tx
    }

    /// The time at which the transaction began, by the participant's clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The trace context of a saga of this transaction, for a step that continues the trace later; empty when there is
    /// none.
    pub fn trace(&self, saga_id: SagaId) -> TraceContext {
        self.sagas.iter().find(|sagas| sagas.saga_id == saga_id).map(|sagas| sagas.trace.clone()).unwrap_or_default()
    }

    /// Whether the event of this saga follows from a compensation that failed for good
    /// ([`Step::best_effort`](crate::Step::best_effort)): what its step did is still in place. For a join, whether any of its
    /// events does. What the handler publishes is marked in the same way.
    pub fn is_partly_compensated(&self, saga_id: SagaId) -> bool {
        self.sagas.iter().any(|saga| saga.saga_id == saga_id && saga.partly_compensated)
    }

    /// Log span for one saga of a batch; adds `saga_id` and `trace_id`. A handler for single events runs inside its
    /// event's span already.
    ///
    /// ```
    /// # use saga_core::{SagaId, handler::Cx, store::Store};
    /// # fn example<S: Store>(cx: &Cx<'_, S>, saga_id: SagaId) {
    /// cx.lines(saga_id).in_scope(|| tracing::warn!("out of stock"));
    /// # }
    /// ```
    pub fn lines(&self, saga_id: SagaId) -> tracing::Span {
        SagaContext::of(saga_id, self.trace(saga_id)).lines(None)
    }

    /// The span around the handler for the event at this index.
    fn around(&self, place: usize) -> Around {
        match self.sagas {
            // With a single event, the span is around the whole step.
            [] | [_] => Around { lines: tracing::Span::none(), spans: None },
            sagas => Around {
                lines: sagas.get(place).map_or_else(tracing::Span::none, |sagas| sagas.lines(None)),
                spans: sagas.get(place).and_then(|sagas| sagas.spans.clone()),
            },
        }
    }
}

/// The context of an effect's call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The same for every attempt, every redelivery and every duplicate of this round of an action, or of this compensation: pass it to the
    /// outside system, so that it can recognise a repetition.
    pub idempotency_key: uuid::Uuid,
    /// The key of the action's effect: equal to `idempotency_key` in an action, and in a compensation the key of the
    /// call to reverse.
    pub action_key: uuid::Uuid,
    /// The saga.
    pub saga_id: SagaId,
    /// The round of the step, 0 for the first. Each round has its own `idempotency_key`. In a compensation 0; its
    /// `action_key` is that of the last round that called.
    pub round: u32,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The saga's trace context, to be passed on.
    pub trace: TraceContext,
}

/// The shapes of handlers, as marker types, so that the compiler can distinguish the implementations.
pub mod shape {
    #![allow(missing_docs, missing_debug_implementations, reason = "markers without values")]
    pub enum Single {}
    pub enum Set {}
}

/// The action of a step without an outside effect: one event at a time, or a set.
///
/// - `async fn(&mut Cx<'_, S>, T) -> StepResult<O, R>`
/// - `async fn(&mut Cx<'_, S>, Vec<T>) -> Result<Vec<Outcome<O, R>>, StepError>`: one outcome per event, in their order;
///   the events are of different sagas. An error concerns the whole set, which is then redone event by event.
#[diagnostic::on_unimplemented(
    message = "this function is not the action of a step",
    label = "not `async fn(&mut Cx<'_, S>, T) -> StepResult<O, R>`",
    note = "an action is `async fn(&mut Cx<'_, S>, T) -> StepResult<O, R>`, where T is an Event, a Trigger or a tuple of them, and O and R are what it publishes: an Event, an Emit, a tuple of them, or Never",
    note = "or set-based: `async fn(&mut Cx<'_, S>, Vec<T>) -> Result<Vec<Outcome<O, R>>, StepError>`",
    note = "it is `async`, its context has the participant's database, and an event is published in an outcome: \
            `Ok(Outcome::Success(event))`"
)]
pub trait Action<S: Store, T, O, R, Shape>: Send + Sync + 'static {
    /// Runs the handler on these events.
    fn run(&self, cx: &mut Cx<'_, S>, triggers: Vec<T>) -> impl Future<Output = Result<Vec<Outcome<O, R>>, StepError>>;
}

impl<S, F, T, O, R> Action<S, T, O, R, shape::Single> for F
where
    S: Store,
    T: AllOf,
    O: Emit,
    R: Emit,
    F: AsyncFn(&mut Cx<'_, S>, T) -> StepResult<O, R> + Send + Sync + 'static,
{
    async fn run(&self, cx: &mut Cx<'_, S>, triggers: Vec<T>) -> Result<Vec<Outcome<O, R>>, StepError> {
        let mut outcomes = Vec::with_capacity(triggers.len());
        for (place, trigger) in triggers.into_iter().enumerate() {
            cx.place = Some(place);
            let around = cx.around(place);
            outcomes.push(around.run(self(cx, trigger)).await?);
        }
        cx.place = None;
        Ok(outcomes)
    }
}

impl<S, F, T, O, R> Action<S, T, O, R, shape::Set> for F
where
    S: Store,
    T: AllOf,
    O: Emit,
    R: Emit,
    F: AsyncFn(&mut Cx<'_, S>, Vec<T>) -> Result<Vec<Outcome<O, R>>, StepError> + Send + Sync + 'static,
{
    async fn run(&self, cx: &mut Cx<'_, S>, triggers: Vec<T>) -> Result<Vec<Outcome<O, R>>, StepError> {
        self(cx, triggers).await
    }
}

/// The action of a step with an outside effect: like [`Action`], with the effect's result `X`.
///
/// - `async fn(&mut Cx<'_, S>, T, X) -> StepResult<O, R>`
/// - `async fn(&mut Cx<'_, S>, Vec<(T, X)>) -> Result<Vec<Outcome<O, R>>, StepError>`
#[diagnostic::on_unimplemented(
    message = "this function is not the action of a step with an effect",
    label = "not `async fn(&mut Cx<'_, S>, T, {X}) -> StepResult<O, R>`",
    note = "it is `async fn(&mut Cx<'_, S>, T, X) -> StepResult<O, R>`, where X is what the effect returns",
    note = "or set-based: `async fn(&mut Cx<'_, S>, Vec<(T, X)>) -> Result<Vec<Outcome<O, R>>, StepError>`"
)]
pub trait ActionAfter<S: Store, T, X, O, R, Shape>: Send + Sync + 'static {
    /// Runs the handler on these events.
    fn run(
        &self,
        cx: &mut Cx<'_, S>,
        triggers: Vec<(T, X)>,
    ) -> impl Future<Output = Result<Vec<Outcome<O, R>>, StepError>>;
}

impl<S, F, T, X, O, R> ActionAfter<S, T, X, O, R, shape::Single> for F
where
    S: Store,
    T: AllOf,
    O: Emit,
    R: Emit,
    F: AsyncFn(&mut Cx<'_, S>, T, X) -> StepResult<O, R> + Send + Sync + 'static,
{
    async fn run(&self, cx: &mut Cx<'_, S>, triggers: Vec<(T, X)>) -> Result<Vec<Outcome<O, R>>, StepError> {
        let mut outcomes = Vec::with_capacity(triggers.len());
        for (place, (trigger, answer)) in triggers.into_iter().enumerate() {
            cx.place = Some(place);
            let around = cx.around(place);
            outcomes.push(around.run(self(cx, trigger, answer)).await?);
        }
        cx.place = None;
        Ok(outcomes)
    }
}

impl<S, F, T, X, O, R> ActionAfter<S, T, X, O, R, shape::Set> for F
where
    S: Store,
    T: AllOf,
    O: Emit,
    R: Emit,
    F: AsyncFn(&mut Cx<'_, S>, Vec<(T, X)>) -> Result<Vec<Outcome<O, R>>, StepError> + Send + Sync + 'static,
{
    async fn run(&self, cx: &mut Cx<'_, S>, triggers: Vec<(T, X)>) -> Result<Vec<Outcome<O, R>>, StepError> {
        self(cx, triggers).await
    }
}

/// A compensation: reverses the step's action and always publishes an event. The event can be made from the trigger
/// alone (`C: From<T>`), because a null compensation publishes it without calling anything.
///
/// - `async fn(&mut Cx<'_, S>, T) -> Result<C, StepError>`
/// - `async fn(&mut Cx<'_, S>, Vec<T>) -> Result<Vec<C>, StepError>`: one event per trigger, in their order
///
/// After a crash the effect may have happened although nothing of the action's SQL was committed.
#[diagnostic::on_unimplemented(
    message = "this function is not a compensation",
    label = "not `async fn(&mut Cx<'_, S>, T) -> Result<C, StepError>` with `C: From<T>`",
    note = "a compensation is `async fn(&mut Cx<'_, S>, T) -> Result<C, StepError>`, where C is an Event and `C: From<T>`",
    note = "or set-based: `async fn(&mut Cx<'_, S>, Vec<T>) -> Result<Vec<C>, StepError>`",
    note = "it cannot refuse, and returns the event itself; `#[saga_event(.., from(T))]` on C writes `C: From<T>`"
)]
pub trait Compensation<S: Store, T, C, Shape>: Send + Sync + 'static {
    /// Runs the handler on these events.
    fn run(&self, cx: &mut Cx<'_, S>, triggers: Vec<T>) -> impl Future<Output = Result<Vec<C>, StepError>>;
}

impl<S, F, T, C> Compensation<S, T, C, shape::Single> for F
where
    S: Store,
    T: AllOf,
    C: Event + From<T>,
    F: AsyncFn(&mut Cx<'_, S>, T) -> Result<C, StepError> + Send + Sync + 'static,
{
    async fn run(&self, cx: &mut Cx<'_, S>, triggers: Vec<T>) -> Result<Vec<C>, StepError> {
        let mut events = Vec::with_capacity(triggers.len());
        for (place, trigger) in triggers.into_iter().enumerate() {
            cx.place = Some(place);
            let around = cx.around(place);
            events.push(around.run(self(cx, trigger)).await?);
        }
        cx.place = None;
        Ok(events)
    }
}

impl<S, F, T, C> Compensation<S, T, C, shape::Set> for F
where
    S: Store,
    T: AllOf,
    C: Event + From<T>,
    F: AsyncFn(&mut Cx<'_, S>, Vec<T>) -> Result<Vec<C>, StepError> + Send + Sync + 'static,
{
    async fn run(&self, cx: &mut Cx<'_, S>, triggers: Vec<T>) -> Result<Vec<C>, StepError> {
        self(cx, triggers).await
    }
}
