//! The order of a story: of time, but no event before what it was caused by, whatever the clocks say.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    event::Event,
    seen::{Seen, What},
};

/// The latest time of a record and its causes, and how many causes there are.
type Key = (Timestamp, usize);

/// The order of the records of a saga.
pub(super) struct Order<'a> {
    seen: &'a [Seen],
    /// The first record under each id.
    originals: BTreeMap<&'a str, usize>,
    keys: Vec<Key>,
}

impl<'a> Order<'a> {
    /// Of records that stand as they were written.
    pub(super) fn of(seen: &'a [Seen]) -> Self {
        let mut originals = BTreeMap::new();
        for (place, event) in seen.iter().enumerate().filter_map(|(place, seen)| Some((place, event(seen)?))) {
            originals.entry(event.id.as_str()).or_insert(place);
        }
        let mut order = Self { seen, originals, keys: Vec::new() };
        let causes: Vec<Option<usize>> = seen.iter().map(|seen| order.cause(seen)).collect();
        let times: Vec<Timestamp> = (0..seen.len()).map(|place| order.time(place)).collect();
        order.keys = keys(&times, &causes);
        order
    }

    pub(super) fn key(&self, place: usize) -> (Timestamp, usize, usize) {
        let (at, depth) = self.keys.get(place).copied().unwrap_or_default();
        (at, depth, place)
    }

    pub(super) fn is_duplicate(&self, place: usize) -> bool {
        self.seen.get(place).and_then(event).is_some_and(|event| self.originals.get(event.id.as_str()) != Some(&place))
    }

    /// The event with this id, as it was first written.
    pub(super) fn original(&self, id: &str) -> Option<&'a Event> {
        self.originals.get(id).and_then(|place| self.seen.get(*place)).and_then(event)
    }

    fn time(&self, place: usize) -> Timestamp {
        let Some(seen) = self.seen.get(place) else { return Timestamp::default() };
        // A duplicate says the time of the first: it belongs where it was written.
        if self.is_duplicate(place) { seen.written.unwrap_or_else(|| seen.at()) } else { seen.at() }
    }

    fn cause(&self, seen: &Seen) -> Option<usize> {
        let id = match &seen.what {
            What::Event(event) => event.cause.as_deref(),
            What::Letter(letter) => letter.event.as_ref().map(|event| event.id.as_str()),
            What::Unreadable { .. } => None,
        };
        self.originals.get(id?).copied()
    }
}

pub(super) fn event(seen: &Seen) -> Option<&Event> {
    if let What::Event(event) = &seen.what { Some(event) } else { None }
}

/// Each record is looked at once, however long the chains are. What others write may also cause itself: the records of
/// such a circle all happen at its latest time, and none is deeper than another.
fn keys(times: &[Timestamp], causes: &[Option<usize>]) -> Vec<Key> {
    let mut keys: Vec<Option<Key>> = vec![None; times.len()];
    let mut is_on_path = vec![false; times.len()];
    let mut path = Vec::new();
    for place in 0..times.len() {
        let mut next = Some(place);
        while let Some(here) = next.filter(|here| !is_on_path[*here]) {
            is_on_path[here] = true;
            path.push(here);
            next = causes[here];
        }
        let mut before = next.and_then(|cause| keys[cause]);
        if let (Some(again), None) = (next, before)
            && let Some(begin) = path.iter().position(|on_path| *on_path == again)
        {
            let circle = path.split_off(begin);
            before = circle.iter().map(|place| (times[*place], 0)).max();
            circle.into_iter().for_each(|place| keys[place] = before);
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
    fn a_circle_has_one_time_and_what_it_causes_is_behind_it() {
        let times = [time(5), time(10), time(30), time(20), time(0)];
        // 0 is caused by 1, of the circle 1, 2, 3; 4 by itself.
        let keys = keys(&times, &[Some(1), Some(2), Some(3), Some(1), Some(4)]);
        assert!(keys[..4].iter().all(|(at, _)| *at == time(30)) && keys[4] == (time(0), 0));
        assert_eq!(depths(&keys), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_chain_may_be_told_from_its_end() {
        let causes: Vec<Option<usize>> =
            (0..20_000).map(|place| Some(place + 1).filter(|next| *next < 20_000)).collect();
        let keys = keys(&vec![time(0); 20_000], &causes);
        assert_eq!((keys[0].1, keys[19_999].1), (19_999, 0));
    }
}
