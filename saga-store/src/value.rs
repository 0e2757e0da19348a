//! Values of parameters and results, the same on both databases.

use saga_core::{event::SagaId, store::StoreError};
use uuid::Uuid;

/// A parameter, or a column of a result, of a type that both databases have: `text`, `bigint`, `boolean`, `bytea`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Value {
    /// NULL.
    #[default]
    Null,
    /// `text`, without NUL characters, which PostgreSQL cannot store.
    Text(String),
    /// `bigint`.
    Int(i64),
    /// `boolean`; SQLite reads one back as 0 or 1.
    Bool(bool),
    /// `bytea`.
    Bytes(Vec<u8>),
}

/// A statement's parameters: `params![order_id, 3, "SKU-1"]`. Each is converted with `Value::from`.
#[macro_export]
macro_rules! params {
    () => { [] as [$crate::Value; 0] };
    ($($value:expr),+ $(,)?) => { [$($crate::Value::from($value)),+] };
}

macro_rules! from {
    ($($type:ty => $value:ident -> $into:expr;)+) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $into
            }
        }
    )+};
}

from! {
    &str => v -> Self::Text(v.to_owned());
    String => v -> Self::Text(v);
    &String => v -> Self::Text(v.clone());
    i64 => v -> Self::Int(v);
    i32 => v -> Self::Int(v.into());
    u32 => v -> Self::Int(v.into());
    bool => v -> Self::Bool(v);
    Vec<u8> => v -> Self::Bytes(v);
    &[u8] => v -> Self::Bytes(v.to_owned());
    Uuid => v -> Self::Text(v.to_string());
    SagaId => v -> Self::Text(v.to_string());
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Value {
    /// The name of the value's SQL type.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "text",
            Self::Int(_) => "bigint",
            Self::Bool(_) => "boolean",
            Self::Bytes(_) => "bytea",
        }
    }

    /// Refuses values that only one of the databases can store.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Text(text) if text.contains('\0') => {
                Err(StoreError::Rejected("a text contains a NUL character".into()))
            }
            _ => Ok(()),
        }
    }
}

/// The declared type of a column of `:rows`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ColumnType {
    Text,
    Bigint,
    Boolean,
    Bytea,
}

impl ColumnType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Bigint => "bigint",
            Self::Boolean => "boolean",
            Self::Bytea => "bytea",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Text, Self::Bigint, Self::Boolean, Self::Bytea].into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn accepts(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (_, Value::Null)
                | (Self::Text, Value::Text(_))
                | (Self::Bigint, Value::Int(_))
                | (Self::Boolean, Value::Bool(_))
                | (Self::Bytea, Value::Bytes(_))
        )
    }
}

/// A Rust type that a column can be read as.
pub trait FromValue: Sized {
    /// The value as this type; none when it has another type.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for Value {
    fn from_value(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.clone()) } else { None }
    }
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Int(number) = value { Some(*number) } else { None }
    }
}

impl FromValue for i32 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(yes) => Some(*yes),
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bytes(bytes) = value { Some(bytes.clone()) } else { None }
    }
}

impl FromValue for Uuid {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { text.parse().ok() } else { None }
    }
}

impl FromValue for SagaId {
    fn from_value(value: &Value) -> Option<Self> {
        Uuid::from_value(value).map(Self::from)
    }
}

/// Rows for one statement, see [`Tx::execute_rows`](crate::Tx::execute_rows). Collect them from an iterator of
/// `params![..]`.
#[derive(Clone, Debug, Default)]
pub struct Rows(Vec<Vec<Value>>);

impl Rows {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row, with one value for each column that the statement declares.
    pub fn push(&mut self, row: impl Into<Vec<Value>>) {
        self.0.push(row.into());
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows, after checking that each fits the declared columns.
    pub(crate) fn fitting(&self, columns: &[ColumnType]) -> Result<&[Vec<Value>], StoreError> {
        for row in &self.0 {
            if row.len() != columns.len() {
                return Err(StoreError::Broken(format!(
                    "a row has {} values, and :rows declares {} columns",
                    row.len(),
                    columns.len()
                )));
            }
            for (value, column) in row.iter().zip(columns) {
                value.check()?;
                if !column.accepts(value) {
                    return Err(StoreError::Broken(format!(
                        "a {} stands where :rows declares {}",
                        value.kind(),
                        column.name()
                    )));
                }
            }
        }
        Ok(&self.0)
    }
}

impl<R: Into<Vec<Value>>> FromIterator<R> for Rows {
    fn from_iter<I: IntoIterator<Item = R>>(rows: I) -> Self {
        Self(rows.into_iter().map(Into::into).collect())
    }
}

impl<R: Into<Vec<Value>>> Extend<R> for Rows {
    fn extend<I: IntoIterator<Item = R>>(&mut self, rows: I) {
        self.0.extend(rows.into_iter().map(Into::into));
    }
}
