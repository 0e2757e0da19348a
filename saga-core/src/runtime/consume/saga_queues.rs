//! Order within a saga: one event of a saga is handled at a time, and the others wait in their order. A record that repeats
//! an event in the queue waits with it, and is done together with it.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use crate::event::SagaId;

/// What can wait in a saga's queue.
pub(crate) trait Queued {
    /// Equal for records that are handled once.
    type DedupKey: PartialEq;

    fn dedup_key(&self) -> Self::DedupKey;
}

/// One queue per saga that has events in flight.
pub(crate) struct SagaQueues<W: Queued, R> {
    busy: HashMap<SagaId, SagaQueue<W, R>>,
}

struct SagaQueue<W: Queued, R> {
    /// The one that is being handled.
    current: QueuedEvent<W::DedupKey, R>,
    waiting: VecDeque<(W, QueuedEvent<W::DedupKey, R>)>,
}

/// An event in its queue, and the records that repeat it.
struct QueuedEvent<L, R> {
    dedup_key: L,
    repeats: Vec<R>,
}

impl<L, R> QueuedEvent<L, R> {
    fn of(dedup_key: L) -> Self {
        Self { dedup_key, repeats: Vec::new() }
    }
}

/// What became of an event that entered its saga's queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered<W> {
    /// It may start now.
    Starts(W),
    /// It waits behind so many earlier ones of its saga.
    Waits(usize),
    /// It repeats one that is there.
    Repeats,
}

impl<W: Queued, R> Default for SagaQueues<W, R> {
    fn default() -> Self {
        Self { busy: HashMap::new() }
    }
}

impl<W: Queued, R> SagaQueues<W, R> {
    /// Adds an event to its saga's queue. `repeat` makes what is kept of a record that repeats another.
    pub(crate) fn enter(&mut self, saga: SagaId, event: W, repeat: impl FnOnce(&W) -> Option<R>) -> Entered<W> {
        let dedup_key = event.dedup_key();
        match self.busy.entry(saga) {
            Entry::Vacant(queue) => {
                queue.insert(SagaQueue { current: QueuedEvent::of(dedup_key), waiting: VecDeque::new() });
                Entered::Starts(event)
            }
            Entry::Occupied(mut queue) => {
                let queue = queue.get_mut();
                let waiting = queue.waiting.iter_mut().map(|(_, queued)| queued);
                let same =
                    std::iter::once(&mut queue.current).chain(waiting).find(|queued| queued.dedup_key == dedup_key);
                if let Some(same) = same
                    && let Some(repeat) = repeat(&event)
                {
                    same.repeats.push(repeat);
                    return Entered::Repeats;
                }
                queue.waiting.push_back((event, QueuedEvent::of(dedup_key)));
                Entered::Waits(queue.waiting.len())
            }
        }
    }

    /// Ends the saga's current event. Returns the records that repeated it, and the next event, which may start now.
    pub(crate) fn leave(&mut self, saga: SagaId) -> (Vec<R>, Option<W>) {
        let Entry::Occupied(mut queue) = self.busy.entry(saga) else { return (Vec::new(), None) };
        let done = std::mem::take(&mut queue.get_mut().current.repeats);
        match queue.get_mut().waiting.pop_front() {
            Some((next, queued)) => {
                queue.get_mut().current = queued;
                (done, Some(next))
            }
            None => {
                queue.remove();
                (done, None)
            }
        }
    }

    /// How many wait behind the one that is being handled.
    pub(crate) fn waiting(&self, saga: SagaId) -> usize {
        self.busy.get(&saga).map_or(0, |queue| queue.waiting.len())
    }

    /// Removes waiting events that are unwanted. Returns them with the records that repeat them.
    pub(crate) fn drop_waiting(&mut self, mut unwanted: impl FnMut(&W) -> bool) -> Vec<(W, Vec<R>)> {
        let mut dropped = Vec::new();
        for queue in self.busy.values_mut() {
            let (gone, kept): (Vec<_>, Vec<_>) = queue.waiting.drain(..).partition(|(event, _)| unwanted(event));
            queue.waiting.extend(kept);
            dropped.extend(gone.into_iter().map(|(event, queued)| (event, queued.repeats)));
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::{Entered::*, *};

    impl Queued for u128 {
        type DedupKey = Self;

        fn dedup_key(&self) -> Self {
            *self
        }
    }

    fn enter(queues: &mut SagaQueues<u128, &'static str>, saga: SagaId, event: u128) -> Entered<u128> {
        queues.enter(saga, event, |_| None)
    }

    #[test]
    fn events_of_a_saga_start_one_after_the_other_and_sagas_do_not_wait_for_each_other() {
        let (a, b) = (SagaId::random(), SagaId::random());
        let mut queues = SagaQueues::default();
        assert_eq!(enter(&mut queues, a, 1), Starts(1));
        assert_eq!(enter(&mut queues, a, 2), Waits(1));
        assert_eq!(enter(&mut queues, b, 3), Starts(3));
        assert_eq!(enter(&mut queues, a, 4), Waits(2));
        assert_eq!(queues.waiting(a), 2);
        assert_eq!(queues.leave(a), (vec![], Some(2)));
        assert_eq!(queues.leave(a), (vec![], Some(4)));
        assert_eq!(queues.leave(a), (vec![], None));
        assert_eq!(enter(&mut queues, a, 5), Starts(5));
    }

    #[test]
    fn what_repeats_an_event_is_done_when_that_one_is() {
        let a = SagaId::random();
        let mut queues = SagaQueues::default();
        let mut come = |event: u128, name| queues.enter(a, event, |_| Some(name));
        assert_eq!(come(1, "first"), Starts(1));
        assert_eq!(come(1, "again"), Repeats);
        assert_eq!(come(2, "second"), Waits(1));
        assert_eq!(come(2, "second again"), Repeats);
        assert_eq!(come(1, "and again"), Repeats);
        assert_eq!(queues.leave(a), (vec!["again", "and again"], Some(2)));
        assert_eq!(queues.leave(a), (vec!["second again"], None));
    }

    #[test]
    fn an_event_whose_bytes_differ_waits_for_its_own_handling() {
        let a = SagaId::random();
        let mut queues = SagaQueues::<u128, ()>::default();
        assert_eq!(queues.enter(a, 1, |_| None), Starts(1));
        assert_eq!(queues.enter(a, 1, |_| None), Waits(1));
    }

    #[test]
    fn waiting_work_can_be_dropped_while_the_lane_stays_busy() {
        let a = SagaId::random();
        let mut queues = SagaQueues::default();
        for event in [1, 2, 3] {
            queues.enter(a, event, |_| None::<()>);
        }
        assert_eq!(queues.drop_waiting(|event| *event == 2), [(2, vec![])]);
        assert_eq!(queues.leave(a), (vec![], Some(3)));
    }
}
