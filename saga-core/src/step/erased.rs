//! A step after type erasure: boxed functions over erased values, as the runtime needs them.

use std::{any::Any, sync::Arc};

use futures::future::LocalBoxFuture;

use crate::{
    barrier::Op,
    event::{DecodeError, SagaId, Trigger},
    graph::StepSpec,
    handler::{Call, Cx, Emit, Emitted},
    outcome::{Outcome, StepError},
    panics::caught,
    retry::RetryPolicy,
    step::EffectLimits,
    store::Store,
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
        }
    }

    /// The events that it publishes.
    pub(crate) fn events(&self) -> &[Emitted] {
        match self {
            Self::Events { events, .. } => events,
            Self::Quiet => &[],
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
    pub(crate) expire: Option<Box<ExpireFn<S>>>,
}

impl<S: Store> Half<S> {
    /// A half without an effect and without anything else that is optional.
    pub(super) fn new(decode: Box<DecodeFn>, run: Box<RunFn<S>>) -> Self {
        Self { decode, prepare: None, effect: None, run, null: None, exhausted: None, abandon: None }
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
    pub(crate) fn half(&self, op: Op) -> Option<&Half<S>> {
        match op {
            Op::Action => Some(&self.action),
            Op::Compensate => self.compensation.as_ref(),
        }
    }
}

pub(super) fn trigger_of<T: Trigger>(erased: &Erased) -> Result<T, StepError> {
    erased.downcast_ref::<T>().cloned().ok_or_else(|| StepError::permanent("an event reached the wrong step"))
}

pub(super) fn answer_of<X: Clone + 'static>(input: &Input) -> Result<X, StepError> {
    let answer = input.answer.as_ref().and_then(|a| a.downcast_ref::<X>());
    answer.cloned().ok_or_else(|| StepError::permanent("the step ran without its effect"))
}

pub(super) fn decode<T: Trigger + Sync>() -> Box<DecodeFn> {
    decode_with(|name, version, data| {
        let trigger = T::decode(name, version, data)?;
        let saga_id = trigger.saga_id();
        Ok((trigger, saga_id))
    })
}

/// Reads the data of an event of this name and version, with its saga.
type Read<T> = fn(&str, u32, &[u8]) -> Result<(T, SagaId), DecodeError>;

pub(super) fn decode_with<T: Trigger + Sync>(read: Read<T>) -> Box<DecodeFn> {
    Box::new(move |name, version, data| {
        let read = || read(name, version, data).map(|(trigger, saga_id)| (Arc::new(trigger) as Erased, saga_id));
        caught(read).unwrap_or_else(|| Err(DecodeError::Invalid("the code of its type panicked".to_owned())))
    })
}

impl<S: Store> Effect<S> {
    /// An effect that is given the event alone.
    pub(super) fn of<T, X, F>(effect: F) -> Self
    where
        T: Trigger,
        X: Clone + Send + Sync + 'static,
        F: AsyncFn(&Call, &T) -> Result<X, StepError> + Send + Sync + 'static,
    {
        Self { prepare: None, call: call(effect) }
    }

    /// An effect that is also given what `prepare` has read.
    pub(super) fn prepared<T, P, X, R, F>(prepare: R, effect: F) -> Self
    where
        T: Trigger,
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
    T: Trigger,
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
