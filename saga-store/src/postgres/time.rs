//! Times in microseconds, as a timestamptz holds them.

use std::{error::Error, time::Duration};

use bytes::BytesMut;
use jiff::Timestamp;
use saga_core::store::StoreError;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::columns;

/// PostgreSQL counts from 2000; microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// A duration, for `make_interval(secs => ..)`.
pub(super) fn seconds(duration: Duration) -> f64 {
    columns::wait(duration).as_secs_f64()
}

/// A timestamptz.
#[derive(Clone, Copy, Debug)]
pub(super) struct Micros(i64);

impl From<Timestamp> for Micros {
    fn from(time: Timestamp) -> Self {
        Self(time.as_microsecond())
    }
}

impl Micros {
    pub(super) fn time(self) -> Result<Timestamp, StoreError> {
        Timestamp::from_microsecond(self.0).map_err(|_| StoreError::Broken("a stored time is out of range".into()))
    }
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.saturating_sub(EPOCH).to_sql(&Type::INT8, out)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_sql(&Type::INT8, raw)?.saturating_add(EPOCH)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}
