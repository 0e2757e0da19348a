//! The invariants that must hold at the end of the demo, checked against databases and topics.

mod effects;
mod event_counts;
mod poison_event;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use saga_core::graph::Choreography;
use serde::Serialize;

pub(crate) use event_counts::EventCounts;
pub(crate) use poison_event::PoisonEvent;

use super::{customers::PlacedOrder, database_state::DatabaseState, topic_log::TopicLog};

/// Violations shown per invariant; there may be one per order.
const SHOWN: usize = 5;

/// Everything that the invariants are checked against.
pub(crate) struct Evidence<'a> {
    pub(crate) flow: &'a Choreography,
    pub(crate) log: &'a TopicLog,
    pub(crate) state: &'a DatabaseState,
    pub(crate) placed: &'a [PlacedOrder],
    /// The quantity set for each SKU.
    pub(crate) stock: &'a BTreeMap<String, i64>,
    pub(crate) poison: &'a PoisonEvent,
}

/// The result of one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Invariant {
    pub(crate) invariant: &'static str,
    pub(crate) holds: bool,
    /// The compared numbers.
    pub(crate) numbers: String,
    /// The first few violations.
    pub(crate) violations: Vec<String>,
}

impl Invariant {
    fn new(invariant: &'static str, numbers: String, mut violations: Vec<String>) -> Self {
        let (holds, more) = (violations.is_empty(), violations.len().saturating_sub(SHOWN));
        if more > 0 {
            violations.truncate(SHOWN);
            violations.push(format!("and {more} more"));
        }
        Self { invariant, holds, numbers, violations }
    }
}

/// Checks all invariants.
pub(crate) fn judge(evidence: &Evidence<'_>) -> (Vec<Invariant>, Vec<EventCounts>) {
    let event_counts = event_counts::of(evidence);
    let invariants = vec![
        effects::ended(evidence),
        effects::none_twice(evidence),
        effects::confirmed(evidence),
        effects::cancelled(evidence),
        effects::stock_conserved(evidence),
        effects::money_conserved(evidence),
        event_counts::balance(evidence, &event_counts),
        event_counts::nothing_left(evidence),
        poison_event::dead_lettered(evidence),
    ];
    (invariants, event_counts.into_iter().map(|(counts, _)| counts).collect())
}
