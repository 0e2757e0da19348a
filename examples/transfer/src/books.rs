//! What both banks hold, and what must hold about it.

use std::collections::BTreeMap;

use saga::{database::Db, prelude::*, store::StoreError};

use crate::events::{PayeeCredited, PayerRefunded, PayerRefused};

// One statement, and so one moment.
const PAYER: &str = "SELECT
    (SELECT CAST(coalesce(sum(cents), 0) AS bigint) FROM accounts) AS cents,
    (SELECT CAST(coalesce(sum(cents), 0) AS bigint) FROM debits WHERE NOT refunded) AS moved,
    (SELECT count(*) FROM accounts WHERE cents < 0) AS overdrawn";
const PAYEE: &str = "SELECT
    (SELECT CAST(coalesce(sum(cents), 0) AS bigint) FROM accounts) AS cents,
    (SELECT CAST(coalesce(sum(cents), 0) AS bigint) FROM credits) AS moved,
    (SELECT count(*) FROM accounts WHERE cents < 0) AS overdrawn";

/// One bank at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bank {
    /// The sum of its accounts.
    pub cents: i64,
    /// At the payer's bank what was debited and not refunded, at the payee's what was credited.
    pub moved: i64,
    /// The number of accounts below zero.
    pub overdrawn: i64,
}

/// Both banks. Each may be at a moment of its own: the total is the same at any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    /// The payer's bank.
    pub payer: Bank,
    /// The payee's bank.
    pub payee: Bank,
}

impl Books {
    /// Reads both.
    ///
    /// # Errors
    /// When a database does not answer.
    pub async fn read(payer: &Db, payee: &Db) -> Result<Self, StoreError> {
        Ok(Self { payer: bank(payer, PAYER).await?, payee: bank(payee, PAYEE).await? })
    }

    /// What has left one bank and has not arrived at the other.
    pub fn in_transit(&self) -> i64 {
        self.payer.moved - self.payee.moved
    }

    /// All the money there is, in cents.
    pub fn total(&self) -> i64 {
        self.payer.cents + self.in_transit() + self.payee.cents
    }
}

async fn bank(db: &Db, sql: &'static str) -> Result<Bank, StoreError> {
    let none = || StoreError::Broken("a sum without a row".into());
    let row = db.query_opt(sql, params![]).await?.ok_or_else(none)?;
    Ok(Bank { cents: row.get("cents")?, moved: row.get("moved")?, overdrawn: row.get("overdrawn")? })
}

/// How a transfer ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ending {
    /// The money has arrived.
    Credited,
    /// The payer's account did not have it.
    NoCover,
    /// The payee's account was closed, and the money is back.
    Refunded,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 3] = [Self::Credited, Self::NoCover, Self::Refunded];

    /// The ending that this event is; none when the transfer goes on.
    pub fn of(event_type: &str) -> Option<Self> {
        match event_type {
            PayeeCredited::NAME => Some(Self::Credited),
            PayerRefused::NAME => Some(Self::NoCover),
            PayerRefunded::NAME => Some(Self::Refunded),
            _ => None,
        }
    }

    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Credited => "credited",
            Self::NoCover => "no cover: refused",
            Self::Refunded => "account closed: refunded",
        }
    }
}

/// What a run has left.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The money before the first transfer, in cents.
    pub before: i64,
    /// How many transfers were to end in each way.
    pub expected: BTreeMap<Ending, usize>,
    /// The ends of every transfer that was placed.
    pub ends: BTreeMap<Uuid, Vec<Ending>>,
    /// The books after the last end.
    pub books: Books,
    /// The totals that were read while transfers were in flight.
    pub meanwhile: Vec<i64>,
    /// The number of dead letters.
    pub dead_letters: usize,
}

/// Something that must hold, and whether it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// What must hold.
    pub what: &'static str,
    /// Why it does not.
    pub broken: Option<String>,
}

impl Evidence {
    /// How many transfers have ended in each way.
    pub fn counts(&self) -> BTreeMap<Ending, usize> {
        let mut counts = BTreeMap::new();
        for ending in self.ends.values().flatten() {
            *counts.entry(*ending).or_default() += 1;
        }
        counts
    }

    /// Checks everything that must hold.
    pub fn judge(&self) -> Vec<Invariant> {
        let invariant = |what, holds: bool, why: String| Invariant { what, broken: (!holds).then_some(why) };
        let not_once: Vec<_> = self.ends.iter().filter(|(_, ends)| ends.len() != 1).take(3).collect();
        let counts = self.counts();
        let lost = self.meanwhile.iter().find(|total| **total != self.before);
        let (total, overdrawn) = (self.books.total(), self.books.payer.overdrawn + self.books.payee.overdrawn);
        vec![
            invariant("every transfer has ended, and once", not_once.is_empty(), format!("{not_once:?}")),
            invariant(
                "each ending as often as it was placed",
                counts == self.expected,
                format!("{counts:?} and not {:?}", self.expected),
            ),
            invariant(
                "the money in accounts and in transit is what it was",
                total == self.before,
                format!("{total} cents and not {}", self.before),
            ),
            invariant(
                "it was so at every moment in between",
                lost.is_none() && !self.meanwhile.is_empty(),
                format!("{lost:?} cents and not {}, in {} looks", self.before, self.meanwhile.len()),
            ),
            invariant(
                "nothing is in transit any more",
                self.books.in_transit() == 0,
                format!("{} cents", self.books.in_transit()),
            ),
            invariant("no account is overdrawn", overdrawn == 0, format!("{overdrawn} are")),
            invariant("no event is dead-lettered", self.dead_letters == 0, format!("{} are", self.dead_letters)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three transfers of ten cents, one of each ending.
    fn right() -> Evidence {
        let one_each = Ending::ALL.map(|ending| (ending, 1));
        Evidence {
            before: 100,
            expected: one_each.into(),
            ends: (0..).map(Uuid::from_u128).zip(Ending::ALL.map(|ending| vec![ending])).collect(),
            books: Books {
                payer: Bank { cents: 90, moved: 10, overdrawn: 0 },
                payee: Bank { cents: 10, moved: 10, overdrawn: 0 },
            },
            meanwhile: vec![100],
            dead_letters: 0,
        }
    }

    fn broken(evidence: &Evidence) -> Vec<&'static str> {
        evidence.judge().into_iter().filter(|i| i.broken.is_some()).map(|i| i.what).collect()
    }

    #[test]
    fn books_that_are_right_break_nothing() {
        assert_eq!(broken(&right()), [""; 0]);
    }

    #[test]
    fn a_transfer_without_an_end_or_with_two_is_found() {
        for ends in [vec![], vec![Ending::Credited, Ending::Credited], vec![Ending::Credited, Ending::Refunded]] {
            let mut evidence = right();
            evidence.ends.insert(Uuid::from_u128(0), ends);
            assert_eq!(broken(&evidence)[0], "every transfer has ended, and once");
        }
    }

    #[test]
    fn a_wrong_ending_is_found() {
        let mut evidence = right();
        evidence.ends.insert(Uuid::from_u128(0), vec![Ending::Refunded]);
        assert_eq!(broken(&evidence), ["each ending as often as it was placed"]);
    }

    #[test]
    fn money_that_is_lost_or_made_is_found() {
        for cents in [80, 100] {
            let mut evidence = right();
            evidence.books.payer.cents = cents;
            assert_eq!(broken(&evidence), ["the money in accounts and in transit is what it was"]);
        }
        let mut evidence = right();
        evidence.meanwhile.push(90);
        assert_eq!(broken(&evidence), ["it was so at every moment in between"]);
    }

    #[test]
    fn what_is_debited_and_not_credited_is_found() {
        let mut evidence = right();
        evidence.books.payee = Bank { cents: 0, moved: 0, overdrawn: 0 };
        assert_eq!(broken(&evidence), ["nothing is in transit any more"]);
    }

    #[test]
    fn overdrawn_accounts_and_dead_letters_are_found() {
        let mut evidence = right();
        (evidence.books.payer.overdrawn, evidence.dead_letters) = (1, 2);
        assert_eq!(broken(&evidence), ["no account is overdrawn", "no event is dead-lettered"]);
    }
}
