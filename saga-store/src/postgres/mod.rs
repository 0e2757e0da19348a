//! PostgreSQL: to come.
#![allow(clippy::unused_async, unused_variables, clippy::unnecessary_wraps)]
use jiff::Timestamp;
use saga_core::{
    barrier::Before,
    store::{Admission, Changes, DueTimer, OutboxRow, ParkedEvent, StoreError, Summary},
};

use crate::{
    error::ConnectError,
    migrate::Migration,
    row::Row,
    url::PostgresUrl,
    value::{Rows, Value},
};

pub(crate) struct Postgres;
pub(crate) enum Session {}

fn todo<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("PostgreSQL is to come".into()))
}

impl Postgres {
    pub(crate) fn new(url: PostgresUrl, schema: &str) -> Self {
        Self
    }
    pub(crate) async fn prepare(&self, migrations: &[Migration]) -> Result<(), ConnectError> {
        Err(ConnectError::Unavailable("PostgreSQL is to come".into()))
    }
    pub(crate) async fn begin(&self) -> Result<Session, StoreError> {
        todo()
    }
    pub(crate) async fn admit(&self, admissions: &[Admission]) -> Result<(Session, Vec<Before>), StoreError> {
        todo()
    }
    pub(crate) async fn query(&self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        todo()
    }
    pub(crate) async fn claim_parked(
        &self,
        now: Timestamp,
        lease: Timestamp,
        limit: i64,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        todo()
    }
    pub(crate) async fn begin_due(&self, now: Timestamp, limit: i64) -> Result<(Session, Vec<DueTimer>), StoreError> {
        todo()
    }
    pub(crate) async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        todo()
    }
    pub(crate) async fn unsent(&self, before: Timestamp, limit: i64) -> Result<Vec<OutboxRow>, StoreError> {
        todo()
    }
    pub(crate) async fn mark_sent(&self, ids: &[uuid::Uuid]) -> Result<(), StoreError> {
        todo()
    }
    pub(crate) async fn summary(&self) -> Result<Summary, StoreError> {
        todo()
    }
}

impl Session {
    pub(crate) fn client(&self) -> &tokio_postgres::Client {
        match *self {}
    }
    pub(crate) async fn commit(self, schema: &str, changes: &Changes) -> Result<(), StoreError> {
        match self {}
    }
    pub(crate) async fn execute(
        &self,
        sql: &'static str,
        rows: Option<&Rows>,
        params: &[Value],
    ) -> Result<u64, StoreError> {
        match *self {}
    }
    pub(crate) async fn query(
        &self,
        sql: &'static str,
        rows: Option<&Rows>,
        params: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        match *self {}
    }
}
