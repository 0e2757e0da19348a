//! What both banks hold, and what must hold about it.

use std::collections::{BTreeMap, BTreeSet};

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

/// Both banks, the payee's at an earlier moment: every credit that it shows has its debit at the payer's.
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
        let payee = bank(payee, PAYEE).await?;
        Ok(Self { payer: bank(payer, PAYER).await?, payee })
    }

    /// What has left one bank and has not arrived at the other. Below zero, something was credited that never was debited.
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

/// What both banks have noted of one transfer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The debits.
    pub debits: Vec<Debit>,
    /// The credits, in cents.
    pub credits: Vec<i64>,
}

/// A debit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debit {
    /// The amount.
    pub cents: i64,
    /// Whether it is back on the account.
    pub refunded: bool,
}

impl Notes {
    /// Reads those of every transfer that has any.
    ///
    /// # Errors
    /// When a database does not answer.
    pub async fn read(payer: &Db, payee: &Db) -> Result<BTreeMap<Uuid, Self>, StoreError> {
        let mut notes: BTreeMap<Uuid, Self> = BTreeMap::new();
        for row in payee.query("SELECT transfer_id, cents FROM credits", params![]).await? {
            notes.entry(row.get("transfer_id")?).or_default().credits.push(row.get("cents")?);
        }
        for row in payer.query("SELECT transfer_id, cents, refunded FROM debits", params![]).await? {
            let debit = Debit { cents: row.get("cents")?, refunded: row.get("refunded")? };
            notes.entry(row.get("transfer_id")?).or_default().debits.push(debit);
        }
        Ok(notes)
    }

    /// The ending that leaves these notes; none for notes that no ending leaves.
    pub fn ending(&self) -> Option<Ending> {
        match (self.debits.as_slice(), self.credits.as_slice()) {
            ([], []) => Some(Ending::NoCover),
            ([Debit { refunded: true, .. }], []) => Some(Ending::Refunded),
            ([Debit { refunded: false, cents }], [credited]) if cents == credited => Some(Ending::Credited),
            _ => None,
        }
    }
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
    /// What the banks have noted of each transfer after the last end.
    pub notes: BTreeMap<Uuid, Notes>,
    /// The books that were read while transfers were in flight.
    pub meanwhile: Vec<Books>,
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

    /// The first few transfers whose notes are not those of their end, and notes of no transfer that was placed.
    fn unlike_their_end(&self) -> Vec<(Uuid, Notes)> {
        let transfers: BTreeSet<_> = self.ends.keys().chain(self.notes.keys()).copied().collect();
        let noted = transfers.into_iter().map(|id| (id, self.notes.get(&id).cloned().unwrap_or_default()));
        let is_unlike = |(id, notes): &(Uuid, Notes)| {
            let ends = self.ends.get(id).map(Vec::as_slice).unwrap_or_default();
            notes.ending().is_none_or(|ending| !ends.contains(&ending))
        };
        noted.filter(is_unlike).take(3).collect()
    }

    /// Checks everything that must hold.
    pub fn judge(&self) -> Vec<Invariant> {
        let invariant = |what, holds: bool, why: String| Invariant { what, broken: (!holds).then_some(why) };
        let not_once: Vec<_> = self.ends.iter().filter(|(_, ends)| ends.len() != 1).take(3).collect();
        let counts = self.counts();
        let wrong = self.meanwhile.iter().find(|books| books.total() != self.before || books.in_transit() < 0);
        let unlike = self.unlike_their_end();
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
                "it was so at every moment in between, with nothing credited before it was debited",
                wrong.is_none() && !self.meanwhile.is_empty(),
                format!("{wrong:?} and not {} cents, in {} looks", self.before, self.meanwhile.len()),
            ),
            invariant(
                "nothing is in transit any more",
                self.books.in_transit() == 0,
                format!("{} cents", self.books.in_transit()),
            ),
            invariant(
                "each transfer is noted at both banks as it ended: once, with the same cents",
                unlike.is_empty(),
                format!("{unlike:?}"),
            ),
            invariant("no account is overdrawn", overdrawn == 0, format!("{overdrawn} are")),
            invariant("no event is dead-lettered", self.dead_letters == 0, format!("{} are", self.dead_letters)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_THE_END: &str = "each transfer is noted at both banks as it ended: once, with the same cents";
    const IN_BETWEEN: &str = "it was so at every moment in between, with nothing credited before it was debited";
    const CREDITED: Uuid = Uuid::from_u128(0);
    const NO_COVER: Uuid = Uuid::from_u128(1);
    const REFUNDED: Uuid = Uuid::from_u128(2);

    fn notes(debits: &[(i64, bool)], credits: &[i64]) -> Notes {
        let debits = debits.iter().map(|(cents, refunded)| Debit { cents: *cents, refunded: *refunded }).collect();
        Notes { debits, credits: credits.to_vec() }
    }

    /// Three transfers of ten cents, one of each ending.
    fn right() -> Evidence {
        let one_each = Ending::ALL.map(|ending| (ending, 1));
        let books = Books {
            payer: Bank { cents: 90, moved: 10, overdrawn: 0 },
            payee: Bank { cents: 10, moved: 10, overdrawn: 0 },
        };
        Evidence {
            before: 100,
            expected: one_each.into(),
            ends: [CREDITED, NO_COVER, REFUNDED].into_iter().zip(Ending::ALL.map(|ending| vec![ending])).collect(),
            books,
            notes: [(CREDITED, notes(&[(10, false)], &[10])), (REFUNDED, notes(&[(10, true)], &[]))].into(),
            meanwhile: vec![books],
            dead_letters: 0,
        }
    }

    fn broken(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
        let mut evidence = right();
        change(&mut evidence);
        evidence.judge().into_iter().filter(|i| i.broken.is_some()).map(|i| i.what).collect()
    }

    #[test]
    fn books_that_are_right_break_nothing() {
        assert_eq!(broken(|_| {}), [""; 0]);
    }

    #[test]
    fn a_transfer_without_an_end_or_with_two_is_found() {
        for ends in [vec![], vec![Ending::Credited, Ending::Credited], vec![Ending::Credited, Ending::Refunded]] {
            let found = broken(|e| drop(e.ends.insert(CREDITED, ends)));
            assert_eq!(found[0], "every transfer has ended, and once");
        }
    }

    #[test]
    fn a_wrong_ending_is_found() {
        let found = broken(|e| drop(e.ends.insert(CREDITED, vec![Ending::Refunded])));
        assert_eq!(found, ["each ending as often as it was placed", AT_THE_END]);
    }

    #[test]
    fn money_that_is_lost_or_made_is_found() {
        for cents in [80, 100] {
            let found = broken(|e| e.books.payer.cents = cents);
            assert_eq!(found, ["the money in accounts and in transit is what it was"]);
        }
        assert_eq!(broken(|e| e.meanwhile[0].payer.cents = 80), [IN_BETWEEN]);
    }

    /// The account and the note of the payee agree, so its own sum is as it was.
    #[test]
    fn a_credit_without_a_debit_is_found_although_the_total_is_the_same() {
        let made_up = Bank { cents: 20, moved: 20, overdrawn: 0 };
        assert_eq!(broken(|e| e.meanwhile[0].payee = made_up), [IN_BETWEEN]);
        let at_the_end = broken(|e| {
            e.books.payee = made_up;
            e.notes.insert(NO_COVER, notes(&[], &[10]));
        });
        assert_eq!(at_the_end, ["nothing is in transit any more", AT_THE_END]);
        assert_eq!(broken(|e| drop(e.notes.insert(Uuid::from_u128(9), notes(&[], &[10])))), [AT_THE_END], "of nobody");
    }

    /// In the sums one wrong transfer may make up for another.
    #[test]
    fn every_transfer_is_compared_for_itself() {
        for (what, id, wrong) in [
            ("a credit without a debit", NO_COVER, notes(&[], &[10])),
            ("a debit without a credit", CREDITED, notes(&[(10, false)], &[])),
            ("a debit that is not refunded", REFUNDED, notes(&[(10, false)], &[])),
            ("a debit of somebody without cover", NO_COVER, notes(&[(10, false)], &[10])),
            ("a doubled credit", CREDITED, notes(&[(10, false)], &[10, 10])),
            ("a doubled debit", CREDITED, notes(&[(10, false), (10, false)], &[10])),
            ("a wrong amount", CREDITED, notes(&[(10, false)], &[11])),
            ("a refund and a credit", CREDITED, notes(&[(10, true)], &[10])),
            ("a refund instead of a credit", CREDITED, notes(&[(10, true)], &[])),
        ] {
            assert_eq!(broken(|e| drop(e.notes.insert(id, wrong))), [AT_THE_END], "{what}");
        }
    }

    #[test]
    fn what_is_debited_and_not_credited_is_found() {
        let found = broken(|e| {
            e.books.payee = Bank { cents: 0, moved: 0, overdrawn: 0 };
            e.notes.insert(CREDITED, notes(&[(10, false)], &[]));
        });
        assert_eq!(found, ["nothing is in transit any more", AT_THE_END]);
    }

    #[test]
    fn overdrawn_accounts_and_dead_letters_are_found() {
        let found = broken(|e| (e.books.payer.overdrawn, e.dead_letters) = (1, 2));
        assert_eq!(found, ["no account is overdrawn", "no event is dead-lettered"]);
    }
}
