//! A step after type erasure: boxed functions over erased values, as the runtime needs them.

use std::{any::Any, collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::LocalBoxFuture;

use crate::{
    barrier::Op,
    event::{DecodeError, Event, SagaId},
    graph::{StepSpec, Triggers},
    handler::{Call, Cx, Emit, Emitted},
    outcome::{Outcome, StepError},
    panics::caught,
    retry::RetryPolicy,
    step::{AllOf, EffectLimits, Part},
    store::{Store, TimerKind},
};

/// The result of a step, type-erased.
#[derive(Debug)]
pub(crate) enum End {
    /// Published on success, on refusal, or by a compensation.
    Events {
        events: Vec<Emitted>,
        refused: bool,
    },
    Quiet,
    /// A checkpoint: the step runs again after this time.
    Again {
        after: Duration,
    },
}

impl End {
    pub(super) fn of<E: Emit>(published: &E, refused: bool) -> Result<Self, StepError> {
        // Nearly every step publishes one event.
        let mut events = Vec::with_capacity(1);
        published.emit(&mut events)?;
        Ok(Self::Events { events, refused })
    }

    pub(super) fn from_outcome<O: Emit, R: Emit>(outcome: &Outcome<O, R>) -> Result<Self, StepError> {
        match outcome {
            Outcome::Success(event) => Self::of(event, false),
            Outcome::Refused(event) => Self::of(event, true),
            Outcome::Quiet => Ok(Self::Quiet),
            Outcome::Again { after } => Ok(Self::Again { after: *after }),
        }
    }

    /// The events that it publishes.
    pub(crate) fn events(&self) -> &[Emitted] {
        match self {
            Self::Events { events, .. } => events,
            Self::Quiet | Self::Again { .. } => &[],
        }
    }
}

pub(crate) type Erased = Arc<dyn Any + Send + Sync>;

/// A decoded event, the value that its effect was prepared with, and the effect's result.
#[derive(Clone)]
pub(crate) struct Input {
    pub(crate) trigger: Erased,
    pub(crate) prepared: Option<Erased>,
    pub(crate) answer: Option<Erased>,
}

pub(super) type DecodeFn = dyn Fn(&str, u32, &[u8]) -> Result<(Erased, SagaId), DecodeError> + Send + Sync;
pub(super) type JoinFn = dyn Fn(Vec<Erased>) -> Result<Erased, StepError> + Send + Sync;
pub(super) type PrepareFn<S> =
    dyn for<'a> Fn(&'a mut Cx<'_, S>, Erased) -> LocalBoxFuture<'a, Result<Erased, StepError>> + Send + Sync;
pub(super) type EffectFn = dyn Fn(Call, Input) -> LocalBoxFuture<'static, Result<Erased, StepError>> + Send + Sync;
pub(super) type RunFn<S> =
    dyn for<'a> Fn(&'a mut Cx<'_, S>, Vec<Input>) -> LocalBoxFuture<'a, Result<Vec<End>, StepError>> + Send + Sync;
pub(super) type ExhaustedFn<S> = dyn for<'a> Fn(&'a mut Cx<'_, S>, Erased, &'a StepError) -> LocalBoxFuture<'a, Result<End, StepError>>
    + Send
    + Sync;
pub(super) type NullFn = dyn Fn(&Erased) -> Result<End, StepError> + Send + Sync;
pub(super) type ExpireFn<S> =
    dyn for<'a> Fn(&'a mut Cx<'_, S>, Vec<SagaId>) -> LocalBoxFuture<'a, Result<Vec<End>, StepError>> + Send + Sync;

/// The action or the compensation of a step, type-erased, as the runtime needs it.
pub(crate) struct Half<S: Store> {
    pub(crate) decode: Box<DecodeFn>,
    /// Joins only: puts the arrivals together.
    pub(crate) join: Option<Box<JoinFn>>,
    /// Reads what the effect needs, in the transaction before the call.
    pub(crate) prepare: Option<Box<PrepareFn<S>>>,
    pub(crate) effect: Option<Box<EffectFn>>,
    pub(crate) run: Box<RunFn<S>>,
    /// Compensations only: the event of a null compensation.
    pub(crate) null: Option<Box<NullFn>>,
    /// Actions that refuse when their retries are used up.
    pub(crate) exhausted: Option<Box<ExhaustedFn<S>>>,
    /// Voids earlier attempts of the effect before such a refusal.
    pub(crate) abandon: Option<Box<EffectFn>>,
}

/// A step after type erasure.
pub(crate) struct ErasedStep<S: Store> {
    pub(crate) spec: StepSpec,
    pub(crate) action: Half<S>,
    pub(crate) compensation: Option<Half<S>>,
    pub(crate) retry: RetryPolicy,
    pub(crate) effects: EffectLimits,
    /// What is called when its timers are due.
    pub(crate) expire: BTreeMap<TimerKind, Box<ExpireFn<S>>>,
}

impl<S: Store> Half<S> {
    /// A half that `T` starts, without an effect and without anything else that is optional.
    pub(super) fn new<T: AllOf>(run: Box<RunFn<S>>) -> Self {
        let join = (T::parts().len() > 1).then(|| Box::new(joined::<T>) as Box<JoinFn>);
        Self {
            decode: decode_with(read::<T>),
            join,
            prepare: None,
            effect: None,
            run,
            null: None,
            exhausted: None,
            abandon: None,
        }
    }

    pub(super) fn with(mut self, effect: Option<Effect<S>>) -> Self {
        if let Some(Effect { prepare, call }) = effect {
            (self.prepare, self.effect) = (prepare, Some(call));
        }
        self
    }
}

/// A call to an outside system, and what prepares it.
pub(super) struct Effect<S: Store> {
    prepare: Option<Box<PrepareFn<S>>>,
    call: Box<EffectFn>,
}

impl<S: Store> ErasedStep<S> {
    /// What starts this half.
    pub(crate) fn triggers(&self, op: Op) -> &Triggers {
        match (op, &self.spec.compensation) {
            (Op::Compensate, Some(compensation)) => &compensation.triggers,
            _ => &self.spec.triggers,
        }
    }

    /// Whether a saga goes on without this half when it fails for good.
    pub(crate) fn is_best_effort(&self, op: Op) -> bool {
        op == Op::Compensate && self.spec.compensation.as_ref().is_some_and(|compensation| compensation.best_effort)
    }

    pub(crate) fn half(&self, op: Op) -> Option<&Half<S>> {
        match op {
            Op::Action => Some(&self.action),
            Op::Compensate => self.compensation.as_ref(),
        }
    }

    /// What is called when a timer of this kind is due.
    pub(crate) fn expires(&self, kind: TimerKind) -> Option<&ExpireFn<S>> {
        self.expire.get(&kind).map(|expire| &**expire)
    }
}

/// Erases the handler of a deadline.
pub(super) fn expire<S, D, F>(expired: F) -> Box<ExpireFn<S>>
where
    S: Store,
    D: Event,
    F: AsyncFn(&mut Cx<'_, S>, Vec<SagaId>) -> Result<Vec<Outcome<D>>, StepError> + Send + Sync + 'static,
{
    let expired = Arc::new(expired);
    Box::new(move |cx, sagas| {
        let expired = expired.clone();
        Box::pin(async move {
            let count = sagas.len();
            let outcomes = expired(cx, sagas).await?;
            if let Some((_, error)) = cx.take_rejected().pop() {
                return Err(error);
            }
            let outcomes = same_count(cx, "the deadline's handler", outcomes, count)?;
            if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Again { .. })) {
                return Err(StepError::permanent(
                    "a deadline's handler has no further round: return an event, or Quiet",
                ));
            }
            outcomes.iter().map(End::from_outcome).collect()
        })
    })
}

pub(super) fn trigger_of<T: Clone + 'static>(erased: &Erased) -> Result<T, StepError> {
    erased.downcast_ref::<T>().cloned().ok_or_else(|| StepError::permanent("an event reached the wrong step"))
}

pub(super) fn answer_of<X: Clone + 'static>(input: &Input) -> Result<X, StepError> {
    let answer = input.answer.as_ref().and_then(|a| a.downcast_ref::<X>());
    answer.cloned().ok_or_else(|| StepError::permanent("the step ran without its effect"))
}

/// Reads the data of an event of this name and version, with its saga.
type Read = fn(&str, u32, &[u8]) -> Result<(Erased, SagaId), DecodeError>;

fn read<T: AllOf>(name: &str, version: u32, data: &[u8]) -> Result<(Erased, SagaId), DecodeError> {
    T::decode(name, version, data).map(|(Part(part), saga_id)| (part, saga_id))
}

fn joined<T: AllOf>(parts: Vec<Erased>) -> Result<Erased, StepError> {
    let parts: Vec<Part> = parts.into_iter().map(Part).collect();
    T::join(&parts).map(|Part(joined)| joined).ok_or_else(|| StepError::permanent("an event reached the wrong step"))
}

pub(super) fn decode_with(read: Read) -> Box<DecodeFn> {
    Box::new(move |name, version, data| {
        let read = || read(name, version, data);
        caught(read).unwrap_or_else(|| Err(DecodeError::Invalid("the code of its type panicked".to_owned())))
    })
}

impl<S: Store> Effect<S> {
    /// An effect that is given the event alone.
    pub(super) fn of<T, X, F>(effect: F) -> Self
    where
        T: AllOf,
        X: Clone + Send + Sync + 'static,
        F: AsyncFn(&Call, &T) -> Result<X, StepError> + Send + Sync + 'static,
    {
        Self { prepare: None, call: call(effect) }
    }

    /// An effect that is also given what `prepare` has read.
    pub(super) fn prepared<T, P, X, R, F>(prepare: R, effect: F) -> Self
    where
        T: AllOf,
        P: Send + Sync + 'static,
        X: Clone + Send + Sync + 'static,
        R: AsyncFn(&mut Cx<'_, S>, &T) -> Result<P, StepError> + Send + Sync + 'static,
        F: AsyncFn(&Call, &T, &P) -> Result<X, StepError> + Send + Sync + 'static,
    {
        let (prepare, effect) = (Arc::new(prepare), Arc::new(effect));
        let prepare: Box<PrepareFn<S>> = Box::new(move |cx, trigger| {
            let prepare = prepare.clone();
            Box::pin(async move {
                let trigger = trigger_of::<T>(&trigger)?;
                prepare(cx, &trigger).await.map(|prepared| Arc::new(prepared) as Erased)
            })
        });
        let call: Box<EffectFn> = Box::new(move |call, input| {
            let effect = effect.clone();
            Box::pin(async move {
                let trigger = trigger_of::<T>(&input.trigger)?;
                let prepared = input.prepared.as_ref().and_then(|prepared| prepared.downcast_ref::<P>());
                let prepared = prepared.ok_or_else(|| StepError::permanent("the effect was not prepared"))?;
                effect(&call, &trigger, prepared).await.map(|answer| Arc::new(answer) as Erased)
            })
        });
        Self { prepare: Some(prepare), call }
    }
}

/// Erases an effect that is given the event alone.
pub(super) fn call<T, X, F>(effect: F) -> Box<EffectFn>
where
    T: AllOf,
    X: Clone + Send + Sync + 'static,
    F: AsyncFn(&Call, &T) -> Result<X, StepError> + Send + Sync + 'static,
{
    let effect = Arc::new(effect);
    Box::new(move |call, input| {
        let effect = effect.clone();
        Box::pin(async move {
            let trigger = trigger_of::<T>(&input.trigger)?;
            effect(&call, &trigger).await.map(|answer| Arc::new(answer) as Erased)
        })
    })
}

/// One outcome for each event; none when the handler has rejected events, since it then runs again without them.
pub(super) fn same_count<S: Store, A>(
    cx: &Cx<'_, S>,
    handler: &str,
    made: Vec<A>,
    wanted: usize,
) -> Result<Vec<A>, StepError> {
    if cx.has_rejected() {
        return Ok(Vec::new());
    }
    if made.len() == wanted {
        return Ok(made);
    }
    Err(StepError::permanent(format!("{handler} returned {} outcomes for {wanted} events", made.len())))
}
