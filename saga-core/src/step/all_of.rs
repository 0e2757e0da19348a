//! What has to arrive before a step runs: one trigger, or each of a tuple of them.

use crate::{
    event::{DecodeError, EventType, SagaId, Trigger},
    step::erased::Erased,
};

/// An arrival: a decoded event of one part, type-erased.
#[derive(Clone)]
pub struct Part(pub(crate) Erased);

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The data of an event may be personal: it never reaches a log.
        f.write_str("Part(..)")
    }
}

/// What a step is given: a [`Trigger`], which starts it at once, or a tuple of them: a *join*, which waits until each has arrived,
/// in any order.
///
/// ```
/// # use saga_core::{*, handler::*, testing::MemoryStore}; use uuid::Uuid; use std::time::Duration;
/// # use schemars::JsonSchema; use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// # #[event(name = "flight.reserved", topic = "flight.events", saga = "trip_id")]
/// # struct FlightReserved { trip_id: Uuid, cents: i64 }
/// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// # #[event(name = "hotel.reserved", topic = "hotel.events", saga = "trip_id")]
/// # struct HotelReserved { trip_id: Uuid, cents: i64 }
/// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// # #[event(name = "payment.charged", topic = "payment.events", saga = "trip_id")]
/// # struct Charged { trip_id: Uuid, cents: i64 }
/// # #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// # #[event(name = "payment.expired", topic = "payment.events", saga = "trip_id")]
/// # struct Expired { trip_id: Uuid }
/// async fn pay(
///     _: &mut Cx<'_, MemoryStore>,
///     (flight, hotel): (FlightReserved, HotelReserved),
/// ) -> StepResult<Charged> {
///     Ok(Outcome::Success(Charged { trip_id: flight.trip_id, cents: flight.cents + hotel.cents }))
/// }
///
/// async fn expire(_: &mut Cx<'_, MemoryStore>, trips: Vec<SagaId>) -> Result<Vec<Outcome<Expired>>, StepError> {
///     Ok(trips.into_iter().map(|trip| Outcome::Success(Expired { trip_id: trip.as_uuid() })).collect())
/// }
///
/// let pay = Step::new("pay", pay).arrivals_within(Duration::from_secs(15 * 60), expire);
/// let payment = Participant::named("payment").step(pay).declaration();
/// let parts: Vec<_> = payment.steps[0].triggers.parts().map(|part| part[0].name).collect();
/// assert_eq!(parts, ["flight.reserved", "hotel.reserved"]);
/// ```
///
/// Each part may itself be an enum of alternatives (`#[derive(Trigger)]`): it has arrived with the first of them. What has arrived
/// is stored in the participant's database until the last part is there.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot start a step",
    label = "neither an event, a `Trigger` nor a tuple of them",
    note = "a step is started by one event, or by one of several: `#[derive(Clone, Debug, Trigger)]` on an enum with one event per variant",
    note = "a step that waits for all of several events takes them as a tuple: `(FlightReserved, HotelReserved)`",
    note = "a compensation that several events start takes what is made from each: see `Step::on`"
)]
pub trait AllOf: Clone + Send + Sync + Sized + 'static {
    /// The parts, each with the events of which any makes it arrive.
    fn parts() -> Vec<Vec<EventType>>;
    /// Reads the data of event type `name`, which is one of a part's, and says whose it is.
    ///
    /// # Errors
    /// As [`Trigger::decode`].
    fn decode(name: &str, version: u32, data: &[u8]) -> Result<(Part, SagaId), DecodeError>;
    /// Puts the arrivals together, one for each part, in their order. None when one of them is of another type.
    fn join(parts: &[Part]) -> Option<Part>;
}

#[diagnostic::do_not_recommend]
impl<T: Trigger + Sync> AllOf for T {
    fn parts() -> Vec<Vec<EventType>> {
        vec![T::event_types()]
    }

    fn decode(name: &str, version: u32, data: &[u8]) -> Result<(Part, SagaId), DecodeError> {
        let trigger = <T as Trigger>::decode(name, version, data)?;
        let saga_id = trigger.saga_id();
        Ok((Part::of(trigger), saga_id))
    }

    fn join(parts: &[Part]) -> Option<Part> {
        parts.first().cloned()
    }
}

impl Part {
    fn of<T: Send + Sync + 'static>(trigger: T) -> Self {
        Self(std::sync::Arc::new(trigger))
    }

    fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.0.downcast_ref::<T>().cloned()
    }
}

macro_rules! all_of {
    ($($part:ident),+) => {
        #[diagnostic::do_not_recommend]
        impl<$($part: Trigger + Sync),+> AllOf for ($($part,)+) {
            fn parts() -> Vec<Vec<EventType>> {
                vec![$($part::event_types()),+]
            }

            fn decode(name: &str, version: u32, data: &[u8]) -> Result<(Part, SagaId), DecodeError> {
                $(if $part::event_types().iter().any(|event| event.name == name) {
                    return <$part as AllOf>::decode(name, version, data);
                })+
                Err(DecodeError::Undecodable(format!("{name} is no part of this step")))
            }

            fn join(parts: &[Part]) -> Option<Part> {
                let mut parts = parts.iter();
                Some(Part::of(($(parts.next()?.get::<$part>()?,)+)))
            }
        }
    };
}

all_of!(A, B);
all_of!(A, B, C);
all_of!(A, B, C, D);
all_of!(A, B, C, D, E);
all_of!(A, B, C, D, E, F);
