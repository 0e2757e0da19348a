//! Parked sagas on PostgreSQL: claiming their heads, and one statement for all changes of a kind, however many sagas fail.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use saga_core::{
    event::SagaId,
    record::Record,
    store::{ParkChange, ParkedAt, ParkedEvent, ParkedLabel, Parking, StoreError},
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Postgres,
    admit::LOCK_QUEUES,
    call::{Call, column, one},
    pool::User,
    rows::{ReadError, list, run, time},
    time::{Micros, seconds},
};
use crate::columns;

/// Leases due heads; a blocked head has no due time. A row that another process is leasing is skipped, and is no longer
/// due once its lease is written.
const CLAIM: &str = "
UPDATE saga_parked SET due = now() + make_interval(secs => $1) WHERE seq = ANY(ARRAY(
    SELECT seq FROM saga_parked
    WHERE due <= now() AND ((step = ANY($3::text[])) IS NOT TRUE OR op = 'compensate' AND failed_at IS NULL)
    ORDER BY due, seq LIMIT $2 FOR UPDATE SKIP LOCKED))
RETURNING seq, saga_id, attempts, failed_at, round, topic, topic_partition, topic_offset, key, value, headers";
const UNLABELLED: &str = "
SELECT seq, saga_id, attempts, failed_at, round, topic, topic_partition, topic_offset, key, value, headers
FROM saga_parked WHERE cause IS NULL ORDER BY seq LIMIT $1";
/// A compensation behind its own action is due at once; the action is labelled already or in the same statement.
const LABEL: &str = "
WITH l AS MATERIALIZED (
    SELECT l.*, p.saga_id FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[]) AS l(seq, cause, step, op),
    LATERAL (SELECT saga_id FROM saga_parked p WHERE p.seq = l.seq OFFSET 0) p)
UPDATE saga_parked p SET cause = l.cause, step = l.step, op = l.op,
    due = CASE WHEN l.op = 'compensate' AND p.due IS NULL AND NOT p.held AND (
        EXISTS (SELECT FROM l a WHERE a.saga_id = l.saga_id AND a.step = l.step AND a.op = 'action')
        OR EXISTS (SELECT FROM saga_parked a WHERE a.saga_id = l.saga_id AND a.step = l.step AND a.op = 'action'))
    THEN 'epoch' ELSE p.due END
FROM l WHERE p.seq = l.seq";
/// Appends to queues. The same event from the same offset is a redelivery and changes nothing; from another offset it
/// was published again, and replaces the row. The head of a queue is due, and so is a row that was due before: a
/// compensation that overtook its action does not wait behind a blocked head. What stands aside is due, is nobody's head, and
/// is not replaced.
const APPEND: &str = "INSERT INTO saga_parked AS p (saga_id, cause, event_id, step, op, topic, topic_partition, topic_offset, \
        key, value, headers, attempts, failed_at, held, reason, aside, round, due) \
    SELECT a.saga_id, a.cause, a.event_id, a.step, a.op, a.topic, a.topic_partition, a.topic_offset, \
        a.key, a.value, a.headers, a.attempts, a.failed_at, a.held, a.reason, a.aside, a.round, \
        CASE WHEN NOT a.held AND (a.aside OR coalesce(( \
            SELECT q.cause IS NOT DISTINCT FROM a.cause \
            FROM (SELECT * FROM saga_parked q WHERE q.saga_id = a.saga_id AND NOT q.aside OFFSET 0) q ORDER BY q.seq LIMIT 1), true)) \
        THEN now() + make_interval(secs => a.pause) END \
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::bigint[], \
        $9::bytea[], $10::bytea[], $11::text[], $12::bigint[], $13::timestamptz[], $14::boolean[], $15::text[], $16::float8[], $17::boolean[], $18::bigint[]) \
        AS a(saga_id, cause, event_id, step, op, topic, topic_partition, topic_offset, \
        key, value, headers, attempts, failed_at, held, reason, pause, aside, round) \
    ON CONFLICT (saga_id, cause) DO UPDATE SET topic = excluded.topic, topic_partition = excluded.topic_partition, \
        topic_offset = excluded.topic_offset, key = excluded.key, value = excluded.value, headers = excluded.headers, \
        attempts = excluded.attempts, failed_at = excluded.failed_at, held = excluded.held, reason = excluded.reason, \
        due = CASE WHEN NOT excluded.held AND p.due IS NOT NULL THEN now() ELSE excluded.due END \
    WHERE NOT p.aside AND (p.topic, p.topic_partition, p.topic_offset) \
        IS DISTINCT FROM (excluded.topic, excluded.topic_partition, excluded.topic_offset)";
/// Removes the compensation's own row, if it has one. [`OVERTAKE`] writes the action's row again if another transaction has
/// deleted it.
const LEAVE: &str = "DELETE FROM saga_parked WHERE saga_id = $1 AND cause = $2 AND seq <> $3";
const OVERTAKE: &str = "INSERT INTO saga_parked (seq, saga_id, cause, event_id, step, op, topic, topic_partition, topic_offset, \
    key, value, headers, attempts, failed_at, held, reason, due) OVERRIDING SYSTEM VALUE \
    VALUES ($17, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
    CASE WHEN NOT $14 THEN now() + make_interval(secs => $16) END) \
    ON CONFLICT (seq) DO UPDATE SET cause = $2, event_id = $3, step = $4, op = $5, topic = $6, topic_partition = $7, \
    topic_offset = $8, key = $9, value = $10, headers = $11, attempts = $12, failed_at = $13, held = $14, reason = $15, \
    aside = false, round = 0, due = excluded.due";
/// `seq` is compared with the array as well, so that the index is searched instead of scanned. A row without a step was
/// labelled by a program that could not read its event, and any change applies to it.
const RETRY: &str = "UPDATE saga_parked p \
    SET attempts = r.attempts, due = now() + make_interval(secs => r.pause), failed_at = r.failed_at, reason = r.reason \
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::float8[], $5::timestamptz[], $6::text[], $7::bigint[]) \
        AS r(seq, op, attempts, pause, failed_at, reason, round) \
    WHERE p.seq = ANY($1) AND p.seq = r.seq AND (p.op = r.op OR p.step = '') AND NOT p.held \
        AND p.round = coalesce(r.round, p.round)";
const AGAIN: &str = "UPDATE saga_parked p SET aside = true, round = r.next, due = now() + make_interval(secs => r.pause), \
        attempts = 0, failed_at = NULL, held = false, reason = 'waits for its next round' \
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::float8[]) AS r(seq, op, round, next, pause) \
    WHERE p.seq = ANY($1) AND p.seq = r.seq AND (p.op = r.op OR p.step = '') AND p.round = coalesce(r.round, p.round)";
const HOLD: &str = "UPDATE saga_parked p SET held = true, due = NULL, aside = false, reason = h.reason \
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS h(seq, op, reason, round) \
    WHERE p.seq = ANY($1) AND p.seq = h.seq AND (p.op = h.op OR p.step = '') AND p.round = coalesce(h.round, p.round)";
const REMOVE: &str = "DELETE FROM saga_parked p USING unnest($1::bigint[], $2::text[], $3::bigint[]) AS g(seq, op, round) \
    WHERE p.seq = ANY($1) AND p.seq = g.seq AND (p.op = g.op OR p.step = '') AND p.round = coalesce(g.round, p.round)";
/// Makes the new heads of these queues due; 1970 is past by any clock.
const PROMOTE: &str = "UPDATE saga_parked SET due = 'epoch' WHERE NOT held AND due IS NULL AND seq = ANY(ARRAY( \
    SELECT (SELECT min(q.seq) FROM (SELECT seq FROM saga_parked q WHERE q.saga_id = s.saga_id AND NOT q.aside OFFSET 0) q) \
    FROM unnest($1::uuid[]) AS s(saga_id)))";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[CLAIM, APPEND, LEAVE, OVERTAKE, RETRY, AGAIN, HOLD, REMOVE, PROMOTE];

impl Postgres {
    pub(crate) async fn claim_parked(
        &self,
        lease: Duration,
        limit: i64,
        resting: &[&str],
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        let session = self.session(User::Worker).await?;
        let rows = run(&session, CLAIM, &[&seconds(lease), &limit, &resting]).await?;
        let mut claimed = list(&rows, parked_event)?;
        claimed.sort_by_key(|event| event.seq);
        Ok(claimed)
    }

    pub(crate) async fn unlabelled_parked(&self, limit: i64) -> Result<Vec<ParkedEvent>, StoreError> {
        let session = self.session(User::Worker).await?;
        list(&run(&session, UNLABELLED, &[&limit]).await?, parked_event)
    }

    pub(crate) async fn label_parked(&self, labels: &[ParkedLabel]) -> Result<(), StoreError> {
        let session = self.session(User::Worker).await?;
        let seqs: Vec<i64> = labels.iter().map(|label| label.seq).collect();
        let causes: Vec<Uuid> = labels.iter().map(|label| label.cause).collect();
        let steps: Vec<&str> = labels.iter().map(|label| label.step).collect();
        let ops: Vec<&str> = labels.iter().map(|label| columns::op(label.op)).collect();
        run(&session, LABEL, &[&seqs, &causes, &steps, &ops]).await.map(|_| ())
    }
}

fn parked_event(row: &Row) -> Result<ParkedEvent, ReadError> {
    let attempts: i64 = row.try_get(2)?;
    Ok(ParkedEvent {
        seq: row.try_get(0)?,
        saga_id: row.try_get::<_, Uuid>(1)?.into(),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        failed_at: time(row.try_get(3)?)?,
        round: columns::read_round(row.try_get(4)?),
        record: Record {
            topic: row.try_get::<_, &str>(5)?.into(),
            partition: row.try_get(6)?,
            offset: row.try_get(7)?,
            key: row.try_get(8)?,
            value: row.try_get(9)?,
            headers: columns::read_headers(row.try_get(10)?)?,
        },
    })
}

/// The statements for these changes, in order for each saga.
pub(super) fn calls(changes: &[ParkChange]) -> Vec<Call<'_>> {
    if changes.is_empty() {
        return Vec::new();
    }
    let queues = Call { sql: LOCK_QUEUES, params: vec![column(changes, |change| saga(change).as_uuid())] };
    std::iter::once(queues).chain(rounds(changes).iter().flat_map(Round::calls)).collect()
}

fn saga(change: &ParkChange) -> SagaId {
    match change {
        ParkChange::Append(parking) | ParkChange::Overtake { by: parking, .. } => parking.saga_id,
        ParkChange::Remove { at }
        | ParkChange::Retry { at, .. }
        | ParkChange::Again { at, .. }
        | ParkChange::Block { at, .. } => at.saga_id,
    }
}

/// Groups changes that may run together: at most one of each saga, or removals alone. There is nearly always one group.
fn rounds(changes: &[ParkChange]) -> Vec<Round<'_>> {
    let mut rounds: Vec<Round<'_>> = Vec::new();
    // The round of each saga's last change, and whether that was a removal.
    let mut last: HashMap<SagaId, (usize, bool)> = HashMap::new();
    for change in changes {
        let removal = matches!(change, ParkChange::Remove { .. });
        let round = match last.get(&saga(change)) {
            None => 0,
            Some((round, true)) if removal => *round,
            Some((round, _)) => round + 1,
        };
        last.insert(saga(change), (round, removal));
        rounds.resize_with(rounds.len().max(round + 1), Round::default);
        rounds[round].add(change);
    }
    rounds
}

#[derive(Default)]
struct Round<'a> {
    append: Vec<&'a Parking>,
    overtake: Vec<(i64, &'a Parking)>,
    retry: Vec<Retry<'a>>,
    again: Vec<(ParkedAt, u32, Duration)>,
    hold: Vec<(ParkedAt, &'a str)>,
    remove: Vec<ParkedAt>,
}

struct Retry<'a> {
    at: ParkedAt,
    attempts: u32,
    pause: Duration,
    failed_at: Timestamp,
    reason: &'a str,
}

impl<'a> Round<'a> {
    fn add(&mut self, change: &'a ParkChange) {
        match change {
            ParkChange::Append(parking) => self.append.push(parking),
            ParkChange::Overtake { seq, by } => self.overtake.push((*seq, by)),
            &ParkChange::Retry { at, attempts, pause, failed_at, ref reason } => {
                self.retry.push(Retry { at, attempts, pause, failed_at, reason });
            }
            &ParkChange::Again { at, round, pause } => self.again.push((at, round, pause)),
            ParkChange::Block { at, reason } => self.hold.push((*at, reason)),
            ParkChange::Remove { at } => self.remove.push(*at),
        }
    }

    fn calls(&self) -> Vec<Call<'a>> {
        let Self { append: appended, overtake: overtaken, retry, again, hold, remove } = self;
        let mut calls = Vec::new();
        if !appended.is_empty() {
            calls.push(append(appended));
        }
        calls.extend(overtaken.iter().flat_map(|(seq, by)| overtake(*seq, by)));
        if !retry.is_empty() {
            let params = vec![
                column(retry, |r| r.at.seq),
                column(retry, |r| columns::op(r.at.op)),
                column(retry, |r| i64::from(r.attempts)),
                column(retry, |r| seconds(r.pause)),
                column(retry, |r| Micros::from(r.failed_at)),
                column(retry, |r| columns::clean(r.reason)),
                column(retry, |r| round(&r.at)),
            ];
            calls.push(Call { sql: RETRY, params });
        }
        if !again.is_empty() {
            let params = vec![
                column(again, |(at, ..)| at.seq),
                column(again, |(at, ..)| columns::op(at.op)),
                column(again, |(at, ..)| round(at)),
                column(again, |(_, next, _)| i64::from(*next)),
                column(again, |(.., pause)| seconds(*pause)),
            ];
            let sagas = vec![column(again, |(at, ..)| at.saga_id.as_uuid())];
            calls.extend([Call { sql: AGAIN, params }, Call { sql: PROMOTE, params: sagas }]);
        }
        if !hold.is_empty() {
            let params = vec![
                column(hold, |(at, _)| at.seq),
                column(hold, |(at, _)| columns::op(at.op)),
                column(hold, |(_, reason)| columns::clean(reason)),
                column(hold, |(at, _)| round(at)),
            ];
            calls.push(Call { sql: HOLD, params });
        }
        if !remove.is_empty() {
            let gone =
                vec![column(remove, |at| at.seq), column(remove, |at| columns::op(at.op)), column(remove, round)];
            let sagas = vec![column(remove, |at| at.saga_id.as_uuid())];
            calls.extend([Call { sql: REMOVE, params: gone }, Call { sql: PROMOTE, params: sagas }]);
        }
        calls
    }
}

/// The round at a position, as a parameter.
fn round(at: &ParkedAt) -> Option<i64> {
    at.round.map(i64::from)
}

fn append<'a>(parkings: &[&'a Parking]) -> Call<'a> {
    let all = || parkings.iter().copied();
    let params = vec![
        column(all(), |p| p.saga_id.as_uuid()),
        column(all(), |p| p.cause),
        column(all(), |p| p.event_id.as_str()),
        column(all(), |p| p.step),
        column(all(), |p| columns::op(p.op)),
        column(all(), |p| &*p.record.topic),
        column(all(), |p| p.record.partition),
        column(all(), |p| p.record.offset),
        column(all(), |p| p.record.key.as_deref()),
        column(all(), |p| p.record.value.as_deref()),
        column(all(), |p| columns::headers(&p.record.headers)),
        column(all(), |p| i64::from(p.attempts)),
        column(all(), |p| p.failed_at.map(Micros::from)),
        column(all(), |p| p.blocked),
        column(all(), |p| columns::clean(&p.reason)),
        column(all(), |p| seconds(p.pause)),
        column(all(), |p| p.aside),
        column(all(), |p| i64::from(p.round)),
    ];
    Call { sql: APPEND, params }
}

fn overtake(seq: i64, by: &Parking) -> [Call<'_>; 2] {
    let record = &by.record;
    let params = vec![
        one(by.saga_id.as_uuid()),
        one(by.cause),
        one(&by.event_id),
        one(by.step),
        one(columns::op(by.op)),
        one(&*record.topic),
        one(record.partition),
        one(record.offset),
        one(record.key.as_deref()),
        one(record.value.as_deref()),
        one(columns::headers(&record.headers)),
        one(i64::from(by.attempts)),
        one(by.failed_at.map(Micros::from)),
        one(by.blocked),
        one(columns::clean(&by.reason)),
        one(seconds(by.pause)),
        one(seq),
    ];
    let own = vec![one(by.saga_id.as_uuid()), one(by.cause), one(seq)];
    [Call { sql: LEAVE, params: own }, Call { sql: OVERTAKE, params }]
}
