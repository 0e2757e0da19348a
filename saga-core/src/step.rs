//! A step: the action, its compensation, and what is declared about its failures, effects and deadlines.

mod all_of;
mod compensation;
mod erased;
mod limits;
mod one_of;
mod rounds;

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use crate::{
    event::{Event, EventType, SagaId},
    graph::{DeadlineSpec, StepSpec, Triggers},
    handler::{Action, ActionAfter, Call, Cx, Emit},
    outcome::{Outcome, StepError},
    retry::RetryPolicy,
    store::{Store, TimerKind},
};
use erased::{Effect, Half, RunFn, answer_of, call, expire, same_count, trigger_of};

pub use all_of::{AllOf, Part};
pub(crate) use erased::{End, Erased, ErasedStep, Input};
pub use limits::{BreakerPolicy, EffectLimits};
pub use one_of::{MadeFrom, OneOf};
pub use rounds::Rounds;

/// A step under declaration: `T` starts it, it publishes `O` on success and `R` on refusal, and its compensation, where it has
/// one, is handed `U`.
pub struct Step<S: Store, T, O, R, U = ()> {
    erased: ErasedStep<S>,
    types: PhantomData<Signature<T, O, R, U>>,
}

/// What starts a step and its compensation, and what the step publishes.
type Signature<T, O, R, U> = fn(T, U) -> (O, R);

/// How a step begins: with its name and its action.
impl<S, T, O, R> Step<S, T, O, R>
where
    S: Store,
    T: AllOf,
    O: Emit,
    R: Emit,
{
    fn of(name: &'static str, action: Half<S>) -> Self {
        let spec = StepSpec {
            name,
            triggers: Triggers::all_of(T::parts()),
            success: O::emits(),
            refusal: R::emits(),
            compensation: None,
            deadline: None,
            saga_deadline: None,
            arrivals_deadline: None,
            rounds: None,
            effect: action.effect.is_some(),
            pivot: false,
            until_it_succeeds: false,
        };
        let erased = ErasedStep {
            spec,
            action,
            compensation: None,
            retry: RetryPolicy::default(),
            effects: EffectLimits::default(),
            expire: BTreeMap::new(),
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
        Self::of(name, Half::new::<T>(run))
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
        Self::of(name, Half::new::<T>(run).with(Some(Effect::of(effect))))
    }
}

/// What a step may have besides.
impl<S, T, O, R, U> Step<S, T, O, R, U>
where
    S: Store,
    T: AllOf,
    O: Emit,
    R: Emit,
{
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
        self.erased.action.abandon = Some(call(abandon));
        self.when_exhausted(handler)
    }

    /// The step may run in several rounds: a handler that is not done returns [`Outcome::Again`]. What it has written is
    /// committed, and it runs again later with the same event, the round in [`Cx::round`](Cx::round). Meanwhile the saga's other
    /// events are handled, and the next round sees what they wrote. Use it to poll, to remind, and for work in portions.
    ///
    /// - An effect is called in each round, under a key of its own; [`Call::round`] says which.
    /// - A round that fails is retried under the step's policy. A round that asks for one more than `rounds` allows is rolled
    ///   back, and the step ends as when its retries are used up: it refuses as [`Step::when_exhausted`] says, or is
    ///   dead-lettered.
    /// - A step that waits for its next round counts as having run: its compensation calls the handler, and ends the rounds. A
    ///   refusal is different: nothing is compensated after it, so the refusing handler takes its checkpoints back itself.
    /// - The step's deadlines begin, and earlier ones end, with its last round. So an earlier deadline limits all rounds.
    ///
    /// ```
    /// # use std::time::Duration; use saga_core::{*, handler::Cx, testing::MemoryStore}; use uuid::Uuid;
    /// # use schemars::JsonSchema; use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "offer.made", topic = "offer.events", saga = "offer_id")]
    /// # struct Made { offer_id: Uuid }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "offer.answered", topic = "offer.events", saga = "offer_id")]
    /// # struct Answered { offer_id: Uuid }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "offer.lapsed", topic = "offer.events", saga = "offer_id")]
    /// # struct Lapsed { offer_id: Uuid }
    /// /// Reminds twice, a day apart, and lets the offer lapse a day after that.
    /// async fn remind(cx: &mut Cx<'_, MemoryStore>, offer: Made) -> StepResult<Lapsed> {
    ///     if cx.tx().get::<bool>(&format!("answered/{}", offer.offer_id)).is_some() {
    ///         return Ok(Outcome::Quiet);
    ///     }
    ///     if cx.round() == 2 {
    ///         return Ok(Outcome::Success(Lapsed { offer_id: offer.offer_id }));
    ///     }
    ///     let mail = format!("mail/{}/{}", offer.offer_id, cx.round());
    ///     cx.tx().put(&mail, &"please answer");
    ///     Ok(Outcome::Again { after: Duration::from_secs(24 * 3600) })
    /// }
    ///
    /// async fn note(cx: &mut Cx<'_, MemoryStore>, offer: Answered) -> StepResult<Never> {
    ///     cx.tx().put(&format!("answered/{}", offer.offer_id), &true);
    ///     Ok(Outcome::Quiet)
    /// }
    ///
    /// let offers = Participant::named("offer")
    ///     .step(Step::new("remind", remind).again(Rounds::at_most(3)))
    ///     .step(Step::new("note", note));
    /// assert_eq!(offers.declaration().steps[0].rounds, Some(3));
    /// ```
    #[must_use]
    pub fn again(mut self, rounds: Rounds) -> Self {
        self.erased.spec.rounds = Some(rounds.at_most);
        self
    }

    /// The retry policy of the step, its compensation and their effects.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.erased.spec.until_it_succeeds = policy.is_unlimited();
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
    /// `after`, the handler is called: it publishes an event, or decides that none is needed. The timer is durable. The
    /// step's own handler may choose another duration: see [`Cx::deadline`].
    #[must_use]
    pub fn deadline<D, F>(self, after: Duration, expired: F) -> Self
    where
        D: Event,
        F: AsyncFn(&mut Cx<'_, S>, Vec<SagaId>) -> Result<Vec<Outcome<D>>, StepError> + Send + Sync + 'static,
    {
        self.limited(TimerKind::Step, after, expired)
    }

    /// Joins only: how long the step waits for its other parts, from the first arrival on. When it has not been complete within
    /// `after`, the handler is called as that of [`Step::deadline`]. Its event closes the join: what arrives later is late, and there
    /// is nothing to compensate. Without an event, the join goes on waiting, without a deadline.
    ///
    /// A part has arrived when it was handled. One that is parked, or waits behind a parked event of its saga, has not; and a join
    /// whose last part fails waits until that part succeeds or its effect is called. So choose a time that outlasts an outage.
    #[must_use]
    pub fn arrivals_within<D, F>(self, after: Duration, expired: F) -> Self
    where
        D: Event,
        F: AsyncFn(&mut Cx<'_, S>, Vec<SagaId>) -> Result<Vec<Outcome<D>>, StepError> + Send + Sync + 'static,
    {
        self.limited(TimerKind::Arrivals, after, expired)
    }

    /// From this step on the participant waits for the end of the saga, whatever it does meanwhile: an event that it
    /// declares with [`Participant::completes_with`](crate::Participant::completes_with) or
    /// [`Participant::compensates_with`](crate::Participant::compensates_with), and publishes in a step, a compensation or a
    /// deadline. The compensation of this step ends the wait too. Otherwise as [`Step::deadline`]; a step may have both.
    ///
    /// The end may be published in the moment in which the deadline passes, in another process. So the handler reads
    /// whether the saga has ended, and returns [`Outcome::Quiet`] for one that has. It reads the row that the ending step
    /// changes, and locks it (`FOR UPDATE`, in portable SQL `:for_update`): a plain read may see the row as it was
    /// before, and both would be committed. In memory, as below, one transaction runs at a time.
    ///
    /// ```
    /// # use std::time::Duration; use saga_core::{*, handler::Cx, testing::MemoryStore}; use uuid::Uuid;
    /// # use schemars::JsonSchema; use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
    /// # struct Requested { trip_id: Uuid }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "trip.expired", topic = "trip.events", saga = "trip_id")]
    /// # struct Expired { trip_id: Uuid }
    /// # async fn register(_: &mut Cx<'_, MemoryStore>, _: Requested) -> StepResult<Never> { Ok(Outcome::Quiet) }
    /// async fn expire(cx: &mut Cx<'_, MemoryStore>, trips: Vec<SagaId>) -> Result<Vec<Outcome<Expired>>, StepError> {
    ///     let outcome = |trip: SagaId| match cx.tx().get::<bool>(&format!("ended/{trip}")) {
    ///         Some(true) => Outcome::Quiet,
    ///         _ => Outcome::Success(Expired { trip_id: trip.as_uuid() }),
    ///     };
    ///     Ok(trips.into_iter().map(outcome).collect())
    /// }
    ///
    /// let step = Step::new("register", register).saga_deadline(Duration::from_secs(30 * 60), expire);
    /// # let trip = Participant::named("trip").step(step).declaration();
    /// # assert!(trip.steps[0].saga_deadline.is_some() && trip.steps[0].deadline.is_none());
    /// ```
    #[must_use]
    pub fn saga_deadline<D, F>(self, after: Duration, expired: F) -> Self
    where
        D: Event,
        F: AsyncFn(&mut Cx<'_, S>, Vec<SagaId>) -> Result<Vec<Outcome<D>>, StepError> + Send + Sync + 'static,
    {
        self.limited(TimerKind::Saga, after, expired)
    }

    /// Declares the deadline of this kind.
    fn limited<D, F>(mut self, kind: TimerKind, after: Duration, expired: F) -> Self
    where
        D: Event,
        F: AsyncFn(&mut Cx<'_, S>, Vec<SagaId>) -> Result<Vec<Outcome<D>>, StepError> + Send + Sync + 'static,
    {
        let spec = &mut self.erased.spec;
        let deadline = match kind {
            TimerKind::Step => &mut spec.deadline,
            TimerKind::Arrivals => &mut spec.arrivals_deadline,
            TimerKind::Saga => &mut spec.saga_deadline,
        };
        *deadline = Some(DeadlineSpec { after, event: EventType::of::<D>() });
        self.erased.expire.insert(kind, expire(expired));
        self
    }
}

impl<S: Store, T, O, R, U> From<Step<S, T, O, R, U>> for ErasedStep<S> {
    fn from(step: Step<S, T, O, R, U>) -> Self {
        step.erased
    }
}
