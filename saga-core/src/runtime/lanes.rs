//! Order within a saga: at most one event of a saga is being handled; the others wait in their order.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use crate::event::SagaId;

/// One lane per saga that has work in hand.
#[derive(Debug)]
pub(crate) struct Lanes<W> {
    busy: HashMap<SagaId, VecDeque<W>>,
}

impl<W> Default for Lanes<W> {
    fn default() -> Self {
        Self { busy: HashMap::new() }
    }
}

impl<W> Lanes<W> {
    /// Returns the work if it may start now; otherwise it waits behind the saga's earlier work.
    pub(crate) fn enter(&mut self, saga: SagaId, work: W) -> Option<W> {
        match self.busy.entry(saga) {
            Entry::Vacant(lane) => {
                lane.insert(VecDeque::new());
                Some(work)
            }
            Entry::Occupied(mut lane) => {
                lane.get_mut().push_back(work);
                None
            }
        }
    }

    /// The saga's work in hand is done. Returns the next one, which may start now.
    pub(crate) fn leave(&mut self, saga: SagaId) -> Option<W> {
        let Entry::Occupied(mut lane) = self.busy.entry(saga) else { return None };
        let next = lane.get_mut().pop_front();
        if next.is_none() {
            lane.remove();
        }
        next
    }

    /// Forgets waiting work, and hands it back.
    pub(crate) fn drop_waiting(&mut self, mut unwanted: impl FnMut(&W) -> bool) -> Vec<W> {
        let mut dropped = Vec::new();
        for lane in self.busy.values_mut() {
            let (gone, kept): (Vec<W>, Vec<W>) = lane.drain(..).partition(|work| unwanted(work));
            lane.extend(kept);
            dropped.extend(gone);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_saga_start_one_after_the_other_and_sagas_do_not_wait_for_each_other() {
        let (a, b) = (SagaId::random(), SagaId::random());
        let mut lanes = Lanes::default();
        assert_eq!(lanes.enter(a, 1), Some(1));
        assert_eq!(lanes.enter(a, 2), None);
        assert_eq!(lanes.enter(b, 3), Some(3));
        assert_eq!(lanes.enter(a, 4), None);
        assert_eq!(lanes.leave(a), Some(2));
        assert_eq!(lanes.leave(a), Some(4));
        assert_eq!(lanes.leave(a), None);
        assert_eq!(lanes.enter(a, 5), Some(5));
    }

    #[test]
    fn waiting_work_can_be_dropped_while_the_lane_stays_busy() {
        let a = SagaId::random();
        let mut lanes = Lanes::default();
        lanes.enter(a, 1);
        lanes.enter(a, 2);
        lanes.enter(a, 3);
        assert_eq!(lanes.drop_waiting(|w| *w == 2), [2]);
        assert_eq!(lanes.leave(a), Some(3));
    }
}
