//! The state that `saga watch` shows at one time, which is also its JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use saga_core::graph::NodeKind;
use serde::Serialize;
use uuid::Uuid;

use super::{
    rates::Rate,
    saga_table::{SagaTable, Totals, WaitingSagas},
    state_cache::NodeIndex,
};

/// How many of the oldest sagas are shown.
const OLDEST: usize = 5;

/// The state of the connection and of reading.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct ConnectionStatus {
    /// Whether everything written before the start has been read.
    pub(crate) caught_up: bool,
    /// The connection error, if any.
    pub(crate) trouble: Option<String>,
    pub(crate) missing_topics: Vec<String>,
}

/// The sagas that wait for one step.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct WaitingRow {
    /// None when no step is expected.
    pub(crate) participant: Option<&'static str>,
    pub(crate) step: Option<&'static str>,
    pub(crate) kind: Option<NodeKind>,
    pub(crate) sagas: usize,
    /// Sagas whose step is blocked by a dead letter.
    pub(crate) blocked: usize,
    /// The longest wait, in seconds.
    pub(crate) longest_s: f64,
    /// Of a join: how many of these sagas lack which part. A saga may lack several.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) missing: BTreeMap<String, usize>,
}

/// An unfinished saga.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct OldestSaga {
    pub(crate) saga_id: Uuid,
    pub(crate) age_s: f64,
    pub(crate) waits_s: f64,
    pub(crate) participant: Option<&'static str>,
    pub(crate) step: Option<&'static str>,
    /// The parts that a join waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<String>,
    pub(crate) blocked_by: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct BothRates {
    pub(crate) interval: Rate,
    pub(crate) minute: Rate,
}

/// The state at one time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) at: Timestamp,
    /// Start of the observed period; none for all records.
    pub(crate) since: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) connection: ConnectionStatus,
    pub(crate) in_flight: usize,
    /// Most sagas that are followed.
    pub(crate) limit: usize,
    /// How long a saga without an observed start is followed after its last event, in seconds.
    pub(crate) forgets_after_s: f64,
    pub(crate) totals: Totals,
    pub(crate) ended: BTreeMap<&'static str, u64>,
    pub(crate) rates: BothRates,
    pub(crate) waiting: Vec<WaitingRow>,
    pub(crate) oldest: Vec<OldestSaga>,
}

impl Snapshot {
    pub(crate) fn of(
        table: &SagaTable,
        connection: &ConnectionStatus,
        rates: BothRates,
        (since, at): (Option<Timestamp>, Timestamp),
    ) -> Self {
        // A record from a fast clock has age zero.
        let seconds = |from: Timestamp| at.duration_since(from).as_secs_f64().max(0.0);
        let nodes = table.flow().nodes();
        let names = |index: Option<NodeIndex>| index.map(|index| &nodes[index]);
        let waiting = table.waiting();
        let row = |waits_for: Option<NodeIndex>, queue: Option<&WaitingSagas>| WaitingRow {
            participant: names(waits_for).map(|node| node.participant),
            step: names(waits_for).map(|node| node.name),
            kind: names(waits_for).map(|node| node.kind),
            sagas: queue.map_or(0, |queue| queue.sagas),
            blocked: queue.map_or(0, |queue| queue.blocked),
            longest_s: queue.map_or(0.0, |queue| seconds(queue.oldest)),
            missing: queue.map(|queue| queue.missing.clone()).unwrap_or_default(),
        };
        let found = |waits_for: Option<NodeIndex>| waiting.iter().find(|queue| queue.waits_for == waits_for);
        // A step without an answer is never waited for, and neither is a request nor an optional participant.
        let answers = |index: &NodeIndex| {
            let node = &nodes[*index];
            node.kind != NodeKind::Request && !node.optional && !node.outcomes.is_empty()
        };
        let indices = (0..nodes.len()).filter(answers).map(Some);
        let mut all: Vec<WaitingRow> = indices.map(|index| row(index, found(index))).collect();
        all.extend(found(None).map(|queue| row(None, Some(queue))));
        let oldest = table.oldest(OLDEST).into_iter().map(|saga| OldestSaga {
            saga_id: saga.id,
            age_s: seconds(saga.since),
            waits_s: seconds(saga.waits_since),
            participant: names(saga.waits_for).map(|node| node.participant),
            step: names(saga.waits_for).map(|node| node.name),
            missing: saga.missing.to_vec(),
            blocked_by: saga.blocked_by.map(str::to_owned),
        });
        Self {
            at,
            since,
            connection: connection.clone(),
            in_flight: table.in_flight(),
            limit: table.limits().unfinished,
            forgets_after_s: table.forget_after().as_secs_f64(),
            totals: table.totals(),
            ended: table.endings().clone(),
            rates,
            waiting: all,
            oldest: oldest.collect(),
        }
    }
}
