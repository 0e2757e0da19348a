//! Runs a statement of a handler on a SQLite connection.

use std::sync::Arc;

use rusqlite::{
    CachedStatement, Connection, ToSql, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};
use saga_core::store::StoreError;
use serde::{Serialize, Serializer};

use super::error::{classify_handlers, classify_running};
use crate::{
    row::Row,
    sql::{Cache, Dialect},
    value::{Rows, Value},
};

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Bool(yes) => ValueRef::Integer((*yes).into()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A value in the JSON text of rows. Bytes are hexadecimal digits.
struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::Bool(yes) => serializer.serialize_bool(*yes),
            Value::Bytes(bytes) => serializer.collect_str(&Hex(bytes)),
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

pub(super) fn execute(
    conn: &Connection,
    cache: &Cache,
    sql: &'static str,
    rows: Option<&Rows>,
    params: &[Value],
) -> Result<u64, StoreError> {
    run(conn, cache, sql, rows, params, |statement, params| {
        let read_only = statement.readonly();
        let mut result = statement.query(params_from_iter(params))?;
        let mut returned = 0;
        while result.next()?.is_some() {
            returned += 1;
        }
        // Counted as PostgreSQL does: rows that were written, or returned by a SELECT.
        Ok(if read_only { returned } else { conn.changes() })
    })
}

pub(super) fn query(
    conn: &Connection,
    cache: &Cache,
    sql: &'static str,
    rows: Option<&Rows>,
    params: &[Value],
) -> Result<Vec<Row>, StoreError> {
    run(conn, cache, sql, rows, params, |statement, params| {
        let columns: Arc<[String]> = statement.column_names().map(str::to_owned).collect();
        let mut result = statement.query(params_from_iter(params))?;
        let mut list = Vec::new();
        while let Some(row) = result.next()? {
            let values = (0..columns.len()).map(|i| read(row, i)).collect::<Result<_, _>>()?;
            list.push(Row::new(columns.clone(), values));
        }
        Ok(list)
    })
}

fn run<T>(
    conn: &Connection,
    cache: &Cache,
    sql: &'static str,
    rows: Option<&Rows>,
    params: &[Value],
    work: impl FnOnce(&mut CachedStatement<'_>, Vec<&dyn ToSql>) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    let rendered = cache.get(sql, Dialect::Sqlite)?;
    rendered.check(params, rows.is_some())?;
    let json = match (rows, &rendered.rows) {
        (Some(rows), Some(columns)) => Some(to_json(rows.fitting(columns)?)?),
        _ => None,
    };
    let mut all: Vec<&dyn ToSql> = params.iter().map(|p| p as &dyn ToSql).collect();
    all.extend(json.as_ref().map(|json| json as &dyn ToSql));
    let mut statement = conn.prepare_cached(&rendered.sql).map_err(|error| classify_handlers(&error))?;
    work(&mut statement, all).map_err(|error| classify_running(&error))
}

fn to_json(rows: &[Vec<Value>]) -> Result<String, StoreError> {
    let rows: Vec<Vec<Json<'_>>> = rows.iter().map(|row| row.iter().map(Json).collect()).collect();
    serde_json::to_string(&rows).map_err(|error| StoreError::Broken(format!("rows cannot be written: {error}")))
}

fn read(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Value> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => {
            let name = row.as_ref().column_name(column)?.to_owned();
            return Err(rusqlite::Error::InvalidColumnType(column, name, rusqlite::types::Type::Real));
        }
    })
}
