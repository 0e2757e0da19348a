//! The trip's tables and its SQL. The events of a trip may come in any order, so whichever comes first inserts the row.

use saga::prelude::*;

/// The tables of the trip.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_trips",
    sql: "CREATE TABLE trips (trip_id text PRIMARY KEY, status text NOT NULL, reason text);
          CREATE TABLE questions (
              trip_id text PRIMARY KEY, cents bigint NOT NULL, card text NOT NULL, answer text);
          CREATE TABLE asked (
              trip_id text NOT NULL, number bigint NOT NULL, cents bigint NOT NULL, PRIMARY KEY (trip_id, number))",
}];

pub(super) const REGISTER: &str =
    "INSERT INTO trips (trip_id, status) VALUES ($1, 'pending') ON CONFLICT (trip_id) DO NOTHING";
/// A semantic lock: who makes a pending trip something else decides how it ends.
pub(super) const REQUEST_CANCELLATION: &str =
    "UPDATE trips SET status = 'cancelling', reason = $2 WHERE trip_id = $1 AND status = 'pending'";
pub(super) const CONFIRM: &str = "INSERT INTO trips (trip_id, status) VALUES ($1, 'confirmed')
    ON CONFLICT (trip_id) DO UPDATE SET
        status = CASE trips.status WHEN 'pending' THEN 'confirmed' ELSE trips.status END
    RETURNING status";
pub(super) const CANCEL: &str = "INSERT INTO trips (trip_id, status, reason) VALUES ($1, 'cancelled', $2)
    ON CONFLICT (trip_id) DO UPDATE SET status = 'cancelled', reason = coalesce(trips.reason, excluded.reason)
    WHERE trips.status <> 'confirmed'
    RETURNING reason";

pub(super) const QUESTION: &str = "INSERT INTO questions (trip_id, cents, card) VALUES ($1, $2, $3)";
pub(super) const LOCK_QUESTION: &str = "SELECT cents, card, answer FROM questions WHERE trip_id = $1 :for_update";
/// What the customer reads: a row for each time they are asked.
pub(super) const ASKED: &str = "INSERT INTO asked (trip_id, number, cents) VALUES ($1, $2, $3)";
pub(super) const QUESTIONS: &str = "SELECT trip_id, number, cents FROM asked ORDER BY trip_id, number";
pub(super) const ANSWER: &str = "UPDATE questions SET answer = $2 WHERE trip_id = $1 AND answer IS NULL";
