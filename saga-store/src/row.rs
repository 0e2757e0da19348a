//! Rows of a result.

use std::sync::Arc;

use saga_core::store::StoreError;

use crate::value::{FromValue, Value};

/// A row of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// Reads a column by its name or its position, from 0.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when there is no such column: the statement and the code do not fit together.
    /// [`StoreError::Rejected`] when the value cannot be read as `T`: NULL, out of range, not a UUID, another type.
    /// Another row's value may fit.
    pub fn get<T: FromValue>(&self, column: impl Column) -> Result<T, StoreError> {
        let index = column
            .index(&self.columns)
            .filter(|index| *index < self.values.len())
            .ok_or_else(|| StoreError::Broken(format!("the result has no column {}", column.describe())))?;
        T::from_value(&self.values[index]).ok_or_else(|| {
            let (column, kind) = (column.describe(), self.values[index].kind());
            let wanted = std::any::type_name::<T>();
            StoreError::Rejected(format!("column {column} holds {kind}, which cannot be read as {wanted}").into())
        })
    }
}

/// A column's name or position.
pub trait Column {
    /// Its position, from 0.
    fn index(&self, columns: &[String]) -> Option<usize>;
    /// For an error message.
    fn describe(&self) -> String;
}

impl Column for usize {
    fn index(&self, _columns: &[String]) -> Option<usize> {
        Some(*self)
    }

    fn describe(&self) -> String {
        format!("number {self}")
    }
}

impl Column for &str {
    fn index(&self, columns: &[String]) -> Option<usize> {
        columns.iter().position(|column| column == self)
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}
