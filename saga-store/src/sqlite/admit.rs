//! Admission on SQLite: the barrier rows of a batch of events. The transaction has the database to itself, so that
//! nothing can come between a statement and the next.

use rusqlite::{Connection, OptionalExtension, params};
use saga_core::{
    barrier::{Before, Cause, Mark, Op, Row},
    store::{Admission, Phase, StoreError},
};

use super::error::classify;
use crate::marks;

const PARKED: &str = "SELECT 1 FROM saga_parked WHERE saga_id = ?1 LIMIT 1";
const OVERTAKES: &str = "SELECT min(seq) FROM saga_parked WHERE saga_id = ?1 AND step = ?2 AND op = 'action'";
const MARK: &str =
    "SELECT mark, cause, cause_type, effect_key FROM saga_barrier WHERE saga_id = ?1 AND step = ?2 AND op = ?3";
const INSERT_MARK: &str = "INSERT INTO saga_barrier (saga_id, step, op, mark, cause, cause_type, effect_key, created_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, unixepoch() * 1000000)";

pub(super) fn admit(conn: &Connection, admission: &Admission) -> Result<Before, StoreError> {
    let sql = |error: rusqlite::Error| classify(&error);
    let (parked, overtakes) = queue(conn, admission).map_err(sql)?;
    let mut before = Before { parked, overtakes, action: None, compensation: None };
    for op in [Op::Action, Op::Compensate] {
        let known = row(conn, admission, op)?;
        if known.is_none() && !parked {
            insert(conn, admission, op).map_err(sql)?;
        }
        match op {
            Op::Action => before.action = known,
            Op::Compensate => before.compensation = known,
        }
    }
    Ok(before)
}

/// Whether the event waits behind what is parked, and the parked action that it overtakes.
fn queue(conn: &Connection, admission: &Admission) -> rusqlite::Result<(bool, Option<i64>)> {
    let saga = admission.saga_id.to_string();
    let overtakes = match admission.op {
        Op::Action => None,
        Op::Compensate => conn.prepare_cached(OVERTAKES)?.query_row(params![saga, admission.step], |row| row.get(0))?,
    };
    let parked = overtakes.is_none() && !admission.from_parked && conn.prepare_cached(PARKED)?.exists(params![saga])?;
    Ok((parked, overtakes))
}

/// A row that is there.
fn row(conn: &Connection, admission: &Admission, op: Op) -> Result<Option<Row>, StoreError> {
    type Columns = (String, Option<String>, Option<String>, Option<String>);
    let read = || -> rusqlite::Result<Option<Columns>> {
        conn.prepare_cached(MARK)?
            .query_row(params![admission.saga_id.to_string(), admission.step, marks::op(op)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()
    };
    let Some((mark, cause, event_type, key)) = read().map_err(|error| classify(&error))? else { return Ok(None) };
    let cause = cause.as_deref().map(marks::read_uuid).transpose()?.zip(event_type);
    Ok(Some(Row {
        mark: marks::read_mark(&mark)?,
        cause: cause.map(|(id, event_type)| Cause { id, event_type }),
        effect_key: key.as_deref().map(marks::read_uuid).transpose()?,
    }))
}

/// The row that the admission writes where there is none.
fn insert(conn: &Connection, admission: &Admission, op: Op) -> rusqlite::Result<()> {
    let mark = match (admission.phase, admission.op, op) {
        (Phase::Finish | Phase::Recheck, ..) | (_, Op::Action, Op::Compensate) => return Ok(()),
        (_, Op::Compensate, Op::Action) => Mark::Null,
        (Phase::Whole, ..) => Mark::Done,
        (Phase::Start, ..) => Mark::Started,
    };
    let key = admission.effect_key.filter(|_| op == admission.op).map(|key| key.to_string());
    conn.prepare_cached(INSERT_MARK)?.execute(params![
        admission.saga_id.to_string(),
        admission.step,
        marks::op(op),
        marks::mark(mark),
        admission.cause.id.to_string(),
        admission.cause.event_type,
        key
    ])?;
    Ok(())
}
