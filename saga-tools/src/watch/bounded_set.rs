//! A set of sagas that keeps only the latest ones.

use std::collections::{HashSet, VecDeque};

use uuid::Uuid;

pub(super) struct BoundedSagaSet {
    capacity: usize,
    known: HashSet<Uuid>,
    order: VecDeque<Uuid>,
}

impl BoundedSagaSet {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, known: HashSet::new(), order: VecDeque::new() }
    }

    pub(super) fn contains(&self, saga: &Uuid) -> bool {
        self.known.contains(saga)
    }

    /// Returns whether the saga is new.
    pub(super) fn insert(&mut self, saga: Uuid) -> bool {
        let is_new = self.known.insert(saga);
        if is_new {
            self.order.push_back(saga);
        }
        while self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        is_new
    }

    /// Returns whether the saga was present.
    pub(super) fn remove(&mut self, saga: Uuid) -> bool {
        let was_there = self.known.remove(&saga);
        if was_there {
            self.order.retain(|other| *other != saga);
        }
        was_there
    }
}
