//! The demo's report: endings with their latencies, a timeline for each, and the invariants.

use std::collections::BTreeMap;

use saga_core::{graph::Choreography, record::Record};
use serde::Serialize;
use uuid::Uuid;

use super::{
    customers::PlacedOrder,
    database_state::DatabaseState,
    invariants::{EventCounts, Invariant},
    scenario::Scenario,
    timeline::{self, Timeline},
    topic_log::TopicLog,
};
use saga_tools::event::text;

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) holds: bool,
    pub(crate) orders: usize,
    pub(crate) took_ms: f64,
    pub(crate) endings: Vec<EndingRow>,
    pub(crate) timelines: Vec<Timeline>,
    pub(crate) poison: Vec<DeadLetterRow>,
    pub(crate) invariants: Vec<Invariant>,
    pub(crate) event_counts: Vec<EventCounts>,
    pub(crate) runs: Runs,
}

/// The orders of one scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndingRow {
    #[serde(rename = "ending")]
    pub(crate) scenario: Scenario,
    pub(crate) status: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) orders: usize,
    /// From the request until the saga's last event was read; none without an ended order.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) remark: Option<String>,
}

/// A dead letter of the poison event.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeadLetterRow {
    pub(crate) topic: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) attempts: String,
}

/// Addresses of broker and services.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Runs {
    pub(crate) kafka: String,
    pub(crate) services: BTreeMap<&'static str, String>,
    /// Set when the databases are kept.
    pub(crate) data: Option<String>,
}

/// The duration of each ended order, in milliseconds.
pub(crate) fn took(log: &TopicLog, placed: &[PlacedOrder]) -> BTreeMap<Uuid, f64> {
    let took = |order: &PlacedOrder| {
        let (_, seen) = log.end(order.id)?;
        Some((order.id, seen.saturating_duration_since(order.sent).as_secs_f64() * 1000.0))
    };
    placed.iter().filter_map(took).collect()
}

pub(crate) fn endings(state: &DatabaseState, placed: &[PlacedOrder], took: &BTreeMap<Uuid, f64>) -> Vec<EndingRow> {
    let row = |scenario: Scenario| {
        let orders: Vec<&PlacedOrder> = placed.iter().filter(|order| order.scenario == scenario).collect();
        let mut times: Vec<f64> = orders.iter().filter_map(|order| took.get(&order.id).copied()).collect();
        times.sort_by(f64::total_cmp);
        let charges: Vec<_> = orders.iter().filter_map(|order| state.charges.get(&order.id)).flatten().collect();
        let reason = scenario.reason().map(|reason| reason.as_str().to_owned());
        EndingRow {
            scenario,
            status: if reason.is_none() { "confirmed" } else { "cancelled" },
            reason,
            orders: orders.len(),
            p50_ms: percentile(&times, 50),
            p99_ms: percentile(&times, 99),
            remark: timeline::calls(&charges),
        }
    };
    Scenario::ALL.map(row).to_vec()
}

pub(crate) fn timelines(
    flow: &Choreography,
    log: &TopicLog,
    state: &DatabaseState,
    placed: &[PlacedOrder],
    took: &BTreeMap<Uuid, f64>,
) -> Vec<Timeline> {
    let sagas = log.by_saga();
    let of = |order: &PlacedOrder| {
        let events = sagas.get(&order.id).map_or(&[][..], Vec::as_slice);
        let charges = state.charges.get(&order.id).map_or(&[][..], Vec::as_slice);
        timeline::timeline(flow, order, events, charges)
    };
    timeline::typical(placed, took).into_iter().map(of).collect()
}

pub(crate) fn dead_letters(log: &TopicLog) -> Vec<DeadLetterRow> {
    let row = |record: &Record| {
        let said = |name| text(record, name).unwrap_or_default().to_owned();
        DeadLetterRow {
            topic: record.topic.to_string(),
            reason: said("error.type"),
            message: said("__dlq.errors.message"),
            attempts: said("attempts"),
        }
    };
    log.dead_letters().map(row).collect()
}

/// The smallest of the sorted values that at least this share does not exceed.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (Some(50.0), Some(99.0)));
        assert_eq!((percentile(&[7.0], 50), percentile(&[7.0], 99)), (Some(7.0), Some(7.0)));
        assert_eq!(percentile(&[], 50), None);
    }
}
