//! The framework's tables on SQLite, and migrations. Times are microseconds since 1970, ids are text.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{error::classify, files};
use crate::{
    error::ConnectError,
    migrate::{self, Migration},
};

const FRAMEWORK: &[Migration] = &[TABLES, PROGRESS, IDENTITY, SUMMARY, STEPS, TIMER_KINDS, ARRIVALS, ROUNDS, FAILED];

const TABLES: Migration = Migration {
    name: "saga/tables",
    sql: "
CREATE TABLE saga_inbox (
    event_id text PRIMARY KEY,
    saga_id text NOT NULL,
    handled_at bigint NOT NULL DEFAULT (unixepoch())
) WITHOUT ROWID;

CREATE TABLE saga_barrier (
    saga_id text NOT NULL,
    step text NOT NULL,
    op text NOT NULL,
    mark text NOT NULL,
    PRIMARY KEY (saga_id, step, op)
) WITHOUT ROWID;

CREATE TABLE saga_outbox (
    seq integer PRIMARY KEY AUTOINCREMENT,
    id text NOT NULL UNIQUE,
    aggregatetype text NOT NULL,
    aggregateid text NOT NULL,
    type text NOT NULL,
    topic text NOT NULL,
    payload blob,
    headers text NOT NULL,
    tracingspancontext text,
    created_at bigint NOT NULL
);

-- due: when the head of the saga's queue is tried; null for those behind it and for one that is held.
CREATE TABLE saga_parked (
    seq integer PRIMARY KEY AUTOINCREMENT,
    saga_id text NOT NULL,
    event_id text NOT NULL,
    topic text NOT NULL,
    topic_partition integer NOT NULL,
    topic_offset bigint NOT NULL,
    key blob,
    value blob,
    headers text NOT NULL,
    attempts bigint NOT NULL,
    failed_at bigint,
    due bigint,
    held boolean NOT NULL,
    reason text NOT NULL,
    UNIQUE (saga_id, event_id)
);
CREATE INDEX saga_parked_due ON saga_parked (due) WHERE due IS NOT NULL;

CREATE TABLE saga_timer (
    saga_id text NOT NULL,
    step text NOT NULL,
    due bigint NOT NULL,
    traceparent text,
    tracestate text,
    PRIMARY KEY (saga_id, step)
) WITHOUT ROWID;
CREATE INDEX saga_timer_due ON saga_timer (due);
",
};

/// Written by the participant that publishes the end of its sagas. The index holds the unfinished ones.
const PROGRESS: Migration = Migration {
    name: "saga/progress",
    sql: "
CREATE TABLE saga_progress (
    saga_id text PRIMARY KEY,
    begun_at bigint,
    ended_at bigint
) WITHOUT ROWID;
CREATE INDEX saga_progress_unfinished ON saga_progress (begun_at) WHERE ended_at IS NULL;
",
};

/// The identity of events, steps and places in queues; see PostgreSQL's migration of this name.
const IDENTITY: Migration = Migration {
    name: "saga/identity",
    sql: "
DROP TABLE saga_inbox;

ALTER TABLE saga_barrier ADD COLUMN cause text;
ALTER TABLE saga_barrier ADD COLUMN cause_type text;
ALTER TABLE saga_barrier ADD COLUMN effect_key text;
ALTER TABLE saga_barrier ADD COLUMN created_at bigint;

CREATE TABLE saga_queue (
    seq integer PRIMARY KEY AUTOINCREMENT,
    saga_id text NOT NULL,
    cause text,
    event_id text NOT NULL,
    step text,
    op text,
    topic text NOT NULL,
    topic_partition integer NOT NULL,
    topic_offset bigint NOT NULL,
    key blob,
    value blob,
    headers text NOT NULL,
    attempts bigint NOT NULL,
    failed_at bigint,
    due bigint,
    held boolean NOT NULL,
    reason text NOT NULL,
    UNIQUE (saga_id, cause)
);
INSERT INTO saga_queue (seq, saga_id, event_id, topic, topic_partition, topic_offset, key, value, headers, attempts,
    failed_at, due, held, reason)
SELECT seq, saga_id, event_id, topic, topic_partition, topic_offset, key, value, headers, attempts, failed_at, due, held, reason
FROM saga_parked;
DROP TABLE saga_parked;
ALTER TABLE saga_queue RENAME TO saga_parked;
CREATE INDEX saga_parked_due ON saga_parked (due) WHERE due IS NOT NULL;
CREATE INDEX saga_parked_unlabelled ON saga_parked (seq) WHERE cause IS NULL;
",
};

/// Indexes that start with the figures of parked sagas, however many there are.
const SUMMARY: Migration = Migration {
    name: "saga/summary",
    sql: "
CREATE INDEX saga_parked_held ON saga_parked (saga_id) WHERE held;
CREATE INDEX saga_parked_failed ON saga_parked (failed_at) WHERE failed_at IS NOT NULL AND due IS NOT NULL AND NOT held;
",
};

/// The steps that the participant has declared; see the migration of this name for PostgreSQL.
const STEPS: Migration = Migration {
    name: "saga/steps",
    sql: "CREATE TABLE saga_step (name text PRIMARY KEY, triggers text NOT NULL) WITHOUT ROWID;",
};

/// What a timer waits for; see the migration of this name for PostgreSQL.
const TIMER_KINDS: Migration = Migration {
    name: "saga/timer-kinds",
    sql: "
CREATE TABLE saga_timers (
    saga_id text NOT NULL,
    step text NOT NULL,
    kind text NOT NULL DEFAULT 'step',
    due bigint NOT NULL,
    traceparent text,
    tracestate text,
    PRIMARY KEY (saga_id, step, kind)
) WITHOUT ROWID;
INSERT INTO saga_timers (saga_id, step, due, traceparent, tracestate)
SELECT saga_id, step, due, traceparent, tracestate FROM saga_timer;
DROP TABLE saga_timer;
ALTER TABLE saga_timers RENAME TO saga_timer;
CREATE INDEX saga_timer_due ON saga_timer (due);
",
};

/// As on PostgreSQL.
const ARRIVALS: Migration = Migration {
    name: "saga/arrivals",
    sql: "
CREATE TABLE saga_arrival (
    saga_id text NOT NULL,
    step text NOT NULL,
    op text NOT NULL,
    event_type text NOT NULL,
    version integer NOT NULL,
    cause text NOT NULL,
    data blob NOT NULL,
    arrived_at integer NOT NULL,
    PRIMARY KEY (saga_id, step, op, event_type)
) WITHOUT ROWID;
",
};

/// Steps that run in rounds; see the migration of this name for PostgreSQL.
const ROUNDS: Migration = Migration {
    name: "saga/rounds",
    sql: "
ALTER TABLE saga_barrier ADD COLUMN round bigint NOT NULL DEFAULT 0;
ALTER TABLE saga_parked ADD COLUMN round bigint NOT NULL DEFAULT 0;
ALTER TABLE saga_parked ADD COLUMN aside boolean NOT NULL DEFAULT false;
CREATE INDEX saga_parked_waiting ON saga_parked (due)
    WHERE due IS NOT NULL AND (NOT aside OR failed_at IS NOT NULL);
",
};

/// As on PostgreSQL.
const FAILED: Migration = Migration {
    name: "saga/failed-compensations",
    sql: "
CREATE TABLE saga_failed_compensation (
    saga_id text NOT NULL,
    step text NOT NULL,
    event_id text NOT NULL,
    topic text NOT NULL,
    topic_partition integer NOT NULL,
    topic_offset bigint NOT NULL,
    key blob,
    value blob,
    headers text NOT NULL,
    attempts bigint NOT NULL,
    failed_at bigint NOT NULL,
    reason text NOT NULL,
    recorded_at bigint NOT NULL,
    PRIMARY KEY (saga_id, step)
) WITHOUT ROWID;

ALTER TABLE saga_arrival ADD COLUMN partly_compensated boolean NOT NULL DEFAULT false;
",
};

/// How long a migration waits for another process that is migrating.
const MIGRATION: Duration = Duration::from_secs(10);

/// Applies missing migrations. Processes that start at once wait for each other at BEGIN.
pub(super) fn migrate(conn: &mut Connection, business: &[Migration]) -> Result<(), ConnectError> {
    let failed = |error: rusqlite::Error| ConnectError::migration("saga_migration", classify(&error));
    conn.busy_timeout(MIGRATION).map_err(failed)?;
    let result = apply_all(conn, business);
    conn.busy_timeout(files::BUSY).map_err(failed)?;
    result
}

fn apply_all(conn: &mut Connection, business: &[Migration]) -> Result<(), ConnectError> {
    let failed = |error: rusqlite::Error| ConnectError::migration("saga_migration", classify(&error));
    let all = || FRAMEWORK.iter().chain(business);
    let applied = applied(conn).map_err(failed)?;
    migrate::known(applied.iter().map(String::as_str), all().map(|migration| migration.name))?;
    all().try_for_each(|migration| apply(conn, migration))
}

/// Names of the applied migrations.
fn applied(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    if !conn.table_exists(None, "saga_migration")? {
        return Ok(Vec::new());
    }
    conn.prepare("SELECT name FROM saga_migration")?.query_map([], |row| row.get(0))?.collect()
}

const APPLIED: &str = "SELECT sql FROM saga_migration WHERE name = $1";

fn apply(conn: &mut Connection, migration: &Migration) -> Result<(), ConnectError> {
    let failed = |error: rusqlite::Error| ConnectError::migration(migration.name, classify(&error));
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    tx.execute_batch(migrate::CREATE_TABLE).map_err(failed)?;
    let applied: Option<String> =
        tx.query_row(APPLIED, params![migration.name], |row| row.get(0)).optional().map_err(failed)?;
    if !migrate::pending(migration, applied.as_deref())? {
        return Ok(());
    }
    if !migration.only_postgres() {
        tx.execute_batch(migration.sql).map_err(failed)?;
    }
    tx.execute(migrate::INSERT, params![migration.name, migration.sql, Timestamp::now().to_string()])
        .map_err(failed)?;
    tx.commit().map_err(failed)
}
