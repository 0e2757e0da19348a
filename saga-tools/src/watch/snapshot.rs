//! Everything `saga watch` shows, as it is at one moment; also the JSON that it prints.

use std::collections::BTreeMap;

use jiff::Timestamp;
use saga_core::graph::{How, NodeKind};
use serde::Serialize;
use uuid::Uuid;

use super::{
    ledger::{Ledger, Queue, Totals},
    rates::Rate,
    standing::NodeIndex,
};

/// Of the oldest sagas so many are shown.
const OLDEST: usize = 5;

/// How the connection and the reading are.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct Link {
    /// Whether everything has been read that was there at the start.
    pub(crate) caught_up: bool,
    /// What is wrong with the connection.
    pub(crate) trouble: Option<String>,
    pub(crate) missing_topics: Vec<String>,
}

/// The sagas that wait for one step.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Waiting {
    /// None when nobody's turn follows from what was seen.
    pub(crate) participant: Option<&'static str>,
    pub(crate) step: Option<&'static str>,
    pub(crate) kind: Option<NodeKind>,
    pub(crate) sagas: usize,
    /// Those of them whose step was given up: a dead letter says so.
    pub(crate) given_up: usize,
    /// How long the first of them has waited.
    pub(crate) longest_s: f64,
}

/// An unfinished saga.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Oldest {
    pub(crate) saga_id: Uuid,
    pub(crate) age_s: f64,
    pub(crate) waits_s: f64,
    pub(crate) participant: Option<&'static str>,
    pub(crate) step: Option<&'static str>,
    pub(crate) given_up: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct BothRates {
    pub(crate) interval: Rate,
    pub(crate) minute: Rate,
}

/// One moment.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) at: Timestamp,
    /// From when on everything was read; none for all that there is.
    pub(crate) since: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) link: Link,
    pub(crate) under_way: usize,
    /// As many are followed at most.
    pub(crate) room: usize,
    /// How long a saga whose start was not seen is followed after its last event.
    pub(crate) forgets_after_s: f64,
    pub(crate) totals: Totals,
    pub(crate) ended: BTreeMap<&'static str, u64>,
    pub(crate) rates: BothRates,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) oldest: Vec<Oldest>,
}

impl Snapshot {
    pub(crate) fn of(
        ledger: &Ledger,
        link: &Link,
        rates: BothRates,
        (since, at): (Option<Timestamp>, Timestamp),
    ) -> Self {
        // A clock that is ahead of ours does not make anything younger than new.
        let seconds = |from: Timestamp| at.duration_since(from).as_secs_f64().max(0.0);
        let nodes = ledger.flow().nodes();
        let names = |place: Option<NodeIndex>| place.map(|place| &nodes[place]);
        let queues = ledger.queues();
        let waiting = |waits_for: Option<NodeIndex>, queue: Option<&Queue>| Waiting {
            participant: names(waits_for).map(|node| node.participant),
            step: names(waits_for).map(|node| node.name),
            kind: names(waits_for).map(|node| node.kind),
            sagas: queue.map_or(0, |queue| queue.sagas),
            given_up: queue.map_or(0, |queue| queue.given_up),
            longest_s: queue.map_or(0.0, |queue| seconds(queue.oldest)),
        };
        let found = |waits_for: Option<NodeIndex>| queues.iter().find(|queue| queue.waits_for == waits_for);
        // A step that answers nothing is never waited for, and neither is a request.
        let answers = |place: &NodeIndex| {
            let node = &nodes[*place];
            node.kind != NodeKind::Request && node.publishes.iter().any(|p| p.how != How::Deadline)
        };
        let places = (0..nodes.len()).filter(answers).map(Some);
        let mut all: Vec<Waiting> = places.map(|place| waiting(place, found(place))).collect();
        all.extend(found(None).map(|queue| waiting(None, Some(queue))));
        let oldest = ledger.oldest(OLDEST).into_iter().map(|saga| Oldest {
            saga_id: saga.id,
            age_s: seconds(saga.since),
            waits_s: seconds(saga.waits_since),
            participant: names(saga.waits_for).map(|node| node.participant),
            step: names(saga.waits_for).map(|node| node.name),
            given_up: saga.given_up.map(str::to_owned),
        });
        Self {
            at,
            since,
            link: link.clone(),
            under_way: ledger.under_way(),
            room: ledger.room().unfinished,
            forgets_after_s: ledger.patience().as_secs_f64(),
            totals: ledger.totals(),
            ended: ledger.endings().clone(),
            rates,
            waiting: all,
            oldest: oldest.collect(),
        }
    }
}
