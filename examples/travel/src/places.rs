//! Seats, rooms and cars: a number of free places under each name, and which trip holds which.

use saga::prelude::*;

/// The tables of whoever has places.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_places",
    sql: "CREATE TABLE places (name text PRIMARY KEY, free bigint NOT NULL, cents bigint NOT NULL);
          CREATE TABLE held (trip_id text PRIMARY KEY, name text NOT NULL)",
}];

// The condition is part of the statement: of two trips at once, the second one sees what the first one has left.
const TAKE: &str = "UPDATE places SET free = free - 1 WHERE name = $1 AND free > 0 RETURNING cents";
const HOLD: &str = "INSERT INTO held (trip_id, name) VALUES ($1, $2)";
const GIVE_BACK: &str =
    "UPDATE places SET free = free + 1 WHERE name = (SELECT h.name FROM held h WHERE h.trip_id = $1)";
const LET_GO: &str = "DELETE FROM held WHERE trip_id = $1";

/// Takes a place and returns its price; none when there is no place.
pub(crate) async fn take(cx: &mut Cx<'_, Db>, trip_id: Uuid, name: &str) -> Result<Option<i64>, StepError> {
    let Some(row) = cx.tx().query_opt(TAKE, params![name]).await? else { return Ok(None) };
    cx.write(HOLD, params![trip_id, name])?;
    Ok(Some(row.get("cents")?))
}

/// Gives back what the trip holds.
pub(crate) fn give_back(cx: &mut Cx<'_, Db>, trip_id: Uuid) -> Result<(), StepError> {
    cx.write(GIVE_BACK, params![trip_id])?;
    cx.write(LET_GO, params![trip_id])?;
    Ok(())
}
