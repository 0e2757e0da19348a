//! Sorts a saga's records by time, and each event after its cause even when clocks disagree.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    event::Event,
    observed_record::{ObservedRecord, RecordContent},
};

/// The latest time among a record and its causes, and the number of its causes.
type Key = (Timestamp, usize);

/// A saga's records in causal order.
pub(super) struct CausalOrder<'a> {
    observed: &'a [ObservedRecord],
    /// The first record with each event id.
    originals: BTreeMap<&'a str, usize>,
    keys: Vec<Key>,
}

impl<'a> CausalOrder<'a> {
    /// Takes records in the order in which they were written.
    pub(super) fn of(observed: &'a [ObservedRecord]) -> Self {
        let mut originals = BTreeMap::new();
        for (index, event) in
            observed.iter().enumerate().filter_map(|(index, observed)| Some((index, event(observed)?)))
        {
            originals.entry(event.id.as_str()).or_insert(index);
        }
        let mut order = Self { observed, originals, keys: Vec::new() };
        let causes: Vec<Option<usize>> = observed.iter().map(|observed| order.cause(observed)).collect();
        let times: Vec<Timestamp> = (0..observed.len()).map(|index| order.time(index)).collect();
        order.keys = keys(&times, &causes);
        order
    }

    pub(super) fn key(&self, index: usize) -> (Timestamp, usize, usize) {
        let (at, depth) = self.keys.get(index).copied().unwrap_or_default();
        (at, depth, index)
    }

    pub(super) fn is_duplicate(&self, index: usize) -> bool {
        self.observed
            .get(index)
            .and_then(event)
            .is_some_and(|event| self.originals.get(event.id.as_str()) != Some(&index))
    }

    /// The first record's event with this id.
    pub(super) fn original(&self, id: &str) -> Option<&'a Event> {
        self.originals.get(id).and_then(|index| self.observed.get(*index)).and_then(event)
    }

    fn time(&self, index: usize) -> Timestamp {
        let Some(observed) = self.observed.get(index) else { return Timestamp::default() };
        // A duplicate repeats the first record's time; its own index in the order is when it was written.
        if self.is_duplicate(index) { observed.written.unwrap_or_else(|| observed.at()) } else { observed.at() }
    }

    fn cause(&self, observed: &ObservedRecord) -> Option<usize> {
        let id = match &observed.content {
            RecordContent::Event(event) => event.cause.as_deref(),
            RecordContent::DeadLetter(dead_letter) => dead_letter.event.as_ref().map(|event| event.id.as_str()),
            RecordContent::Unreadable { .. } => None,
        };
        self.originals.get(id?).copied()
    }
}

pub(super) fn event(observed: &ObservedRecord) -> Option<&Event> {
    if let RecordContent::Event(event) = &observed.content { Some(event) } else { None }
}

/// Visits each record once, so long chains cost linear time. Records written by others may form a cycle of causes: all
/// records of a cycle get its latest time and depth 0.
fn keys(times: &[Timestamp], causes: &[Option<usize>]) -> Vec<Key> {
    let mut keys: Vec<Option<Key>> = vec![None; times.len()];
    let mut is_on_path = vec![false; times.len()];
    let mut path = Vec::new();
    for index in 0..times.len() {
        let mut next = Some(index);
        while let Some(here) = next.filter(|here| !is_on_path[*here]) {
            is_on_path[here] = true;
            path.push(here);
            next = causes[here];
        }
        let mut before = next.and_then(|cause| keys[cause]);
        if let (Some(again), None) = (next, before)
            && let Some(begin) = path.iter().position(|on_path| *on_path == again)
        {
            let cycle = path.split_off(begin);
            before = cycle.iter().map(|index| (times[*index], 0)).max();
            cycle.into_iter().for_each(|index| keys[index] = before);
        }
        while let Some(here) = path.pop() {
            before = Some(before.map_or((times[here], 0), |(at, depth)| (at.max(times[here]), depth + 1)));
            keys[here] = before;
        }
    }
    keys.into_iter().map(Option::unwrap_or_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::time;

    fn depths(keys: &[Key]) -> Vec<usize> {
        keys.iter().map(|(_, depth)| *depth).collect()
    }

    #[test]
    fn nothing_is_before_its_causes() {
        let times = [time(30), time(10), time(20), time(40)];
        let keys = keys(&times, &[None, Some(0), Some(1), None]);
        assert_eq!(keys, [(time(30), 0), (time(30), 1), (time(30), 2), (time(40), 0)]);
    }

    #[test]
    fn a_cycle_has_one_time_and_what_it_causes_follows() {
        let times = [time(5), time(10), time(30), time(20), time(0)];
        // 0 is caused by 1; 1, 2 and 3 form a cycle; 4 causes itself.
        let keys = keys(&times, &[Some(1), Some(2), Some(3), Some(1), Some(4)]);
        assert!(keys[..4].iter().all(|(at, _)| *at == time(30)) && keys[4] == (time(0), 0));
        assert_eq!(depths(&keys), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_chain_may_be_read_from_its_end() {
        let causes: Vec<Option<usize>> =
            (0..20_000).map(|index| Some(index + 1).filter(|next| *next < 20_000)).collect();
        let keys = keys(&vec![time(0); 20_000], &causes);
        assert_eq!((keys[0].1, keys[19_999].1), (19_999, 0));
    }
}
