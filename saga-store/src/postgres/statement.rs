//! Values as parameters and as columns of a result.

use std::{error::Error as StdError, sync::Arc};

use bytes::BytesMut;
use saga_core::store::StoreError;
use tokio_postgres::{
    Statement,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use super::error::{Mismatch, classify_unreadable};
use crate::{
    row::Row,
    sql::Rendered,
    value::{ColumnType, Rows, Value},
};

type Failed = Box<dyn StdError + Sync + Send>;
/// A parameter that may borrow.
pub(super) type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A statement that is prepared on a connection.
pub(super) struct Prepared {
    pub(super) statement: Statement,
    rendered: Arc<Rendered>,
    columns: Arc<[String]>,
}

impl Prepared {
    pub(super) fn new(statement: Statement, rendered: Arc<Rendered>) -> Self {
        let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        Self { statement, rendered, columns }
    }
}

/// The parameters of a handler's statement: the scalars, then one array per column of the rows.
pub(super) fn bind<'a>(
    prepared: &Prepared,
    rows: Option<&'a Rows>,
    params: &'a [Value],
) -> Result<Vec<Param<'a>>, StoreError> {
    prepared.rendered.check(params, rows.is_some())?;
    let mut all: Vec<Param<'a>> = params.iter().map(|value| Box::new(value) as Param<'a>).collect();
    if let (Some(rows), Some(columns)) = (rows, &prepared.rendered.rows) {
        let rows = rows.fitting(columns)?;
        all.extend(columns.iter().enumerate().map(|(i, kind)| array(rows, i, *kind)));
    }
    Ok(all)
}

pub(super) fn refs<'a>(params: &'a [Param<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect()
}

/// One column of the rows as an array; the types were checked.
fn array(rows: &[Vec<Value>], column: usize, kind: ColumnType) -> Param<'_> {
    let values = rows.iter().map(|row| &row[column]);
    match kind {
        ColumnType::Text => {
            Box::new(values.map(|v| if let Value::Text(v) = v { Some(v.as_str()) } else { None }).collect::<Vec<_>>())
        }
        ColumnType::Bigint => {
            Box::new(values.map(|v| if let Value::Int(v) = v { Some(*v) } else { None }).collect::<Vec<_>>())
        }
        ColumnType::Boolean => {
            Box::new(values.map(|v| if let Value::Bool(v) = v { Some(*v) } else { None }).collect::<Vec<_>>())
        }
        ColumnType::Bytea => Box::new(
            values.map(|v| if let Value::Bytes(v) = v { Some(v.as_slice()) } else { None }).collect::<Vec<_>>(),
        ),
    }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        match (self, ty) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Text(text), ty) if <&str as ToSql>::accepts(ty) => text.to_sql(ty, out),
            (Self::Text(text), &Type::UUID) => Uuid::try_parse(text).map_err(|_| not("a UUID"))?.to_sql(ty, out),
            (Self::Int(number), &Type::INT8) => number.to_sql(ty, out),
            (Self::Int(number), &Type::INT4) => i32::try_from(*number).map_err(|_| not("an integer"))?.to_sql(ty, out),
            (Self::Int(number), &Type::INT2) => i16::try_from(*number).map_err(|_| not("a smallint"))?.to_sql(ty, out),
            (Self::Bool(yes), &Type::BOOL) => yes.to_sql(ty, out),
            (Self::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(ty, out),
            (value, ty) => {
                let kind = value.kind();
                Err(Box::new(Mismatch::Type(format!(
                    "a {kind} stands where the statement takes {ty}; write CAST($n AS {kind}) if it is meant"
                ))))
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn not(what: &str) -> Failed {
    Box::new(Mismatch::Value(format!("a parameter is not {what}")))
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failed> {
        Ok(match *ty {
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT2 => Self::Int(i16::from_sql(ty, raw)?.into()),
            Type::BOOL => Self::Bool(bool::from_sql(ty, raw)?),
            Type::BYTEA => Self::Bytes(Vec::from_sql(ty, raw)?),
            Type::UUID => Self::Text(Uuid::from_sql(ty, raw)?.to_string()),
            ref text if <&str as FromSql>::accepts(text) => Self::Text(String::from_sql(ty, raw)?),
            ref other => {
                return Err(Box::new(Mismatch::Type(format!(
                    "a column is {other}; CAST it AS text, bigint, boolean or bytea"
                ))));
            }
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failed> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

pub(super) fn read(prepared: &Prepared, row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let values = (0..row.len()).map(|i| row.try_get(i)).collect::<Result<_, _>>();
    Ok(Row::new(prepared.columns.clone(), values.map_err(|error| classify_unreadable(&error))?))
}
