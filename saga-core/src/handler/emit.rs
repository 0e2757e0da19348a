//! What a step publishes: an event, one of several, several at once, or nothing.

use crate::{
    event::{Event, EventType, SagaId},
    graph::Emits,
    outcome::{Never, StepError},
};

pub use saga_macros::Emit;

/// An event that a step has published, as data.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// Its type.
    pub event_type: EventType,
    /// Its data as JSON.
    pub data: Vec<u8>,
    /// Its saga.
    pub saga_id: SagaId,
}

impl Emitted {
    /// This event as data.
    ///
    /// # Errors
    /// When the event cannot be written as JSON, which is a defect of its type.
    pub fn of<E: Event>(event: &E) -> Result<Self, StepError> {
        let failed = |e| StepError::permanent(format!("{} cannot be written as JSON", E::NAME)).caused_by(e);
        let data = serde_json::to_vec(event).map_err(failed)?;
        Ok(Self { event_type: EventType::of::<E>(), data, saga_id: event.saga_id() })
    }
}

/// What a step publishes on success, or on refusal:
///
/// - an [`Event`];
/// - one of several, a *choice*: an enum with `#[derive(Emit)]`, whose variants hold one of these each;
/// - several at once, each with data of its own: a tuple of up to six of these. All are events of the step's saga;
/// - nothing: [`Never`].
///
/// ```
/// use saga_core::{*, handler::Cx, testing::MemoryStore};
/// # use uuid::Uuid;
/// # macro_rules! event { ($name:ident, $type:literal) => {
/// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
/// # #[event(name = $type, topic = "trip.events", saga = "id")]
/// # struct $name { id: Uuid }
/// # } }
/// # event!(Requested, "trip.requested"); event!(FlightWanted, "flight.wanted"); event!(HotelWanted, "hotel.wanted");
/// # event!(NightTrainWanted, "night_train.wanted");
/// # fn is_far(_: &Requested) -> bool { true }
///
/// #[derive(Emit)]
/// enum Plan {
///     Fly((FlightWanted, HotelWanted)),
///     Sleep(NightTrainWanted),
/// }
///
/// async fn plan(_: &mut Cx<'_, MemoryStore>, trip: Requested) -> StepResult<Plan> {
///     let id = trip.id;
///     Ok(Outcome::Success(match is_far(&trip) {
///         true => Plan::Fly((FlightWanted { id }, HotelWanted { id })),
///         false => Plan::Sleep(NightTrainWanted { id }),
///     }))
/// }
///
/// let trip = Participant::named("trip").step(Step::new("plan", plan)).declaration();
/// let alternatives: Vec<usize> = trip.steps[0].success.alternatives().iter().map(Vec::len).collect();
/// assert_eq!(alternatives, [2, 1]);
/// ```
#[diagnostic::on_unimplemented(
    message = "a step cannot publish `{Self}`",
    label = "neither an event, nor several, nor one of several, nor `Never`",
    note = "an event has `#[saga_event(name = \"..\", topic = \"..\", saga = \"..\")]` above it; to publish nothing, write `StepResult<Never>`",
    note = "one of several is an enum with `#[derive(Emit)]` and one event per variant; several at once are a tuple `(A, B)`"
)]
pub trait Emit: Send + 'static {
    /// What it may publish.
    fn emits() -> Emits;

    /// Adds the events that this value publishes, in their order.
    ///
    /// # Errors
    /// When an event cannot be written as JSON, which is a defect of its type.
    fn emit(&self, events: &mut Vec<Emitted>) -> Result<(), StepError>;
}

impl<E: Event> Emit for E {
    fn emits() -> Emits {
        Emits::one(EventType::of::<E>())
    }

    fn emit(&self, events: &mut Vec<Emitted>) -> Result<(), StepError> {
        events.push(Emitted::of(self)?);
        Ok(())
    }
}

impl Emit for Never {
    fn emits() -> Emits {
        Emits::nothing()
    }

    fn emit(&self, _: &mut Vec<Emitted>) -> Result<(), StepError> {
        match *self {}
    }
}

macro_rules! several {
    ($first:ident $(, $other:ident)+) => {
        impl<$first: Emit, $($other: Emit),+> Emit for ($first, $($other),+) {
            fn emits() -> Emits {
                $first::emits()$(.and($other::emits()))+
            }

            #[allow(non_snake_case, reason = "a part is named as its type")]
            fn emit(&self, events: &mut Vec<Emitted>) -> Result<(), StepError> {
                let ($first, $($other),+) = self;
                $first.emit(events)?;
                $($other.emit(events)?;)+
                Ok(())
            }
        }
    };
}

several!(A, B);
several!(A, B, C);
several!(A, B, C, D);
several!(A, B, C, D, E);
several!(A, B, C, D, E, F);
