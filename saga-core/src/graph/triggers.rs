//! What starts a step: one event, one of several, or, for a join, one of each part.

use std::ops::{Deref, DerefMut};

use crate::event::EventType;

/// The events that start a step or a compensation. They are divided into parts: each part has arrived with any of its events,
/// and all parts have to arrive. A step with several parts is a join. As a slice, these are the events of all parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Triggers<E = EventType> {
    events: Vec<E>,
    /// Where each part but the first begins.
    later: Vec<usize>,
}

impl<E> Triggers<E> {
    /// The triggers of these parts. A part without events is left out.
    pub fn all_of(parts: impl IntoIterator<Item = Vec<E>>) -> Self {
        let (mut events, mut later) = (Vec::new(), Vec::new());
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            if !events.is_empty() {
                later.push(events.len());
            }
            events.extend(part);
        }
        Self { events, later }
    }

    /// The parts, each with its events.
    pub fn parts(&self) -> impl Iterator<Item = &[E]> {
        let begins = std::iter::once(0).chain(self.later.iter().copied());
        let ends = self.later.iter().copied().chain(std::iter::once(self.events.len()));
        begins.zip(ends).map(|(begin, end)| &self.events[begin..end]).filter(|part| !part.is_empty())
    }

    /// Whether it takes several arrivals.
    pub fn is_join(&self) -> bool {
        !self.later.is_empty()
    }

    /// The same triggers with each event converted.
    pub fn map<F>(&self, convert: impl FnMut(&E) -> F) -> Triggers<F> {
        Triggers { events: self.events.iter().map(convert).collect(), later: self.later.clone() }
    }
}

impl Triggers {
    /// The index of the part that an event of this name is of.
    pub fn part_of(&self, event_type: &str) -> Option<usize> {
        self.parts().position(|part| part.iter().any(|event| event.name == event_type))
    }
}

/// None: what nothing starts.
impl<E> Default for Triggers<E> {
    fn default() -> Self {
        Vec::new().into()
    }
}

/// One part with these events.
impl<E> From<Vec<E>> for Triggers<E> {
    fn from(events: Vec<E>) -> Self {
        Self { events, later: Vec::new() }
    }
}

impl<E> Deref for Triggers<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.events
    }
}

impl<E> DerefMut for Triggers<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.events
    }
}

impl<'a, E> IntoIterator for &'a Triggers<E> {
    type Item = &'a E;
    type IntoIter = std::slice::Iter<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_all_parts_are_one_list_and_each_has_its_part() {
        let join = Triggers::all_of([vec!["flight"], vec![], vec!["hotel", "hostel"], vec!["car"]]);
        assert_eq!(*join, ["flight", "hotel", "hostel", "car"]);
        assert_eq!(join.parts().collect::<Vec<_>>(), [&["flight"][..], &["hotel", "hostel"], &["car"]]);
        assert!(join.is_join());
        let single = Triggers::from(vec!["flight", "hotel"]);
        assert_eq!(single.parts().collect::<Vec<_>>(), [&["flight", "hotel"]]);
        assert!(!single.is_join());
        assert_eq!(Triggers::<&str>::default().parts().count(), 0);
    }
}
