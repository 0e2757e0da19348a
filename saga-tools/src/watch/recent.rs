//! The latest sagas of a kind, so many at most.

use std::collections::{HashSet, VecDeque};

use uuid::Uuid;

pub(super) struct Recent {
    room: usize,
    known: HashSet<Uuid>,
    order: VecDeque<Uuid>,
}

impl Recent {
    pub(super) fn new(room: usize) -> Self {
        Self { room, known: HashSet::new(), order: VecDeque::new() }
    }

    pub(super) fn contains(&self, saga: &Uuid) -> bool {
        self.known.contains(saga)
    }

    /// Returns whether it is new.
    pub(super) fn note(&mut self, saga: Uuid) -> bool {
        let is_new = self.known.insert(saga);
        if is_new {
            self.order.push_back(saga);
        }
        while self.order.len() > self.room {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        is_new
    }

    /// Returns whether it was there.
    pub(super) fn forget(&mut self, saga: Uuid) -> bool {
        let was_there = self.known.remove(&saga);
        if was_there {
            self.order.retain(|other| *other != saga);
        }
        was_there
    }
}
