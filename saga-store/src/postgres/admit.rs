//! Admission on PostgreSQL: BEGIN and the barrier rows of a batch of events, in one round trip.

use std::{collections::HashMap, time::Duration};

use futures::{future::OptionFuture, join};
use saga_core::{
    barrier::{Arrival, Before, Cause, Mark, Op, Row as BarrierRow},
    event::SagaId,
    store::{Admission, LockedStep, Phase, StoreError},
};
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

use super::{
    error::classify,
    session::{Opening, Session, not_open},
    statement::{Param, refs},
};
use crate::columns;

/// The lock on sagas' queues. A transaction that changes a queue depending on its content takes it first, so that
/// appending, removing and replacing never run at once.
pub(super) const LOCK_QUEUES: &str = "SELECT pg_advisory_xact_lock(q.key) FROM ( \
    SELECT DISTINCT hashtextextended(current_schema() || '/' || s.saga_id, 0) AS key \
    FROM unnest($1::uuid[]) AS s(saga_id) ORDER BY 1) q";

/// Inserts barrier rows. An insert that succeeds says that no row was there; where it found one, [`ROWS`] reads it.
///
/// It does nothing where the transaction's mark is missing: see [`Opening`].
///
/// Queues are locked before rows, and rows before [`LOCK`], each in a fixed order, so that batches wait for each other
/// without a cycle. A conflicting insert waits until the other transaction ends. A part of a join locks its queue too, since
/// it locks its row even when it is queued behind a parked part; and so does a step with rounds, or another process could park
/// the event as if no round had been committed. One cycle is possible: an event that is queued behind a
/// parked one locks its queue at the commit, while its transaction has locked other sagas' rows. The lock timeout of one of
/// the two ends it, and that batch is halved.
///
/// `OFFSET 0` and LATERAL keep the planner from scanning a whole table for all events: the plan is made while tables
/// are small and kept while they grow.
const ADMIT: &str = "
WITH asked AS MATERIALIZED (
    SELECT a.*,
        NOT a.from_parked AND EXISTS (
            SELECT FROM saga_parked p WHERE p.saga_id = a.saga_id AND NOT p.aside OFFSET 0) AS queued,
        CASE WHEN a.op = 'compensate' THEN (
            SELECT min(p.seq) FROM (SELECT * FROM saga_parked p WHERE p.saga_id = a.saga_id OFFSET 0) p
            WHERE p.step = a.step AND p.op = 'action') END AS overtakes
    FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::boolean[], $9::boolean[])
        WITH ORDINALITY AS a(cause, cause_type, effect_key, saga_id, step, op, phase, from_parked, joins, n)
    WHERE current_setting('saga.tx', true) = $10
), placed AS MATERIALIZED (
    SELECT a.*, queued AND overtakes IS NULL AS parked FROM asked a
), marks AS (
    INSERT INTO saga_barrier (saga_id, step, op, mark, cause, cause_type, effect_key)
    SELECT saga_id, step, op, mark, cause, cause_type, effect_key FROM (
        SELECT saga_id, step, 'action' AS op, CASE
            WHEN op = 'compensate' THEN 'null' WHEN joins THEN 'waiting' WHEN phase = 'start' THEN 'started'
            ELSE 'done' END AS mark,
            cause, cause_type, CASE WHEN op = 'action' AND NOT joins THEN effect_key END AS effect_key
        FROM placed WHERE phase IN ('whole', 'start') AND NOT parked
        UNION ALL
        SELECT saga_id, step, 'compensate',
            CASE WHEN joins THEN 'waiting' WHEN phase = 'start' THEN 'started' ELSE 'done' END,
            cause, cause_type, CASE WHEN NOT joins THEN effect_key END
        FROM placed WHERE phase IN ('whole', 'start') AND NOT parked AND op = 'compensate'
    ) r ORDER BY saga_id, step, op
    ON CONFLICT (saga_id, step, op) DO NOTHING
    RETURNING saga_id, op
)
SELECT p.parked, p.overtakes, action.saga_id IS NOT NULL, compensation.saga_id IS NOT NULL
FROM placed p
LEFT JOIN marks action ON action.saga_id = p.saga_id AND action.op = 'action'
LEFT JOIN marks compensation ON compensation.saga_id = p.saga_id AND compensation.op = 'compensate'
ORDER BY p.n";

const LOCK: &str = "
SELECT b.saga_id FROM (SELECT * FROM unnest($1::uuid[], $2::text[]) AS k(saga_id, step) ORDER BY saga_id, step) a,
LATERAL (SELECT * FROM saga_barrier b WHERE b.saga_id = a.saga_id AND b.step = a.step AND b.op = 'action' FOR UPDATE) b";

/// A separate statement, because only a later one sees what was committed while [`ADMIT`] and [`LOCK`] waited.
const ROWS: &str = "
SELECT b.saga_id, b.op, b.mark, b.cause, b.cause_type, b.effect_key, b.round FROM unnest($1::uuid[], $2::text[]) AS a(saga_id, step),
LATERAL (SELECT * FROM saga_barrier b WHERE b.saga_id = a.saga_id AND b.step = a.step OFFSET 0) b";

const MARKS: &str = "
SELECT (SELECT b.mark FROM saga_barrier b WHERE b.saga_id = k.saga_id AND b.step = k.step AND b.op = 'action'),
    EXISTS (SELECT FROM saga_arrival a WHERE a.saga_id = k.saga_id AND a.step = k.step AND a.op = 'action'
        AND a.partly_compensated OFFSET 0),
    EXISTS (SELECT FROM saga_progress p WHERE p.saga_id = k.saga_id AND p.ended_at IS NOT NULL OFFSET 0)
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS k(saga_id, step, n) ORDER BY k.n";

/// A separate statement for the same reason.
const ARRIVALS: &str = "
SELECT k.saga_id, EXISTS (SELECT FROM saga_progress p WHERE p.saga_id = k.saga_id AND p.ended_at IS NOT NULL OFFSET 0),
    a.cause, a.event_type, a.version, a.data, a.partly_compensated
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k(saga_id, step, op)
LEFT JOIN LATERAL (SELECT * FROM saga_arrival a WHERE a.saga_id = k.saga_id AND a.step = k.step AND a.op = k.op OFFSET 0) a
    ON true";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[LOCK_QUEUES, ADMIT, LOCK, ROWS, MARKS, ARRIVALS];

/// Opens the transaction and admits the events. Rows of compensations, of joins and of steps' ends are locked and read in the
/// same round trip. An action that finds its row, which is rare, costs a second one.
pub(super) async fn admit(
    session: &Session,
    admissions: &[Admission],
    patience: Duration,
) -> Result<Vec<Before>, StoreError> {
    if admissions.is_empty() {
        session.open(patience).await?;
        return Ok(Vec::new());
    }
    let opening = Opening::new(patience);
    let locks = |a: &&Admission| a.joins || a.op == Op::Compensate || matches!(a.phase, Phase::Finish | Phase::Recheck);
    let queues =
        |a: &&Admission| a.joins || a.rounds || a.op == Op::Compensate || a.phase == Phase::Recheck || a.from_parked;
    let locked = keys(admissions.iter().filter(locks));
    let queues: Vec<Uuid> = admissions.iter().filter(queues).map(|a| a.saga_id.as_uuid()).collect();
    let (asked, joins) = (asked(admissions, &opening.tx), halves(admissions.iter().filter(|a| a.joins)));

    let admit = session.prepared(ADMIT).await?;
    let queue = if queues.is_empty() { None } else { Some(session.prepared(LOCK_QUEUES).await?) };
    let (lock, rows) = match &locked {
        Some(_) => (Some(session.prepared(LOCK).await?), Some(session.prepared(ROWS).await?)),
        None => (None, None),
    };
    let arrivals = if joins.is_some() { Some(session.prepared(ARRIVALS).await?) } else { None };
    let client = session.client();
    let queues: [&(dyn ToSql + Sync); 1] = [&queues];
    let (asked, locked_refs) = (refs(&asked), locked.as_deref().map(refs).unwrap_or_default());
    let joins = joins.as_deref().map(refs).unwrap_or_default();
    let query = |statement| client.query(statement, &locked_refs);
    let (admitted, found, arrived) = session
        .exchange(async {
            session.opened();
            // Polled, and therefore sent, in this order.
            let (begun, queued, admitted, locked, found, arrived) = join!(
                client.batch_execute(&opening.sql),
                OptionFuture::from(queue.as_ref().map(|queue| client.query(&queue.statement, &queues))),
                client.query(&admit.statement, &asked),
                OptionFuture::from(lock.as_ref().map(|lock| query(&lock.statement))),
                OptionFuture::from(rows.as_ref().map(|rows| query(&rows.statement))),
                OptionFuture::from(arrivals.as_ref().map(|arrivals| client.query(&arrivals.statement, &joins))),
            );
            begun?;
            queued.transpose()?;
            let admitted = admitted?;
            locked.transpose()?;
            let (found, arrived) = (found.transpose()?, arrived.transpose()?);
            Ok::<_, Error>((admitted, found.unwrap_or_default(), arrived.unwrap_or_default()))
        })
        .await?;

    let mut before = Vec::with_capacity(admissions.len());
    for row in &admitted {
        before.push(Inserted::read(row).map_err(|error| classify(&error))?);
    }
    if before.is_empty() {
        return Err(not_open());
    }
    if before.len() != admissions.len() {
        return Err(StoreError::Broken("the admission answered for another number of events".into()));
    }
    let mut marks = Marks::default();
    marks.extend(&found)?;
    let asked = || admissions.iter().zip(&before);
    let late = asked().filter(|(a, inserted)| !locks(a) && inserted.found_action()).map(|(a, _)| a);
    if let Some(late) = keys(late) {
        let rows = session.prepared(ROWS).await?;
        marks.extend(&session.exchange(client.query(&rows.statement, &refs(&late))).await?)?;
    }
    let mut before: Vec<Before> = asked().map(|(admission, inserted)| inserted.before(admission, &marks)).collect();
    let mut joins = read_joins(&arrived)?;
    for (admission, before) in admissions.iter().zip(&mut before) {
        let join = joins.remove(&admission.saga_id.as_uuid()).unwrap_or_default();
        (before.ended, before.arrivals) = (join.ended, join.arrivals);
    }
    Ok(before)
}

impl Session {
    /// Locks the action rows of these steps and returns what they are.
    pub(crate) async fn lock_steps(&self, steps: &[(SagaId, &str)]) -> Result<Vec<LockedStep>, StoreError> {
        let sagas: Vec<Uuid> = steps.iter().map(|(saga_id, _)| saga_id.as_uuid()).collect();
        let names: Vec<&str> = steps.iter().map(|(_, step)| *step).collect();
        let params: [&(dyn ToSql + Sync); 2] = [&sagas, &names];
        let (lock, marks) = (self.prepared(LOCK).await?, self.prepared(MARKS).await?);
        let client = self.client();
        let rows = self
            .exchange(async {
                let (locked, marks) =
                    join!(client.query(&lock.statement, &params), client.query(&marks.statement, &params));
                locked.and(marks)
            })
            .await?;
        let locked = |row: &Row| {
            let read = || Ok((row.try_get::<_, Option<String>>(0)?, row.try_get(1)?, row.try_get(2)?));
            let (mark, partly_compensated, ended) = read().map_err(|error: Error| classify(&error))?;
            let mark = mark.as_deref().map(columns::read_mark).transpose()?;
            Ok(LockedStep { mark, partly_compensated, ended })
        };
        rows.iter().map(locked).collect()
    }
}

fn asked<'a>(admissions: &'a [Admission], tx: &'a str) -> [Param<'a>; 10] {
    fn column<'a, T: tokio_postgres::types::ToSql + Sync + Send + 'a>(
        admissions: &'a [Admission],
        value: impl Fn(&'a Admission) -> T,
    ) -> Param<'a> {
        Box::new(admissions.iter().map(value).collect::<Vec<_>>())
    }
    [
        column(admissions, |a| a.cause.id),
        column(admissions, |a| a.cause.event_type.as_str()),
        column(admissions, |a| a.effect_key),
        column(admissions, |a| a.saga_id.as_uuid()),
        column(admissions, |a| a.step),
        column(admissions, |a| columns::op(a.op)),
        column(admissions, |a| match a.phase {
            Phase::Whole => "whole",
            Phase::Start => "start",
            Phase::Finish => "finish",
            Phase::Recheck => "recheck",
        }),
        column(admissions, |a| a.from_parked),
        column(admissions, |a| a.joins),
        Box::new(tx),
    ]
}

/// The steps of these admissions as parameters; none without admissions.
fn keys<'a>(admissions: impl Iterator<Item = &'a Admission>) -> Option<Vec<Param<'a>>> {
    let (sagas, steps): (Vec<Uuid>, Vec<&str>) = admissions.map(|a| (a.saga_id.as_uuid(), a.step)).unzip();
    if sagas.is_empty() { None } else { Some(vec![Box::new(sagas), Box::new(steps)]) }
}

/// The halves of steps of these admissions as parameters; none without admissions.
fn halves<'a>(admissions: impl Iterator<Item = &'a Admission>) -> Option<Vec<Param<'a>>> {
    let (keys, ops): (Vec<_>, Vec<&str>) =
        admissions.map(|a| ((a.saga_id.as_uuid(), a.step), columns::op(a.op))).unzip();
    let (sagas, steps): (Vec<Uuid>, Vec<&str>) = keys.into_iter().unzip();
    if sagas.is_empty() { None } else { Some(vec![Box::new(sagas), Box::new(steps), Box::new(ops)]) }
}

/// What is known of the join of a saga that an admission is about. A call has at most one half of a step of a saga.
#[derive(Default)]
struct Join {
    ended: bool,
    arrivals: Vec<Arrival>,
}

fn read_joins(rows: &[Row]) -> Result<HashMap<Uuid, Join>, StoreError> {
    let mut joins = HashMap::<Uuid, Join>::new();
    for row in rows {
        let (saga, ended, arrival) = read_arrival(row).map_err(|error| classify(&error))?;
        let join = joins.entry(saga).or_default();
        join.ended = ended;
        if let Some((version, arrival)) = arrival {
            join.arrivals.push(Arrival { version: columns::read_version(version)?, ..arrival });
        }
    }
    Ok(joins)
}

/// An arrival and the version of its data's schema as it is stored; none for a join without arrivals.
type ArrivalColumns = Option<(i64, Arrival)>;

fn read_arrival(row: &Row) -> Result<(Uuid, bool, ArrivalColumns), tokio_postgres::Error> {
    let Some(id) = row.try_get(2)? else { return Ok((row.try_get(0)?, row.try_get(1)?, None)) };
    let cause = Cause { id, event_type: row.try_get(3)? };
    let arrival = Arrival { cause, version: 0, data: row.try_get(5)?, partly_compensated: row.try_get(6)? };
    Ok((row.try_get(0)?, row.try_get(1)?, Some((row.try_get(4)?, arrival))))
}

/// The result of [`ADMIT`] for one event.
struct Inserted {
    parked: bool,
    overtakes: Option<i64>,
    action: bool,
    compensation: bool,
}

impl Inserted {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            parked: row.try_get(0)?,
            overtakes: row.try_get(1)?,
            action: row.try_get(2)?,
            compensation: row.try_get(3)?,
        })
    }

    /// Whether the action's row was there before, or the event was not admitted.
    fn found_action(&self) -> bool {
        !self.action
    }

    /// What was there before, without the rows that this admission inserted.
    fn before(&self, admission: &Admission, marks: &Marks) -> Before {
        let saga = admission.saga_id.as_uuid();
        Before {
            parked: self.parked,
            overtakes: self.overtakes,
            action: marks.get(saga, Op::Action).filter(|_| !self.action).cloned(),
            compensation: marks.get(saga, Op::Compensate).filter(|_| !self.compensation).cloned(),
            ..Before::default()
        }
    }
}

/// Barrier rows that were read. A call has at most one step of a saga.
#[derive(Default)]
struct Marks(HashMap<(Uuid, Op), BarrierRow>);

impl Marks {
    fn extend(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows {
            let ((saga, op, mark), read) = read(row).map_err(|error| classify(&error))?;
            let op = if op == columns::op(Op::Action) { Op::Action } else { Op::Compensate };
            self.0.insert((saga, op), read(columns::read_mark(mark)?));
        }
        Ok(())
    }

    fn get(&self, saga: Uuid, op: Op) -> Option<&BarrierRow> {
        self.0.get(&(saga, op))
    }
}

type Key<'a> = (Uuid, &'a str, &'a str);

/// Reads a barrier row: its key with the mark as text, and a function that completes it with the parsed mark.
fn read(row: &Row) -> Result<(Key<'_>, impl FnOnce(Mark) -> BarrierRow), tokio_postgres::Error> {
    let key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let cause = row.try_get::<_, Option<Uuid>>(3)?.zip(row.try_get::<_, Option<String>>(4)?);
    let cause = cause.map(|(id, event_type)| Cause { id, event_type });
    let (effect_key, round) = (row.try_get(5)?, columns::read_round(row.try_get(6)?));
    Ok((key, move |mark| BarrierRow { mark, cause, effect_key, round }))
}
