//! Declarations from JSON. Texts and schemas are interned and live as long as the process: declarations are few.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;

use super::{
    CHOREOGRAPHY, CompensationDoc, DeadlineDoc, EventDoc, EventKeyDoc, PARTICIPANT, ParticipantDoc, Read, StepDoc,
};
use crate::{
    event::EventType,
    graph::{
        Accepted, Choreography, CompensationSpec, DeadlineSpec, Declaration, Emits, End, Rule, StepSpec, Triggers,
    },
};

/// Why a document is not a declaration.
#[derive(Debug, thiserror::Error)]
pub enum DeclarationError {
    /// The document is not JSON, or does not have the form of a declaration.
    #[error("it does not have the form of a declaration: {0}")]
    Form(#[from] serde_json::Error),
    /// The format is unknown: the document is from a newer program, or is no declaration.
    #[error(
        "its \"format\" is {0}, and this program reads \"{PARTICIPANT}\" (as a service prints with --describe) and \"{CHOREOGRAPHY}\" (as `saga graph --json` prints)"
    )]
    Format(Value),
    /// A step refers to an event whose topic and schema are missing.
    #[error("{participant} refers to the event {event}, which is missing in \"events\"")]
    UnknownEvent {
        /// The participant of the step.
        participant: String,
        /// The event reference.
        event: String,
    },
}

type Events = BTreeMap<String, EventType>;

impl Declaration {
    /// Reads the declarations of a document: one participant's, or all of a choreography.
    ///
    /// # Errors
    /// When the document is not a declaration.
    pub fn read_all(document: &[u8]) -> Result<Vec<Self>, DeclarationError> {
        let document: Value = serde_json::from_slice(document)?;
        match &document["format"] {
            Value::String(format) if format == PARTICIPANT => {
                let participant: ParticipantDoc = serde_json::from_value(document)?;
                Ok(vec![participant.declaration(&Events::new())?])
            }
            Value::String(format) if format == CHOREOGRAPHY => {
                let Read { participants, events } = serde_json::from_value(document)?;
                let events = listed(&events);
                participants.iter().map(|participant| participant.declaration(&events)).collect()
            }
            other => Err(DeclarationError::Format(other.clone())),
        }
    }
}

impl Choreography {
    /// Reads what [`Choreography::to_json`] writes.
    ///
    /// # Errors
    /// When the document is not a choreography.
    pub fn from_json(document: &[u8]) -> Result<Self, DeclarationError> {
        Ok(Self::of(Declaration::read_all(document)?))
    }
}

fn listed(events: &[EventDoc]) -> Events {
    events.iter().map(|event| (format!("{}/{}", event.name, event.version), event.event_type())).collect()
}

impl EventDoc {
    fn event_type(&self) -> EventType {
        let key = (lasting(&self.name), self.version);
        let mut event = EventType::declared(key, lasting(&self.topic), lasting_schema(&self.schema));
        event.saga_field = self.saga.as_deref().map(lasting);
        event
    }
}

impl ParticipantDoc {
    fn declaration(&self, shared: &Events) -> Result<Declaration, DeclarationError> {
        let own = listed(&self.events);
        let find = |key: &EventKeyDoc| {
            let unknown = || DeclarationError::UnknownEvent { participant: self.name.clone(), event: key.clone() };
            own.get(key).or_else(|| shared.get(key)).copied().ok_or_else(unknown)
        };
        // An acceptance of a rule that this program does not know has no effect here.
        let accepted = self.accepted.iter().filter_map(|accepted| {
            let rule = Rule::named(&accepted.rule)?;
            Some(Accepted { rule, why: lasting(&accepted.why) })
        });
        Ok(Declaration {
            participant: lasting(&self.name),
            optional: self.optional,
            accepted: accepted.collect(),
            steps: self.steps.iter().map(|step| step.spec(find)).collect::<Result<_, _>>()?,
            publishes: self.publishes.iter().map(find).collect::<Result<_, _>>()?,
            ends: self
                .ends
                .iter()
                .map(|end| Ok(End { event: find(&end.event)?, ending: end.ending }))
                .collect::<Result<_, DeclarationError>>()?,
        })
    }
}

fn triggers(
    events: &[EventKeyDoc],
    all_of: &[Vec<EventKeyDoc>],
    find: impl Fn(&EventKeyDoc) -> Result<EventType, DeclarationError>,
) -> Result<Triggers, DeclarationError> {
    let part = |events: &[EventKeyDoc]| events.iter().map(&find).collect::<Result<Vec<_>, _>>();
    if all_of.is_empty() {
        return part(events).map(Triggers::from);
    }
    all_of.iter().map(|events| part(events)).collect::<Result<Vec<_>, _>>().map(Triggers::all_of)
}

impl StepDoc {
    fn spec(
        &self,
        find: impl Fn(&EventKeyDoc) -> Result<EventType, DeclarationError>,
    ) -> Result<StepSpec, DeclarationError> {
        let emits = |one: &Option<EventKeyDoc>, several: &[Vec<EventKeyDoc>]| {
            let one = one.iter().filter(|_| several.is_empty()).map(std::slice::from_ref);
            let alternatives = several.iter().map(Vec::as_slice).chain(one);
            let alternatives = alternatives.map(|events| events.iter().map(&find).collect::<Result<Vec<_>, _>>());
            Ok::<_, DeclarationError>(Emits::one_of(alternatives.collect::<Result<Vec<_>, _>>()?))
        };
        let undo = |undo: &CompensationDoc| {
            Ok::<_, DeclarationError>(CompensationSpec {
                name: lasting(&undo.name),
                triggers: triggers(&undo.triggers, &undo.all_of, &find)?,
                event: find(&undo.event)?,
                effect: undo.effect,
                best_effort: undo.best_effort,
            })
        };
        let deadline = |deadline: &DeadlineDoc| {
            let after = Duration::from_millis(deadline.after_ms);
            Ok::<_, DeclarationError>(DeadlineSpec { after, event: find(&deadline.event)? })
        };
        Ok(StepSpec {
            name: lasting(&self.name),
            triggers: triggers(&self.triggers, &self.all_of, &find)?,
            success: emits(&self.success, &self.successes)?,
            refusal: emits(&self.refusal, &self.refusals)?,
            compensation: self.compensation.as_ref().map(undo).transpose()?,
            deadline: self.deadline.as_ref().map(deadline).transpose()?,
            saga_deadline: self.saga_deadline.as_ref().map(deadline).transpose()?,
            arrivals_deadline: self.arrivals_deadline.as_ref().map(deadline).transpose()?,
            rounds: self.rounds,
            effect: self.effect,
            pivot: self.pivot,
            until_it_succeeds: self.until_it_succeeds,
        })
    }
}

/// Interns a text.
fn lasting(text: &str) -> &'static str {
    static TEXTS: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let texts = texts.get_or_insert_default();
    if let Some(known) = texts.get(text) {
        return known;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    texts.insert(kept);
    kept
}

/// Interns a schema.
fn lasting_schema(schema: &Value) -> &'static Value {
    static SCHEMAS: Mutex<Vec<&'static Value>> = Mutex::new(Vec::new());
    let mut schemas = SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = schemas.iter().find(|known| **known == schema) {
        return known;
    }
    let kept: &'static Value = Box::leak(Box::new(schema.clone()));
    schemas.push(kept);
    kept
}
