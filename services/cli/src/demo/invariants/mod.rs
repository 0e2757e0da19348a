//! What must be true when the demo is over, judged by what stands in the databases and on the topics.

mod books;
mod effects;
mod poison;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use saga_core::graph::Choreography;
use serde::Serialize;

pub(crate) use books::Book;
pub(crate) use poison::Poison;

use super::{facts::Facts, journal::Journal, place::Placed};

/// Violations that are told; there may be as many as there are orders.
const TOLD: usize = 5;

/// All that is judged.
pub(crate) struct Evidence<'a> {
    pub(crate) flow: &'a Choreography,
    pub(crate) journal: &'a Journal,
    pub(crate) facts: &'a Facts,
    pub(crate) placed: &'a [Placed],
    /// What was set as available, by SKU.
    pub(crate) stock: &'a BTreeMap<String, i64>,
    pub(crate) poison: &'a Poison,
}

/// Something that must be true.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Invariant {
    pub(crate) invariant: &'static str,
    pub(crate) holds: bool,
    /// What was compared.
    pub(crate) numbers: String,
    /// What does not hold, the first few.
    pub(crate) violations: Vec<String>,
}

impl Invariant {
    fn new(invariant: &'static str, numbers: String, mut violations: Vec<String>) -> Self {
        let (holds, more) = (violations.is_empty(), violations.len().saturating_sub(TOLD));
        if more > 0 {
            violations.truncate(TOLD);
            violations.push(format!("and {more} more"));
        }
        Self { invariant, holds, numbers, violations }
    }
}

/// Judges everything.
pub(crate) fn judge(evidence: &Evidence<'_>) -> (Vec<Invariant>, Vec<Book>) {
    let books = books::of(evidence);
    let invariants = vec![
        effects::ended(evidence),
        effects::none_twice(evidence),
        effects::confirmed(evidence),
        effects::cancelled(evidence),
        effects::stock_conserved(evidence),
        effects::money_conserved(evidence),
        books::balance(evidence, &books),
        books::nothing_left(evidence),
        poison::buried(evidence),
    ];
    (invariants, books.into_iter().map(|(book, _)| book).collect())
}
