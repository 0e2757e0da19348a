//! Admission on SQLite: the barrier rows of a batch of events. The transaction has the database to itself, so its
//! statements see the same state.

use rusqlite::{Connection, OptionalExtension, params};
use saga_core::{
    barrier::{Arrival, Before, Cause, Mark, Op, Row},
    event::SagaId,
    store::{Admission, LockedStep, Phase, StoreError},
};

use super::{Session, columns::read_uuid, error::classify};
use crate::columns;

const PARKED: &str = "SELECT 1 FROM saga_parked WHERE saga_id = ?1 AND NOT aside LIMIT 1";
const OVERTAKES: &str = "SELECT min(seq) FROM saga_parked WHERE saga_id = ?1 AND step = ?2 AND op = 'action'";
const MARK: &str =
    "SELECT mark, cause, cause_type, effect_key, round FROM saga_barrier WHERE saga_id = ?1 AND step = ?2 AND op = ?3";
const ARRIVALS: &str = "SELECT cause, event_type, version, data, partly_compensated FROM saga_arrival WHERE saga_id = ?1 AND step = ?2 AND op = ?3";
const ARRIVED_PARTLY: &str =
    "SELECT 1 FROM saga_arrival WHERE saga_id = ?1 AND step = ?2 AND op = ?3 AND partly_compensated";
const HAS_ENDED: &str = "SELECT 1 FROM saga_progress WHERE saga_id = ?1 AND ended_at IS NOT NULL";
const INSERT_MARK: &str = "INSERT INTO saga_barrier (saga_id, step, op, mark, cause, cause_type, effect_key, created_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, unixepoch() * 1000000)";

pub(super) fn admit(conn: &Connection, admission: &Admission) -> Result<Before, StoreError> {
    let sql = |error: rusqlite::Error| classify(&error);
    let (parked, overtakes) = queue(conn, admission).map_err(sql)?;
    let mut before = Before { parked, overtakes, ..Before::default() };
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
    if admission.joins {
        before.arrivals = arrivals(conn, admission)?;
        let saga = params![admission.saga_id.to_string()];
        before.ended = conn.prepare_cached(HAS_ENDED).and_then(|mut ended| ended.exists(saga)).map_err(sql)?;
    }
    Ok(before)
}

impl Session {
    /// The actions of these steps. The transaction has the database to itself.
    pub(crate) fn locked(&self, steps: &[(SagaId, &str)]) -> Result<Vec<LockedStep>, StoreError> {
        let read =
            |conn: &Connection, (saga_id, step): &(SagaId, &str)| -> rusqlite::Result<(Option<String>, bool, bool)> {
                let saga_id = saga_id.to_string();
                let key = params![saga_id, step, columns::op(Op::Action)];
                let mark = conn.prepare_cached(MARK)?.query_row(key, |row| row.get(0)).optional()?;
                let ended = conn.prepare_cached(HAS_ENDED)?.exists(params![saga_id.to_string()])?;
                Ok((mark, conn.prepare_cached(ARRIVED_PARTLY)?.exists(key)?, ended))
            };
        self.with(|conn| {
            let locked = |step| {
                let (mark, partly_compensated, ended) = read(conn, step).map_err(|error| classify(&error))?;
                let mark = mark.as_deref().map(columns::read_mark).transpose()?;
                Ok(LockedStep { mark, partly_compensated, ended })
            };
            steps.iter().map(locked).collect()
        })?
    }
}

/// What has arrived of a join.
fn arrivals(conn: &Connection, admission: &Admission) -> Result<Vec<Arrival>, StoreError> {
    type Columns = (String, String, i64, Vec<u8>, bool);
    let read = || -> rusqlite::Result<Vec<Columns>> {
        conn.prepare_cached(ARRIVALS)?
            .query_map(params![admission.saga_id.to_string(), admission.step, columns::op(admission.op)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })?
            .collect()
    };
    let arrival = |(id, event_type, version, data, partly_compensated): Columns| {
        let cause = Cause { id: read_uuid(&id)?, event_type };
        Ok(Arrival { cause, version: columns::read_version(version)?, data, partly_compensated })
    };
    read().map_err(|error| classify(&error))?.into_iter().map(arrival).collect()
}

/// Whether the event waits behind parked ones, and the parked action that it overtakes.
fn queue(conn: &Connection, admission: &Admission) -> rusqlite::Result<(bool, Option<i64>)> {
    let saga = admission.saga_id.to_string();
    let overtakes = match admission.op {
        Op::Action => None,
        Op::Compensate => conn.prepare_cached(OVERTAKES)?.query_row(params![saga, admission.step], |row| row.get(0))?,
    };
    let parked = overtakes.is_none() && !admission.from_parked && conn.prepare_cached(PARKED)?.exists(params![saga])?;
    Ok((parked, overtakes))
}

/// Reads a row.
fn row(conn: &Connection, admission: &Admission, op: Op) -> Result<Option<Row>, StoreError> {
    type Columns = (String, Option<String>, Option<String>, Option<String>, i64);
    let read = || -> rusqlite::Result<Option<Columns>> {
        conn.prepare_cached(MARK)?
            .query_row(params![admission.saga_id.to_string(), admission.step, columns::op(op)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()
    };
    let Some((mark, cause, event_type, key, round)) = read().map_err(|error| classify(&error))? else {
        return Ok(None);
    };
    let cause = cause.as_deref().map(read_uuid).transpose()?.zip(event_type);
    Ok(Some(Row {
        mark: columns::read_mark(&mark)?,
        cause: cause.map(|(id, event_type)| Cause { id, event_type }),
        effect_key: key.as_deref().map(read_uuid).transpose()?,
        round: columns::read_round(round),
    }))
}

/// Writes the admission's row where there is none.
fn insert(conn: &Connection, admission: &Admission, op: Op) -> rusqlite::Result<()> {
    let mark = match (admission.phase, admission.op, op) {
        (Phase::Finish | Phase::Recheck, ..) | (_, Op::Action, Op::Compensate) => return Ok(()),
        (_, Op::Compensate, Op::Action) => Mark::Null,
        _ if admission.joins => Mark::Waiting,
        (Phase::Whole, ..) => Mark::Done,
        (Phase::Start, ..) => Mark::Started,
    };
    let key = admission.effect_key.filter(|_| op == admission.op && !admission.joins).map(|key| key.to_string());
    conn.prepare_cached(INSERT_MARK)?.execute(params![
        admission.saga_id.to_string(),
        admission.step,
        columns::op(op),
        columns::mark(mark),
        admission.cause.id.to_string(),
        admission.cause.event_type,
        key
    ])?;
    Ok(())
}
