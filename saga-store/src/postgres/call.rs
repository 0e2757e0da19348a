//! Statements of the framework's own with their parameters, to be sent together.

use tokio_postgres::types::ToSql;

use super::statement::Param;

/// A statement with its parameters.
pub(super) struct Call<'a> {
    pub(super) sql: &'static str,
    pub(super) params: Vec<Param<'a>>,
}

/// An array parameter: one value of each item.
pub(super) fn column<'a, I: IntoIterator, T: ToSql + Sync + Send + 'a>(
    list: I,
    value: impl Fn(I::Item) -> T,
) -> Param<'a> {
    Box::new(list.into_iter().map(value).collect::<Vec<_>>())
}

pub(super) fn one<'a>(value: impl ToSql + Sync + Send + 'a) -> Param<'a> {
    Box::new(value)
}
