//! Domain events: what happened, in the past tense, keyed by the saga it belongs to.

use std::fmt;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

mod json;

pub use saga_macros::Event;

pub use crate::saga_id::SagaId;

use crate::dead_letter::Reason;

/// A domain event of a choreography. Derive it:
///
/// ```
/// use saga_core::Event;
/// use uuid::Uuid;
///
/// #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
/// #[event(name = "trip.requested", version = 1, topic = "trip.events", saga = "trip_id")]
/// struct TripRequested {
///     trip_id: Uuid,
///     total_cents: i64,
/// }
/// assert_eq!(TripRequested::NAME, "trip.requested");
/// ```
///
/// `saga` names the field that holds the saga's id; `version` is 1 when left out; `validate = "path"` names a
/// `fn(&Self) -> Result<(), String>` that data from outside must pass. Data that does not is dead-lettered as `invalid`.
/// `from(HotelRejected, PaymentDeclined)` writes `From` for each of these events, whose fields of the same names it takes over:
/// what a compensation publishes is made so from whatever started it (see [`Step::on`](crate::Step::on)).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "put `#[saga_event(name = \"trip.requested\", topic = \"trip.events\", saga = \"trip_id\")]` above it; without the crate `saga`, \
            derive `Event`, `Clone`, `Debug`, `Serialize`, `Deserialize` and `JsonSchema`"
)]
pub trait Event: Serialize + DeserializeOwned + JsonSchema + Clone + fmt::Debug + Send + 'static {
    /// The CloudEvents type: past tense, dotted, e.g. `inventory.reserved`.
    const NAME: &'static str;
    /// The version of the data's schema; a consumer handles exactly this one.
    const VERSION: u32;
    /// The topic the event is published to.
    const TOPIC: &'static str;

    /// The saga the event belongs to.
    fn saga_id(&self) -> SagaId;

    /// The field of the data that holds the saga's id, where there is one. Its schema gives the spelling of the id.
    fn saga_field() -> Option<&'static str> {
        None
    }

    /// Checks what the types cannot express. The message says what is wrong without quoting the data.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

/// An event type as data, for the graph, the schemas and the envelope.
#[derive(Clone, Copy)]
pub struct EventType {
    /// See [`Event::NAME`].
    pub name: &'static str,
    /// See [`Event::VERSION`].
    pub version: u32,
    /// See [`Event::TOPIC`].
    pub topic: &'static str,
    /// See [`Event::saga_field`].
    pub saga_field: Option<&'static str>,
    data: Data,
}

/// What is known about an event's data.
#[derive(Clone, Copy)]
enum Data {
    /// Known from its Rust type.
    Type { schema: fn() -> schemars::Schema, read: fn(&[u8]) -> Result<SagaId, DecodeError> },
    /// Known from a declaration that was read: its JSON Schema.
    Declared(&'static serde_json::Value),
}

impl EventType {
    /// The declaration of `E`.
    pub fn of<E: Event>() -> Self {
        let read = |data: &[u8]| <E as Trigger>::decode(E::NAME, E::VERSION, data).map(|event| Event::saga_id(&event));
        let data = Data::Type { schema: json::schema::<E>, read };
        Self { name: E::NAME, version: E::VERSION, topic: E::TOPIC, saga_field: E::saga_field(), data }
    }

    /// The type as a declaration or a test describes it, without a Rust type.
    pub(crate) fn declared(
        (name, version): (&'static str, u32),
        topic: &'static str,
        schema: &'static serde_json::Value,
    ) -> Self {
        Self { name, version, topic, saga_field: None, data: Data::Declared(schema) }
    }

    /// The JSON Schema of the data.
    pub fn schema(&self) -> serde_json::Value {
        match self.data {
            Data::Type { schema, .. } => schema().to_value(),
            Data::Declared(schema) => schema.clone(),
        }
    }

    /// Reads the data as its consumers do, with the checks of its Rust type. Returns the saga id; none when only a
    /// declaration is known, whose schema is then the only check.
    ///
    /// # Errors
    /// When a consumer would dead-letter it.
    pub fn check(&self, data: &[u8]) -> Result<Option<SagaId>, DecodeError> {
        match self.data {
            Data::Type { read, .. } => read(data).map(Some),
            Data::Declared(_) => Ok(None),
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} on {}", self.name, self.version, self.topic)
    }
}

impl PartialEq for EventType {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.version, self.topic) == (other.name, other.version, other.topic)
    }
}

impl Eq for EventType {}

/// Why the data of a consumed type cannot be passed to a step. Each of these dead-letters the event.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// A version that this participant does not handle.
    #[error("version {0} is not supported")]
    UnsupportedVersion(u32),
    /// Not JSON, or JSON of another shape.
    #[error("the data cannot be decoded: {0}")]
    Undecodable(String),
    /// Decoded, but [`Event::validate`] refused it.
    #[error("the data is invalid: {0}")]
    Invalid(String),
    /// Decoded, but the saga's id is spelled differently from the key.
    #[error("the saga's id in the data is in another spelling: write {0}")]
    Spelling(SagaId),
}

impl DecodeError {
    /// The reason that the dead letter gives.
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnsupportedVersion(_) => Reason::UnsupportedVersion,
            Self::Undecodable(_) => Reason::Undecodable,
            Self::Invalid(_) => Reason::Invalid,
            Self::Spelling(_) => Reason::KeyMismatch,
        }
    }
}

/// What starts a step: one event type, or one of several (`#[derive(Trigger)]` on an enum with one event per variant).
///
/// ```
/// # use saga_core::{Event, Trigger}; use uuid::Uuid;
/// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
/// # #[event(name = "inventory.rejected", topic = "inventory.events", saga = "trip_id")]
/// # struct InventoryRejected { trip_id: Uuid }
/// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
/// # #[event(name = "inventory.released", topic = "inventory.events", saga = "trip_id")]
/// # struct InventoryReleased { trip_id: Uuid }
/// #[derive(Clone, Debug, Trigger)]
/// enum NothingHeld {
///     Rejected(InventoryRejected),
///     Released(InventoryReleased),
/// }
/// assert_eq!(NothingHeld::event_types().len(), 2);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot start a step",
    label = "neither an event nor a `Trigger`",
    note = "a step is started by one event, or by one of several: `#[derive(Clone, Debug, Trigger)]` on an enum with one event per variant",
    note = "a compensation that several events start takes what is made from each: see `Step::on`"
)]
pub trait Trigger: Clone + Send + Sized + 'static {
    /// The event types that start the step.
    fn event_types() -> Vec<EventType>;
    /// Reads the data of event type `name`, which is one of [`Trigger::event_types`].
    fn decode(name: &str, version: u32, data: &[u8]) -> Result<Self, DecodeError>;
    /// The saga the event belongs to.
    fn saga_id(&self) -> SagaId;
}

pub use saga_macros::Trigger;

impl<E: Event> Trigger for E {
    fn event_types() -> Vec<EventType> {
        vec![EventType::of::<E>()]
    }

    fn decode(_name: &str, version: u32, data: &[u8]) -> Result<Self, DecodeError> {
        if version != E::VERSION {
            return Err(DecodeError::UnsupportedVersion(version));
        }
        // Serde would accept a list for a struct and read it field by field.
        if data.trim_ascii_start().starts_with(b"[") {
            return Err(DecodeError::Undecodable("JSON of another shape: a list".to_owned()));
        }
        let event: E = json::read(data).map_err(|e| DecodeError::Undecodable(shape_of(&e)))?;
        event.validate().map_err(DecodeError::Invalid)?;
        let saga_id = Event::saga_id(&event);
        if json::spells_otherwise(data, saga_id) {
            return Err(DecodeError::Spelling(saga_id));
        }
        Ok(event)
    }

    fn saga_id(&self) -> SagaId {
        Event::saga_id(self)
    }
}

/// serde_json's message, reduced to kind and position: the original may quote the data.
fn shape_of(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => "unreadable",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Eof => "JSON that ends early",
        serde_json::error::Category::Data => "JSON of another shape",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}
