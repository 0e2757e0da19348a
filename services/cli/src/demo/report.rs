//! What the demo has to tell in the end: endings and their times, a timeline of each, the invariants.

use std::collections::BTreeMap;

use saga_core::{graph::Choreography, record::Record};
use serde::Serialize;
use uuid::Uuid;

use super::{
    ending::Ending,
    facts::Facts,
    invariants::{Book, Invariant},
    journal::Journal,
    place::Placed,
    timeline::{self, Timeline},
};
use saga_tools::event::text;

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) holds: bool,
    pub(crate) orders: usize,
    pub(crate) took_ms: f64,
    pub(crate) endings: Vec<EndingRow>,
    pub(crate) timelines: Vec<Timeline>,
    pub(crate) poison: Vec<Letter>,
    pub(crate) invariants: Vec<Invariant>,
    pub(crate) books: Vec<Book>,
    pub(crate) runs: Runs,
}

/// The orders that ended in one way.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndingRow {
    pub(crate) ending: Ending,
    pub(crate) status: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) orders: usize,
    /// From the request until its last event was read; none when there is none.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) remark: Option<String>,
}

/// A dead letter.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Letter {
    pub(crate) topic: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) attempts: String,
}

/// Where everything runs, or ran.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Runs {
    pub(crate) kafka: String,
    pub(crate) services: BTreeMap<&'static str, String>,
    /// Only when it stays.
    pub(crate) data: Option<String>,
}

/// How long each order took that has ended, in milliseconds.
pub(crate) fn took(journal: &Journal, placed: &[Placed]) -> BTreeMap<Uuid, f64> {
    let took = |order: &Placed| {
        let (_, seen) = journal.end(order.id)?;
        Some((order.id, seen.saturating_duration_since(order.sent).as_secs_f64() * 1000.0))
    };
    placed.iter().filter_map(took).collect()
}

pub(crate) fn endings(facts: &Facts, placed: &[Placed], took: &BTreeMap<Uuid, f64>) -> Vec<EndingRow> {
    let row = |ending: Ending| {
        let orders: Vec<&Placed> = placed.iter().filter(|order| order.ending == ending).collect();
        let mut times: Vec<f64> = orders.iter().filter_map(|order| took.get(&order.id).copied()).collect();
        times.sort_by(f64::total_cmp);
        let charges: Vec<_> = orders.iter().filter_map(|order| facts.charges.get(&order.id)).flatten().collect();
        let reason = ending.reason().map(|reason| reason.as_str().to_owned());
        EndingRow {
            ending,
            status: if reason.is_none() { "confirmed" } else { "cancelled" },
            reason,
            orders: orders.len(),
            p50_ms: percentile(&times, 50),
            p99_ms: percentile(&times, 99),
            remark: timeline::calls(&charges),
        }
    };
    Ending::ALL.map(row).to_vec()
}

pub(crate) fn timelines(
    flow: &Choreography,
    journal: &Journal,
    facts: &Facts,
    placed: &[Placed],
    took: &BTreeMap<Uuid, f64>,
) -> Vec<Timeline> {
    let sagas = journal.by_saga();
    let of = |order: &Placed| {
        let events = sagas.get(&order.id).map_or(&[][..], Vec::as_slice);
        let charges = facts.charges.get(&order.id).map_or(&[][..], Vec::as_slice);
        timeline::timeline(flow, order, events, charges)
    };
    timeline::typical(placed, took).into_iter().map(of).collect()
}

pub(crate) fn letters(journal: &Journal) -> Vec<Letter> {
    let letter = |record: &Record| {
        let said = |name| text(record, name).unwrap_or_default().to_owned();
        Letter {
            topic: record.topic.to_string(),
            reason: said("error.type"),
            message: said("__dlq.errors.message"),
            attempts: said("attempts"),
        }
    };
    journal.dead_letters().map(letter).collect()
}

/// The smallest of the sorted values that at least this many percent do not exceed.
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
