//! Order within a saga: at most one event of a saga is being handled; the others wait in their order. A record that only
//! repeats an event that is there already waits with it, and is done when that one is.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use crate::event::SagaId;

/// What can wait in a lane.
pub(crate) trait Lined {
    /// What records have in common that need one handling.
    type Likeness: PartialEq;

    fn likeness(&self) -> Self::Likeness;
}

/// One lane per saga that has events in flight.
pub(crate) struct Lanes<W: Lined, R> {
    busy: HashMap<SagaId, Lane<W, R>>,
}

struct Lane<W: Lined, R> {
    /// The one that is being handled.
    current: Place<W::Likeness, R>,
    waiting: VecDeque<(W, Place<W::Likeness, R>)>,
}

/// An event's place in its lane, and what repeats it.
struct Place<L, R> {
    likeness: L,
    repeats: Vec<R>,
}

impl<L, R> Place<L, R> {
    fn of(likeness: L) -> Self {
        Self { likeness, repeats: Vec::new() }
    }
}

/// What became of an event that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered<W> {
    /// It may start now.
    Starts(W),
    /// It waits behind so many earlier ones of its saga.
    Waits(usize),
    /// It repeats one that is there.
    Repeats,
}

impl<W: Lined, R> Default for Lanes<W, R> {
    fn default() -> Self {
        Self { busy: HashMap::new() }
    }
}

impl<W: Lined, R> Lanes<W, R> {
    /// An event comes; `repeat` is what is kept of it when it repeats another.
    pub(crate) fn enter(&mut self, saga: SagaId, work: W, repeat: impl FnOnce(&W) -> Option<R>) -> Entered<W> {
        let likeness = work.likeness();
        match self.busy.entry(saga) {
            Entry::Vacant(lane) => {
                lane.insert(Lane { current: Place::of(likeness), waiting: VecDeque::new() });
                Entered::Starts(work)
            }
            Entry::Occupied(mut lane) => {
                let lane = lane.get_mut();
                let waiting = lane.waiting.iter_mut().map(|(_, place)| place);
                let same = std::iter::once(&mut lane.current).chain(waiting).find(|place| place.likeness == likeness);
                if let Some(same) = same
                    && let Some(repeat) = repeat(&work)
                {
                    same.repeats.push(repeat);
                    return Entered::Repeats;
                }
                lane.waiting.push_back((work, Place::of(likeness)));
                Entered::Waits(lane.waiting.len())
            }
        }
    }

    /// The saga's event is done with. Returns those that repeated it, and the next one, which may start now.
    pub(crate) fn leave(&mut self, saga: SagaId) -> (Vec<R>, Option<W>) {
        let Entry::Occupied(mut lane) = self.busy.entry(saga) else { return (Vec::new(), None) };
        let done = std::mem::take(&mut lane.get_mut().current.repeats);
        match lane.get_mut().waiting.pop_front() {
            Some((next, place)) => {
                lane.get_mut().current = place;
                (done, Some(next))
            }
            None => {
                lane.remove();
                (done, None)
            }
        }
    }

    /// How many wait behind the one that is being handled.
    pub(crate) fn waiting(&self, saga: SagaId) -> usize {
        self.busy.get(&saga).map_or(0, |lane| lane.waiting.len())
    }

    /// Forgets what waits and is not wanted, and hands it back with what repeated it.
    pub(crate) fn drop_waiting(&mut self, mut unwanted: impl FnMut(&W) -> bool) -> Vec<(W, Vec<R>)> {
        let mut dropped = Vec::new();
        for lane in self.busy.values_mut() {
            let (gone, kept): (Vec<_>, Vec<_>) = lane.waiting.drain(..).partition(|(work, _)| unwanted(work));
            lane.waiting.extend(kept);
            dropped.extend(gone.into_iter().map(|(work, place)| (work, place.repeats)));
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::{Entered::*, *};

    impl Lined for u128 {
        type Likeness = Self;

        fn likeness(&self) -> Self {
            *self
        }
    }

    fn enter(lanes: &mut Lanes<u128, &'static str>, saga: SagaId, work: u128) -> Entered<u128> {
        lanes.enter(saga, work, |_| None)
    }

    #[test]
    fn events_of_a_saga_start_one_after_the_other_and_sagas_do_not_wait_for_each_other() {
        let (a, b) = (SagaId::random(), SagaId::random());
        let mut lanes = Lanes::default();
        assert_eq!(enter(&mut lanes, a, 1), Starts(1));
        assert_eq!(enter(&mut lanes, a, 2), Waits(1));
        assert_eq!(enter(&mut lanes, b, 3), Starts(3));
        assert_eq!(enter(&mut lanes, a, 4), Waits(2));
        assert_eq!(lanes.waiting(a), 2);
        assert_eq!(lanes.leave(a), (vec![], Some(2)));
        assert_eq!(lanes.leave(a), (vec![], Some(4)));
        assert_eq!(lanes.leave(a), (vec![], None));
        assert_eq!(enter(&mut lanes, a, 5), Starts(5));
    }

    #[test]
    fn what_repeats_an_event_is_done_when_that_one_is() {
        let a = SagaId::random();
        let mut lanes = Lanes::default();
        let mut come = |work: u128, name| lanes.enter(a, work, |_| Some(name));
        assert_eq!(come(1, "first"), Starts(1));
        assert_eq!(come(1, "again"), Repeats);
        assert_eq!(come(2, "second"), Waits(1));
        assert_eq!(come(2, "second again"), Repeats);
        assert_eq!(come(1, "and again"), Repeats);
        assert_eq!(lanes.leave(a), (vec!["again", "and again"], Some(2)));
        assert_eq!(lanes.leave(a), (vec!["second again"], None));
    }

    #[test]
    fn an_event_whose_bytes_differ_waits_for_its_own_handling() {
        let a = SagaId::random();
        let mut lanes = Lanes::<u128, ()>::default();
        assert_eq!(lanes.enter(a, 1, |_| None), Starts(1));
        assert_eq!(lanes.enter(a, 1, |_| None), Waits(1));
    }

    #[test]
    fn waiting_work_can_be_dropped_while_the_lane_stays_busy() {
        let a = SagaId::random();
        let mut lanes = Lanes::default();
        for work in [1, 2, 3] {
            lanes.enter(a, work, |_| None::<()>);
        }
        assert_eq!(lanes.drop_waiting(|work| *work == 2), [(2, vec![])]);
        assert_eq!(lanes.leave(a), (vec![], Some(3)));
    }
}
