//! A step: the action, its compensation, and its declared retries, effects and deadlines.

use std::{any::Any, marker::PhantomData, sync::Arc, time::Duration};

use futures::future::LocalBoxFuture;

use crate::{
    barrier::Op,
    event::{DecodeError, Event, EventType, SagaId, Trigger},
    graph::{CompensationSpec, DeadlineSpec, StepSpec},
    handler::{Action, ActionAfter, Call, Compensation, Cx, Emit},
    outcome::{Outcome, StepError},
    panics::caught,
    retry::RetryPolicy,
    store::Store,
};

/// Limits on the calls to an outside system.
#[derive(Clone, Debug)]
pub struct EffectLimits {
    /// A call that takes longer counts as a transient failure.
    pub timeout: Duration,
    /// Most concurrent calls of this step, per process.
    pub concurrency: usize,
    /// When to stop calling for a while.
    pub breaker: BreakerPolicy,
}

impl Default for EffectLimits {
    /// 3 s, so that ten attempts stay under a minute; 256 calls at once.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(3), concurrency: 256, breaker: BreakerPolicy::default() }
    }
}

/// When to stop calls to an outside system because it fails for all sagas.
#[derive(Clone, Debug)]
pub struct BreakerPolicy {
    /// Opens when at least this share of the last `window` calls failed (0.0 to 1.0).
    pub failure_share: f64,
    /// The number of recent calls that are counted; the breaker stays closed until there are that many.
    pub window: usize,
    /// How long it stays open before one trial call decides.
    pub open_for: Duration,
}

impl Default for BreakerPolicy {
    /// Nine tenths of the last 100 calls; one second.
    fn default() -> Self {
        Self { failure_share: 0.9, window: 100, open_for: Duration::from_secs(1) }
    }
}

/// The result of a step, type-erased.
#[derive(Debug)]
pub(crate) enum End {
    /// Published on success, on refusal, or by a compensation.
    Event {
        event_type: EventType,
        data: Vec<u8>,
        saga_id: SagaId,
        refused: bool,
    },
    Quiet,
}

impl End {
    fn of<E: Emit>(event: &E, refused: bool) -> Result<Self, StepError> {
        match E::event_type() {
            Some(event_type) => Ok(Self::Event { event_type, data: event.data()?, saga_id: event.saga_id(), refused }),
            None => Ok(Self::Quiet),
        }
    }

    fn from_outcome<O: Emit, R: Emit>(outcome: &Outcome<O, R>) -> Result<Self, StepError> {
        match outcome {
            Outcome::Success(event) => Self::of(event, false),
            Outcome::Refused(event) => Self::of(event, true),
            Outcome::Quiet => Ok(Self::Quiet),
        }
    }
}

pub(crate) type Erased = Arc<dyn Any + Send + Sync>;

/// A decoded event and, after the effect, the effect's result.
#[derive(Clone)]
pub(crate) struct Input {
    pub(crate) trigger: Erased,
    pub(crate) answer: Option<Erased>,
}

type DecodeFn = dyn Fn(&str, u32, &[u8]) -> Result<(Erased, SagaId), DecodeError> + Send + Sync;
type EffectFn = dyn Fn(Call, Erased) -> LocalBoxFuture<'static, Result<Erased, StepError>> + Send + Sync;
type RunFn<S> =
    dyn for<'a> Fn(&'a mut Cx<'_, S>, Vec<Input>) -> LocalBoxFuture<'a, Result<Vec<End>, StepError>> + Send + Sync;
type ExhaustedFn<S> = dyn for<'a> Fn(&'a mut Cx<'_, S>, Erased, &'a StepError) -> LocalBoxFuture<'a, Result<End, StepError>>
    + Send
    + Sync;
type NullFn = dyn Fn(&Erased) -> Result<End, StepError> + Send + Sync;
type ExpireFn<S> =
    dyn for<'a> Fn(&'a mut Cx<'_, S>, Vec<SagaId>) -> LocalBoxFuture<'a, Result<Vec<End>, StepError>> + Send + Sync;

/// The action or the compensation of a step, type-erased, as the runtime needs it.
pub(crate) struct Half<S: Store> {
    pub(crate) decode: Box<DecodeFn>,
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

impl<S: Store> ErasedStep<S> {
    pub(crate) fn half(&self, op: Op) -> Option<&Half<S>> {
        match op {
            Op::Action => Some(&self.action),
            Op::Compensate => self.compensation.as_ref(),
        }
    }
}

/// A step under declaration: `T` starts it, it publishes `O` on success and `R` on refusal.
pub struct Step<S: Store, T, O, R> {
    erased: ErasedStep<S>,
    types: PhantomData<fn(T) -> (O, R)>,
}

/// For spans and log lines only: the text of `type_name` is not stable.
fn function_name<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

fn trigger_of<T: Trigger>(erased: &Erased) -> Result<T, StepError> {
    erased.downcast_ref::<T>().cloned().ok_or_else(|| StepError::permanent("an event reached the wrong step"))
}

fn answer_of<X: Clone + 'static>(input: &Input) -> Result<X, StepError> {
    let answer = input.answer.as_ref().and_then(|a| a.downcast_ref::<X>());
    answer.cloned().ok_or_else(|| StepError::permanent("the step ran without its effect"))
}

fn decode<T: Trigger + Sync>() -> Box<DecodeFn> {
    Box::new(|name, version, data| {
        let read = || {
            let trigger = T::decode(name, version, data)?;
            let saga_id = trigger.saga_id();
            Ok((Arc::new(trigger) as Erased, saga_id))
        };
        caught(read).unwrap_or_else(|| Err(DecodeError::Invalid("the code of its type panicked".to_owned())))
    })
}

fn effect_fn<T, X, F>(effect: F) -> Box<EffectFn>
where
    T: Trigger,
    X: Clone + Send + Sync + 'static,
    F: AsyncFn(&Call, &T) -> Result<X, StepError> + Send + Sync + 'static,
{
    let effect = Arc::new(effect);
    Box::new(move |call, trigger| {
        let effect = effect.clone();
        Box::pin(async move {
            let trigger = trigger_of::<T>(&trigger)?;
            effect(&call, &trigger).await.map(|answer| Arc::new(answer) as Erased)
        })
    })
}

/// One outcome for each event; none when the handler has rejected events by name, since it then runs again without
/// them.
fn same_count<S: Store, A>(cx: &Cx<'_, S>, handler: &str, made: Vec<A>, wanted: usize) -> Result<Vec<A>, StepError> {
    if cx.has_rejected() {
        return Ok(Vec::new());
    }
    if made.len() == wanted {
        return Ok(made);
    }
    Err(StepError::permanent(format!("{handler} returned {} outcomes for {wanted} events", made.len())))
}

impl<S, T, O, R> Step<S, T, O, R>
where
    S: Store,
    T: Trigger + Sync,
    O: Emit,
    R: Emit,
{
    fn of(name: &'static str, action: Half<S>) -> Self {
        let spec = StepSpec {
            name,
            triggers: T::event_types(),
            success: O::event_type(),
            refusal: R::event_type(),
            compensation: None,
            deadline: None,
            effect: action.effect.is_some(),
            pivot: false,
        };
        let erased = ErasedStep {
            spec,
            action,
            compensation: None,
            retry: RetryPolicy::default(),
            effects: EffectLimits::default(),
            expire: None,
        };
        Self { erased, types: PhantomData }
    }

    /// A step that does all its work in the local transaction. The name is a key in the database: it is part of the
    /// barrier's rows and of the ids of the step's events. A step that is renamed while sagas are in flight would
    /// therefore run again.
    pub fn new<Shape, F: Action<S, T, O, R, Shape>>(name: &'static str, action: F) -> Self {
        let action = Arc::new(action);
        let run: Box<RunFn<S>> = Box::new(move |cx, inputs| {
            let action = action.clone();
            Box::pin(async move {
                let count = inputs.len();
                let triggers = inputs.iter().map(|i| trigger_of::<T>(&i.trigger)).collect::<Result<_, _>>()?;
                let outcomes = action.run(cx, triggers).await?;
                let outcomes = same_count(cx, name, outcomes, count)?;
                outcomes.iter().map(End::from_outcome).collect()
            })
        });
        Self::of(name, Half { decode: decode::<T>(), effect: None, run, null: None, exhausted: None, abandon: None })
    }

    /// A step that first calls an outside system, then records its result. The effect is called outside any
    /// transaction, concurrently with those of other sagas. It is repeated after a crash or a transient failure, always
    /// with the same idempotency key. The intent is committed before the call, so that a compensation after a crash
    /// knows that the effect may have happened.
    pub fn with_effect<Shape, X, E, F>(name: &'static str, effect: E, action: F) -> Self
    where
        X: Clone + Send + Sync + 'static,
        E: AsyncFn(&Call, &T) -> Result<X, StepError> + Send + Sync + 'static,
        F: ActionAfter<S, T, X, O, R, Shape>,
    {
        let action = Arc::new(action);
        let run: Box<RunFn<S>> = Box::new(move |cx, inputs| {
            let action = action.clone();
            Box::pin(async move {
                let count = inputs.len();
                let pair = |input: &Input| -> Result<(T, X), StepError> {
                    Ok((trigger_of(&input.trigger)?, answer_of(input)?))
                };
                let inputs = inputs.iter().map(pair).collect::<Result<_, _>>()?;
                let outcomes = action.run(cx, inputs).await?;
                let outcomes = same_count(cx, name, outcomes, count)?;
                outcomes.iter().map(End::from_outcome).collect()
            })
        });
        Self::of(
            name,
            Half {
                decode: decode::<T>(),
                effect: Some(effect_fn(effect)),
                run,
                null: None,
                exhausted: None,
                abandon: None,
            },
        )
    }

    /// The compensation of the action.
    #[must_use]
    pub fn undone_by<Shape, U, C, F>(mut self, undo: F) -> Self
    where
        U: Trigger + Sync,
        C: Event + From<U>,
        F: Compensation<S, U, C, Shape>,
    {
        self.set_compensation::<Shape, U, C, F>(None, undo);
        self
    }

    /// A compensation that first reverses the outside effect. When the effect has not happened, the call must make sure
    /// that a late call under [`Call::action_key`] does nothing.
    #[must_use]
    pub fn undone_with_effect<Shape, U, C, E, F>(mut self, effect: E, undo: F) -> Self
    where
        U: Trigger + Sync,
        C: Event + From<U>,
        E: AsyncFn(&Call, &U) -> Result<(), StepError> + Send + Sync + 'static,
        F: Compensation<S, U, C, Shape>,
    {
        self.set_compensation::<Shape, U, C, F>(Some(effect_fn(effect)), undo);
        self
    }

    fn set_compensation<Shape, U, C, F>(&mut self, effect: Option<Box<EffectFn>>, undo: F)
    where
        U: Trigger + Sync,
        C: Event + From<U>,
        F: Compensation<S, U, C, Shape>,
    {
        let name = function_name::<F>();
        self.erased.spec.compensation = Some(CompensationSpec {
            name,
            triggers: U::event_types(),
            event: EventType::of::<C>(),
            effect: effect.is_some(),
        });
        let undo = Arc::new(undo);
        let run: Box<RunFn<S>> = Box::new(move |cx, inputs| {
            let undo = undo.clone();
            Box::pin(async move {
                let count = inputs.len();
                let triggers = inputs.iter().map(|i| trigger_of::<U>(&i.trigger)).collect::<Result<_, _>>()?;
                let events = undo.run(cx, triggers).await?;
                let events = same_count(cx, name, events, count)?;
                events.iter().map(|event| End::of(event, false)).collect()
            })
        });
        let null: Box<NullFn> = Box::new(|trigger| {
            let made = caught(|| End::of(&C::from(trigger_of::<U>(trigger)?), false));
            made.unwrap_or_else(|| Err(StepError::permanent("making the event of a null compensation panicked")))
        });
        self.erased.compensation =
            Some(Half { decode: decode::<U>(), effect, run, null: Some(null), exhausted: None, abandon: None });
    }

    /// When the retries are used up, refuse with what this handler returns instead of dead-lettering the event.
    #[must_use]
    pub fn when_exhausted<F>(mut self, handler: F) -> Self
    where
        F: AsyncFn(&mut Cx<'_, S>, T, &StepError) -> Result<R, StepError> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        self.erased.action.exhausted = Some(Box::new(move |cx, trigger, failure| {
            let handler = handler.clone();
            Box::pin(async move { End::of(&handler(cx, trigger_of::<T>(&trigger)?, failure).await?, true) })
        }));
        self
    }

    /// Like [`Step::when_exhausted`] for a step with an effect. An attempt that timed out may have taken effect, so
    /// `abandon` is called first: it voids whatever happened under [`Call::action_key`], and prevents later calls under
    /// that key. The saga stays parked until that has succeeded, so that no saga is refused while its effect may be in
    /// place.
    #[must_use]
    pub fn when_exhausted_with_effect<E, F>(mut self, abandon: E, handler: F) -> Self
    where
        E: AsyncFn(&Call, &T) -> Result<(), StepError> + Send + Sync + 'static,
        F: AsyncFn(&mut Cx<'_, S>, T, &StepError) -> Result<R, StepError> + Send + Sync + 'static,
    {
        self.erased.action.abandon = Some(effect_fn(abandon));
        self.when_exhausted(handler)
    }

    /// The retry policy of the step, its compensation and their effects.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.erased.retry = policy;
        self
    }

    /// How the step's effects may call the outside system.
    #[must_use]
    pub fn effect_limits(mut self, limits: EffectLimits) -> Self {
        self.erased.effects = limits;
        self
    }

    /// After this step the saga can only go forward: no later step needs a compensation.
    #[must_use]
    pub fn pivot(mut self) -> Self {
        self.erased.spec.pivot = true;
        self
    }

    /// After this step the participant waits. When no later forward step of this participant has ended the wait within
    /// `after`, the handler is called: it publishes an event, or decides that none is needed. The timer is durable.
    #[must_use]
    pub fn deadline<D, F>(mut self, after: Duration, expired: F) -> Self
    where
        D: Event,
        F: AsyncFn(&mut Cx<'_, S>, Vec<SagaId>) -> Result<Vec<Outcome<D>>, StepError> + Send + Sync + 'static,
    {
        self.erased.spec.deadline = Some(DeadlineSpec { after, event: EventType::of::<D>() });
        let expired = Arc::new(expired);
        self.erased.expire = Some(Box::new(move |cx, sagas| {
            let expired = expired.clone();
            Box::pin(async move {
                let count = sagas.len();
                let outcomes = expired(cx, sagas).await?;
                if let Some((_, error)) = cx.take_rejected().pop() {
                    return Err(error);
                }
                let outcomes = same_count(cx, "the deadline's handler", outcomes, count)?;
                outcomes.iter().map(End::from_outcome).collect()
            })
        }));
        self
    }
}

impl<S: Store, T, O, R> From<Step<S, T, O, R>> for ErasedStep<S> {
    fn from(step: Step<S, T, O, R>) -> Self {
        step.erased
    }
}
