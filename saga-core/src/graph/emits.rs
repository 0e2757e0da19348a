//! What a step may publish: alternatives, each a set of events.

use crate::event::EventType;

/// What a step may publish on success, or on refusal: one of several alternatives, each a set of events that are published
/// together. No alternative means that it publishes nothing.
///
/// ```
/// # use saga_core::{Event, event::EventType, graph::Emits}; use uuid::Uuid;
/// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
/// # #[event(name = "flight.wanted", topic = "trip.events", saga = "id")]
/// # struct FlightWanted { id: Uuid }
/// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
/// # #[event(name = "hotel.wanted", topic = "trip.events", saga = "id")]
/// # struct HotelWanted { id: Uuid }
/// let flight = || Emits::one(EventType::of::<FlightWanted>());
/// let hotel = || Emits::one(EventType::of::<HotelWanted>());
/// assert_eq!(flight().or(hotel()).alternatives().len(), 2);
/// assert_eq!(flight().and(hotel()).alternatives().len(), 1);
/// assert_eq!(flight().and(hotel()).events().count(), 2);
/// assert!(Emits::nothing().is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emits {
    alternatives: Vec<Vec<EventType>>,
}

impl Emits {
    /// Nothing: the step ends quietly.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// This event.
    pub fn one(event: EventType) -> Self {
        Self { alternatives: vec![vec![event]] }
    }

    /// One of these alternatives, each a set of events. An alternative without an event is left out.
    pub fn one_of(alternatives: impl IntoIterator<Item = Vec<EventType>>) -> Self {
        let mut emits = Self::nothing();
        for alternative in alternatives {
            if !alternative.is_empty() && !emits.alternatives.contains(&alternative) {
                emits.alternatives.push(alternative);
            }
        }
        emits
    }

    /// The alternatives of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::one_of(self.alternatives.into_iter().chain(other.alternatives))
    }

    /// Both at once: each alternative of the one together with each of the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = |first: &Vec<EventType>| -> Vec<Vec<EventType>> {
            other.alternatives.iter().map(|second| first.iter().chain(second).copied().collect()).collect()
        };
        Self::one_of(self.alternatives.iter().flat_map(both).collect::<Vec<_>>())
    }

    /// The alternatives.
    pub fn alternatives(&self) -> &[Vec<EventType>] {
        &self.alternatives
    }

    /// Every event of any alternative, each once.
    pub fn events(&self) -> impl Iterator<Item = EventType> {
        let all = self.alternatives.iter().flatten().enumerate();
        all.filter(|(i, event)| !self.alternatives.iter().flatten().take(*i).any(|earlier| earlier == *event))
            .map(|(_, event)| *event)
    }

    /// The event, when there is no other.
    pub fn only(&self) -> Option<EventType> {
        match &self.alternatives[..] {
            [events] if events.len() == 1 => events.first().copied(),
            _ => None,
        }
    }

    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.alternatives.is_empty()
    }
}

impl From<EventType> for Emits {
    fn from(event: EventType) -> Self {
        Self::one(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::fixture::event;

    fn names(emits: &Emits) -> Vec<Vec<&'static str>> {
        emits.alternatives().iter().map(|events| events.iter().map(|event| event.name).collect()).collect()
    }

    fn one(name: &'static str) -> Emits {
        event(name).into()
    }

    #[test]
    fn a_choice_within_several_events_is_a_choice_of_sets() {
        let emits = one("a.done").and(one("b.done").or(one("c.done")));
        assert_eq!(names(&emits), [["a.done", "b.done"], ["a.done", "c.done"]]);
        let all: Vec<_> = emits.events().map(|event| event.name).collect();
        assert_eq!(all, ["a.done", "b.done", "c.done"]);
        assert_eq!(emits.only(), None);
    }

    #[test]
    fn an_alternative_that_is_there_twice_is_one() {
        let emits = one("a.done").or(one("a.done"));
        assert_eq!((names(&emits), emits.only()), (vec![vec!["a.done"]], Some(event("a.done"))));
    }

    #[test]
    fn nothing_and_an_event_cannot_both_be_published() {
        assert!(one("a.done").and(Emits::nothing()).is_empty());
        assert_eq!(one("a.done").or(Emits::nothing()), one("a.done"));
    }
}
