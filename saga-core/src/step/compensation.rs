//! The compensation of a step, and the events that start it.

use std::{marker::PhantomData, sync::Arc};

use super::{
    Step,
    all_of::AllOf,
    erased::{Effect, End, Erased, Half, NullFn, RunFn, decode_with, same_count, trigger_of},
    one_of::OneOf,
};
use crate::{
    event::{Event, EventType},
    graph::{CompensationSpec, Triggers},
    handler::{Call, Compensation, Cx, Emit},
    outcome::StepError,
    panics::caught,
    store::Store,
};

/// For spans and log lines only: the text of `type_name` is not stable.
fn function_name<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

impl<S, T, O, R, V> Step<S, T, O, R, V>
where
    S: Store,
    T: AllOf,
    O: Emit,
    R: Emit,
{
    /// The compensation of the action.
    #[must_use]
    pub fn undone_by<Shape, U, C, F>(self, undo: F) -> Step<S, T, O, R, U>
    where
        U: AllOf,
        C: Event + From<U>,
        F: Compensation<S, U, C, Shape>,
    {
        self.compensated::<Shape, U, C, F>(None, undo)
    }

    /// A compensation that first reverses the outside effect. When the effect has not happened, the call must make sure
    /// that a late call under [`Call::action_key`] does nothing.
    #[must_use]
    pub fn undone_with_effect<Shape, U, C, E, F>(self, effect: E, undo: F) -> Step<S, T, O, R, U>
    where
        U: AllOf,
        C: Event + From<U>,
        E: AsyncFn(&Call, &U) -> Result<(), StepError> + Send + Sync + 'static,
        F: Compensation<S, U, C, Shape>,
    {
        self.compensated::<Shape, U, C, F>(Some(Effect::of(effect)), undo)
    }

    /// Like [`Step::undone_with_effect`] for an effect that needs what the action has stored: `prepare` reads it in the
    /// transaction before each call. An action that a crash interrupted has stored nothing, and its effect is reversed
    /// nevertheless, so `P` is often an `Option`.
    ///
    /// A null compensation calls nothing, and prepares nothing.
    ///
    /// ```
    /// # use saga_core::{*, handler::*, testing::MemoryStore}; use uuid::Uuid;
    /// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
    /// # #[event(name = "trip.booked", topic = "trip.events", saga = "id")]
    /// # struct Booked { id: Uuid }
    /// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
    /// # #[event(name = "trip.cancelled", topic = "trip.events", saga = "id")]
    /// # struct Cancelled { id: Uuid }
    /// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
    /// # #[event(name = "payment.charged", topic = "payment.events", saga = "id")]
    /// # struct Charged { id: Uuid }
    /// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
    /// # #[event(name = "payment.refunded", topic = "payment.events", saga = "id")]
    /// # struct Refunded { id: Uuid }
    /// # impl From<Cancelled> for Refunded { fn from(why: Cancelled) -> Self { Self { id: why.id } } }
    /// # async fn pay(call: &Call, trip: &Booked) -> Result<String, StepError> { Ok(format!("ch_{}", trip.id)) }
    /// async fn charge(cx: &mut Cx<'_, MemoryStore>, trip: Booked, receipt: String) -> StepResult<Charged> {
    ///     cx.tx().put(&format!("receipt/{}", trip.id), &receipt);
    ///     Ok(Outcome::Success(Charged { id: trip.id }))
    /// }
    ///
    /// async fn receipt(cx: &mut Cx<'_, MemoryStore>, why: &Cancelled) -> Result<Option<String>, StepError> {
    ///     Ok(cx.tx().get(&format!("receipt/{}", why.id)))
    /// }
    ///
    /// async fn pay_back(call: &Call, _: &Cancelled, receipt: &Option<String>) -> Result<(), StepError> {
    ///     match receipt {
    ///         Some(receipt) => println!("refund {receipt}, once: {}", call.idempotency_key),
    ///         None => println!("void {}, if it was ever charged", call.action_key),
    ///     }
    ///     Ok(())
    /// }
    ///
    /// async fn refund(_: &mut Cx<'_, MemoryStore>, why: Cancelled) -> Result<Refunded, StepError> {
    ///     Ok(why.into())
    /// }
    ///
    /// let step = Step::with_effect("charge", pay, charge).undone_with_prepared_effect(receipt, pay_back, refund);
    /// let payment = Participant::named("payment").step(step);
    /// assert!(payment.declaration().steps[0].compensation.as_ref().is_some_and(|compensation| compensation.effect));
    /// ```
    #[must_use]
    pub fn undone_with_prepared_effect<Shape, U, C, P, Q, E, F>(
        self,
        prepare: Q,
        effect: E,
        undo: F,
    ) -> Step<S, T, O, R, U>
    where
        U: AllOf,
        C: Event + From<U>,
        P: Send + Sync + 'static,
        Q: AsyncFn(&mut Cx<'_, S>, &U) -> Result<P, StepError> + Send + Sync + 'static,
        E: AsyncFn(&Call, &U, &P) -> Result<(), StepError> + Send + Sync + 'static,
        F: Compensation<S, U, C, Shape>,
    {
        self.compensated::<Shape, U, C, F>(Some(Effect::prepared(prepare, effect)), undo)
    }

    fn compensated<Shape, U, C, F>(mut self, effect: Option<Effect<S>>, undo: F) -> Step<S, T, O, R, U>
    where
        U: AllOf,
        C: Event + From<U>,
        F: Compensation<S, U, C, Shape>,
    {
        let name = function_name::<F>();
        self.erased.spec.compensation = Some(CompensationSpec {
            name,
            triggers: Triggers::all_of(U::parts()),
            event: EventType::of::<C>(),
            effect: effect.is_some(),
            best_effort: false,
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
        let half = Half { null: Some(null), ..Half::new::<U>(run) };
        self.erased.compensation = Some(half.with(effect));
        Step { erased: self.erased, types: PhantomData }
    }
}

impl<S, T, O, R, U> Step<S, T, O, R, U>
where
    S: Store,
    U: AllOf,
{
    /// The events that start the compensation: any of them. Its handler is given a `U` that is made from that event. The
    /// simplest `U` is the event that the compensation publishes:
    ///
    /// ```
    /// # use saga_core::{*, handler::*, testing::MemoryStore}; use uuid::Uuid;
    /// # use schemars::JsonSchema; use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
    /// # struct TripRequested { trip_id: Uuid }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
    /// # struct FlightReserved { trip_id: Uuid }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "hotel.rejected", topic = "hotel.events", saga = "trip_id")]
    /// # struct HotelRejected { trip_id: Uuid, reason: String }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "payment.declined", topic = "payment.events", saga = "trip_id")]
    /// # struct PaymentDeclined { trip_id: Uuid, reason: String }
    /// # async fn reserve(_: &mut Cx<'_, MemoryStore>, trip: TripRequested) -> StepResult<FlightReserved> {
    /// #     Ok(Outcome::Success(FlightReserved { trip_id: trip.trip_id }))
    /// # }
    /// #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// #[event(name = "flight.released", topic = "flight.events", saga = "trip_id", from(HotelRejected, PaymentDeclined))]
    /// struct FlightReleased { trip_id: Uuid, reason: String }
    ///
    /// async fn release(cx: &mut Cx<'_, MemoryStore>, released: FlightReleased) -> Result<FlightReleased, StepError> {
    ///     cx.tx().put(&format!("seat/{}", released.trip_id), &false);
    ///     Ok(released)
    /// }
    ///
    /// let step = Step::new("reserve", reserve).undone_by(release).on::<(HotelRejected, PaymentDeclined)>();
    /// let flight = Participant::named("flight").step(step).declaration();
    /// let started_by = flight.steps[0].compensation.iter().flat_map(|compensation| &compensation.triggers);
    /// assert_eq!(started_by.map(|event| event.name).collect::<Vec<_>>(), ["hotel.rejected", "payment.declined"]);
    /// ```
    ///
    /// Without `on`, `U` itself starts the compensation: an event, or an enum of events that the handler tells apart.
    #[must_use]
    pub fn on<Events: OneOf<U>>(mut self) -> Self {
        if let (Some(spec), Some(half)) = (&mut self.erased.spec.compensation, &mut self.erased.compensation) {
            spec.triggers = Events::event_types().into();
            half.join = None;
            half.decode = decode_with(|name, version, data| {
                Events::decode(name, version, data).map(|(trigger, saga_id)| (Arc::new(trigger) as Erased, saga_id))
            });
        }
        self
    }

    /// The compensation is made at best effort: when it fails for good, its saga goes on without it. That is a permanent
    /// failure, or a transient one that outlasts the step's retry policy. Without this, the saga waits: for the next attempt, or
    /// for an operator.
    ///
    /// One transaction then publishes the compensation's event, made from what started it as for a null compensation, and writes
    /// what failed into the table `saga_failed_compensation`. The event is marked as failed, and all that follow from it carry the
    /// mark on ([`Cx::is_partly_compensated`](crate::handler::Cx::is_partly_compensated)). An end of the saga that has the mark
    /// counts as *partly compensated*. The event that failed is dead-lettered as well. It is not tried again.
    ///
    /// ```
    /// # use saga_core::{*, handler::*, testing::MemoryStore}; use uuid::Uuid;
    /// # use schemars::JsonSchema; use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "trip.requested", topic = "trip.events", saga = "trip_id")]
    /// # struct TripRequested { trip_id: Uuid }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "car.reserved", topic = "car.events", saga = "trip_id")]
    /// # struct CarReserved { trip_id: Uuid }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "trip.refused", topic = "trip.events", saga = "trip_id")]
    /// # struct TripRefused { trip_id: Uuid }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    /// # #[event(name = "car.released", topic = "car.events", saga = "trip_id", from(TripRefused))]
    /// # struct CarReleased { trip_id: Uuid }
    /// # async fn reserve(_: &mut Cx<'_, MemoryStore>, trip: TripRequested) -> StepResult<CarReserved> {
    /// #     Ok(Outcome::Success(CarReserved { trip_id: trip.trip_id }))
    /// # }
    /// # async fn release(_: &mut Cx<'_, MemoryStore>, why: TripRefused) -> Result<CarReleased, StepError> { Ok(why.into()) }
    /// let step = Step::new("reserve", reserve).undone_by(release).best_effort();
    /// let car = Participant::named("car").step(step).declaration();
    /// assert!(car.steps[0].compensation.as_ref().is_some_and(|release| release.best_effort));
    /// ```
    #[must_use]
    pub fn best_effort(mut self) -> Self {
        if let Some(spec) = &mut self.erased.spec.compensation {
            spec.best_effort = true;
        }
        self
    }
}
