//! What handlers have written without waiting for it, as statements that are sent together.

use std::sync::Arc;

use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use saga_core::store::StoreError;
use tokio_postgres::{
    Client,
    types::{Kind, ToSql, Type},
};

use super::{
    error::{At, Failed},
    pipeline::in_order,
    session::Session,
    statement::{Param, Prepared, bind, refs},
};
use crate::{
    deferred::{Group, Write, grouped},
    value::Value,
};

/// Statements with their parameters, in their order.
pub(super) struct Writes<'a>(Vec<(Arc<Prepared>, Vec<Param<'a>>)>);

type Params<'a> = Vec<Vec<&'a (dyn ToSql + Sync)>>;

impl Writes<'_> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn params(&self) -> Params<'_> {
        self.0.iter().map(|(_, params)| refs(params)).collect()
    }

    pub(super) fn execute<'a>(
        &'a self,
        client: &'a Client,
        params: &'a Params<'a>,
    ) -> impl Iterator<Item = BoxFuture<'a, Result<(), Failed>>> {
        self.0.iter().zip(params).map(|((prepared, _), params)| {
            let sent = client.execute(&prepared.statement, params).map_ok(|_| ());
            sent.map_err(|error| Failed { error, at: At::Handler }).boxed()
        })
    }
}

impl Session {
    /// Sends them in one round trip.
    pub(crate) async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let groups = self.grouped(writes)?;
        let writes = self.writes(&groups).await?;
        let params = writes.params();
        self.exchange(in_order(writes.execute(self.client(), &params).collect())).await.map(|_| ())
    }

    /// The writes as few statements.
    pub(super) fn grouped(&self, writes: Vec<Write>) -> Result<Vec<Group>, StoreError> {
        grouped(writes, |sql| self.rendered(sql))
    }

    pub(super) async fn writes<'a>(&self, groups: &'a [Group]) -> Result<Writes<'a>, StoreError> {
        let mut writes = Vec::with_capacity(groups.len());
        for group in groups {
            let one = self.prepared(group.sql).await?;
            match self.of_many(group, &one).await? {
                Some(many) => writes.push((many, columns(group))),
                None => {
                    for row in &group.rows {
                        writes.push((one.clone(), bind(&one, None, row)?));
                    }
                }
            }
        }
        Ok(Writes(writes))
    }

    /// The statement that inserts all rows of the group; none when they are to be inserted one by one.
    async fn of_many(&self, group: &Group, one: &Prepared) -> Result<Option<Arc<Prepared>>, StoreError> {
        let types = one.statement.params();
        let fits = |row: &Vec<Value>| row.len() == types.len();
        if !types.iter().all(is_builtin) || !group.rows.iter().all(fits) {
            return Ok(None);
        }
        let names: Vec<&str> = types.iter().map(Type::name).collect();
        match group.of_many(&names) {
            Some(sql) => self.prepared_many(group.sql, &sql).await.map(Some),
            None => Ok(None),
        }
    }
}

/// A type of PostgreSQL's own that has arrays, so that its name says which it is.
fn is_builtin(kind: &Type) -> bool {
    matches!(kind.kind(), Kind::Simple) && kind.schema() == "pg_catalog"
}

/// One array per parameter.
fn columns(group: &Group) -> Vec<Param<'_>> {
    let width = group.rows.first().map_or(0, Vec::len);
    (0..width).map(|at| Box::new(group.rows.iter().map(|row| &row[at]).collect::<Vec<_>>()) as Param<'_>).collect()
}
