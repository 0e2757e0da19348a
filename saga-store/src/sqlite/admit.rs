//! Admission on SQLite: inbox and barrier rows of a batch of events. The transaction has the database to itself, so that
//! nothing can come between a statement and the next.

use rusqlite::{Connection, OptionalExtension, params};
use saga_core::{
    barrier::{Before, Mark, Op},
    store::{Admission, Phase, StoreError},
};

use super::error::classify;
use crate::marks;

const PARKED: &str = "SELECT 1 FROM saga_parked WHERE saga_id = ?1 LIMIT 1";
const HANDLED: &str = "SELECT 1 FROM saga_inbox WHERE event_id = ?1";
const INBOX: &str = "INSERT INTO saga_inbox (event_id, saga_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const MARK: &str = "SELECT mark FROM saga_barrier WHERE saga_id = ?1 AND step = ?2 AND op = ?3";
const INSERT_MARK: &str = "INSERT INTO saga_barrier (saga_id, step, op, mark) VALUES (?1, ?2, ?3, ?4)";

pub(super) fn admit(conn: &Connection, admission: &Admission) -> Result<Before, StoreError> {
    one(conn, admission).map_err(|error| classify(&error))?
}

fn one(conn: &Connection, admission: &Admission) -> rusqlite::Result<Result<Before, StoreError>> {
    let saga = admission.saga_id.to_string();
    let parked = !admission.from_parked && conn.prepare_cached(PARKED)?.exists(params![saga])?;
    let handled = if parked || matches!(admission.phase, Phase::Start | Phase::Void) {
        conn.prepare_cached(HANDLED)?.exists(params![admission.event_id])?
    } else {
        conn.prepare_cached(INBOX)?.execute(params![admission.event_id, saga])? == 0
    };
    let mut before = Before { handled, parked, action: None, compensation: None };
    if handled || parked {
        return Ok(Ok(before));
    }
    for op in [Op::Action, Op::Compensate] {
        let known: Option<String> = conn
            .prepare_cached(MARK)?
            .query_row(params![saga, admission.step, marks::op(op)], |row| row.get(0))
            .optional()?;
        match known.as_deref().map(marks::read_mark).transpose() {
            Ok(mark) if op == Op::Action => before.action = mark,
            Ok(mark) => before.compensation = mark,
            Err(error) => return Ok(Err(error)),
        }
        let mark = match (admission.phase, admission.op, op) {
            (Phase::Finish | Phase::Void, ..) | (_, Op::Action, Op::Compensate) => continue,
            (_, Op::Compensate, Op::Action) => Mark::Null,
            (Phase::Whole, ..) => Mark::Done,
            (Phase::Start, ..) => Mark::Started,
        };
        if known.is_none() {
            let values = params![saga, admission.step, marks::op(op), marks::mark(mark)];
            conn.prepare_cached(INSERT_MARK)?.execute(values)?;
        }
    }
    Ok(Ok(before))
}
