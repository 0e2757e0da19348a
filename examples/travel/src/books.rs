//! What everybody holds after a run, and what must hold about it.

use std::collections::{BTreeMap, BTreeSet};

use saga::{database::Db, prelude::*, store::StoreError};

use crate::{
    events::{TripCancelled, TripConfirmed},
    trip::MOST_QUESTIONS,
};

/// Who has places.
pub const PROVIDERS: [&str; 3] = ["flight", "hotel", "car"];

/// How a trip ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ending {
    /// Reserved and paid.
    Confirmed,
    /// Nothing is left of it, for this reason.
    Cancelled(String),
}

impl Ending {
    /// The ending that this event is; none when the trip goes on.
    pub fn of(event_type: &str, reason: Option<&str>) -> Option<Self> {
        match event_type {
            TripConfirmed::NAME => Some(Self::Confirmed),
            TripCancelled::NAME => Some(Self::Cancelled(reason.unwrap_or_default().to_owned())),
            _ => None,
        }
    }
}

/// The databases of all participants.
#[derive(Clone)]
pub struct Databases {
    /// The trip's.
    pub trip: Db,
    /// Those of the flight, the hotel and the car.
    pub places: [Db; 3],
    /// The payment's.
    pub payment: Db,
    /// The mail's.
    pub mail: Db,
}

/// What stands in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// The free places of each provider.
    pub free: [i64; 3],
    /// The trips that hold one.
    pub holders: [BTreeSet<Uuid>; 3],
    /// What is paid and not refunded for each trip, in cents.
    pub paid: BTreeMap<Uuid, i64>,
    /// The trips whose customer was told how it ended.
    pub told: BTreeSet<Uuid>,
    /// How often the customer who was asked most was asked.
    pub most_asked: i64,
}

impl Databases {
    /// Reads them.
    ///
    /// # Errors
    /// When a database does not answer.
    pub async fn books(&self) -> Result<Books, StoreError> {
        let [flight, hotel, car] = &self.places;
        let free = "SELECT CAST(coalesce(sum(free), 0) AS bigint) AS n FROM places";
        let held = "SELECT trip_id FROM held";
        Ok(Books {
            free: [number(flight, free).await?, number(hotel, free).await?, number(car, free).await?],
            holders: [trips(flight, held).await?, trips(hotel, held).await?, trips(car, held).await?],
            paid: paid(&self.payment).await?,
            told: trips(&self.mail, "SELECT trip_id FROM mails WHERE subject <> 'the price has changed'").await?,
            most_asked: number(&self.trip, "SELECT CAST(coalesce(max(number), 0) AS bigint) AS n FROM asked").await?,
        })
    }
}

async fn number(db: &Db, sql: &'static str) -> Result<i64, StoreError> {
    db.query_opt(sql, params![]).await?.map_or(Ok(0), |row| row.get("n"))
}

async fn trips(db: &Db, sql: &'static str) -> Result<BTreeSet<Uuid>, StoreError> {
    db.query(sql, params![]).await?.iter().map(|row| row.get("trip_id")).collect()
}

async fn paid(db: &Db) -> Result<BTreeMap<Uuid, i64>, StoreError> {
    let rows = db.query("SELECT trip_id, cents FROM payments WHERE NOT refunded", params![]).await?;
    rows.iter().map(|row| Ok((row.get("trip_id")?, row.get("cents")?))).collect()
}

/// What a run has left.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The places of each provider before the first trip.
    pub places: [i64; 3],
    /// How each trip may end.
    pub expected: BTreeMap<Uuid, Vec<Ending>>,
    /// What each customer has agreed to pay, in cents: the price that they have seen, or the new one that they accepted.
    pub agreed: BTreeMap<Uuid, i64>,
    /// How each has ended.
    pub ends: BTreeMap<Uuid, Vec<Ending>>,
    /// The books after the last end.
    pub books: Books,
    /// The dead letters.
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
    /// Checks everything that must hold.
    pub fn judge(&self) -> Vec<Invariant> {
        let invariant = |what, holds: bool, why: String| Invariant { what, broken: (!holds).then_some(why) };
        let ends = |trip: &Uuid| self.ends.get(trip).map(Vec::as_slice).unwrap_or_default();
        let not_once: Vec<_> = self.expected.keys().filter(|trip| ends(trip).len() != 1).take(3).collect();
        let is_other = |(trip, expected): &(&Uuid, &Vec<Ending>)| !ends(trip).iter().all(|end| expected.contains(end));
        let other: Vec<_> = self.expected.iter().filter(is_other).map(|(trip, _)| (trip, ends(trip))).take(3).collect();
        let confirmed: BTreeSet<Uuid> =
            self.ends.iter().filter(|(_, ends)| ends.contains(&Ending::Confirmed)).map(|(trip, _)| *trip).collect();
        let Books { free, holders, paid, told, most_asked } = &self.books;
        let differ =
            |trips: &BTreeSet<Uuid>| trips.symmetric_difference(&confirmed).take(3).copied().collect::<Vec<_>>();
        let held: Vec<_> = holders.iter().flat_map(differ).collect();
        let all: Vec<_> = (0..3).map(|i| free[i] + i64::try_from(holders[i].len()).unwrap_or(i64::MAX)).collect();
        let is_wrongly_paid = |trip: &&Uuid| match (paid.get(trip), confirmed.contains(trip)) {
            (Some(cents), true) => self.agreed.get(trip) != Some(cents),
            (paid, is_confirmed) => paid.is_some() || is_confirmed,
        };
        let wrongly_paid: BTreeSet<_> = paid.keys().chain(&confirmed).filter(is_wrongly_paid).take(3).collect();
        let untold: Vec<_> = self.ends.keys().filter(|trip| !told.contains(trip)).take(3).collect();
        vec![
            invariant("every trip has ended, and once", not_once.is_empty(), format!("{not_once:?}")),
            invariant("each in a way that it was placed for", other.is_empty(), format!("{other:?}")),
            invariant(
                "a confirmed trip holds a flight, a hotel and a car, and no other does",
                held.is_empty(),
                format!("{held:?}"),
            ),
            invariant("no place is lost", all == self.places, format!("{all:?} and not {:?}", self.places)),
            invariant(
                "a confirmed trip is paid, at the price that its customer agreed to, and no other is",
                wrongly_paid.is_empty(),
                format!("{wrongly_paid:?}"),
            ),
            invariant("every customer is told", untold.is_empty(), format!("{untold:?}")),
            invariant(
                "nobody is asked more than twice about a price",
                *most_asked <= i64::from(MOST_QUESTIONS),
                format!("{most_asked} times"),
            ),
            invariant("no event is dead-lettered", self.dead_letters == 0, format!("{} are", self.dead_letters)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIRMED: Uuid = Uuid::from_u128(1);
    const PAID: &str = "a confirmed trip is paid, at the price that its customer agreed to, and no other is";
    const CANCELLED: Uuid = Uuid::from_u128(2);

    /// Two trips, one of each ending.
    fn right() -> Evidence {
        let full = Ending::Cancelled("no_car".to_owned());
        let expected: BTreeMap<_, _> = [(CONFIRMED, vec![Ending::Confirmed]), (CANCELLED, vec![full])].into();
        let one: BTreeSet<_> = [CONFIRMED].into();
        Evidence {
            places: [5, 5, 1],
            ends: expected.clone(),
            expected,
            agreed: [(CONFIRMED, 300), (CANCELLED, 200)].into(),
            books: Books {
                free: [4, 4, 0],
                holders: [one.clone(), one.clone(), one.clone()],
                paid: [(CONFIRMED, 300)].into(),
                told: [CONFIRMED, CANCELLED].into(),
                most_asked: 2,
            },
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
    fn a_trip_without_an_end_or_with_two_is_found() {
        let lost = broken(|e| drop(e.ends.remove(&CANCELLED)));
        assert_eq!(lost, ["every trip has ended, and once"]);
        let twice = broken(|e| e.ends.entry(CANCELLED).or_default().push(Ending::Confirmed));
        assert!(twice.contains(&"every trip has ended, and once"), "{twice:?}");
    }

    #[test]
    fn another_ending_is_found() {
        let other = broken(|e| drop(e.ends.insert(CANCELLED, vec![Ending::Cancelled("deadline".to_owned())])));
        assert_eq!(other, ["each in a way that it was placed for"]);
    }

    #[test]
    fn a_place_that_is_held_for_nobody_is_found() {
        let held = broken(|e| {
            e.books.holders[1].insert(CANCELLED);
            e.books.free[1] -= 1;
        });
        assert_eq!(held, ["a confirmed trip holds a flight, a hotel and a car, and no other does"]);
        assert_eq!(broken(|e| e.books.free[0] += 1), ["no place is lost"]);
    }

    #[test]
    fn a_confirmed_trip_that_is_refunded_and_a_cancelled_one_that_is_paid_are_found() {
        assert_eq!(broken(|e| e.books.paid.clear()), [PAID]);
        assert_eq!(broken(|e| e.books.paid.extend([(CANCELLED, 200)])), [PAID]);
    }

    #[test]
    fn a_price_that_nobody_agreed_to_is_found() {
        for cents in [299, 301] {
            assert_eq!(broken(|e| e.books.paid.extend([(CONFIRMED, cents)])), [PAID]);
        }
        assert_eq!(broken(|e| e.agreed.clear()), [PAID]);
    }

    #[test]
    fn customers_who_are_not_told_or_asked_too_often_and_dead_letters_are_found() {
        assert_eq!(broken(|e| e.books.told.clear()), ["every customer is told"]);
        assert_eq!(broken(|e| e.books.most_asked = 3), ["nobody is asked more than twice about a price"]);
        assert_eq!(broken(|e| e.dead_letters = 1), ["no event is dead-lettered"]);
    }
}
