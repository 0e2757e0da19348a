//! Writes that wait for the commit: kept in their order, and sent as few statements.
//!
//! A handler that takes one event writes one row at a time. Sent one by one, a batch of 500 events would be 500 statements.
//! Plain INSERTs of the same text become one statement of many rows, because that changes nothing that anybody can see: they
//! read nothing, and their keys differ. Whatever else is written (an UPDATE, a DELETE, an INSERT that selects) runs once per
//! event: one `UPDATE account SET balance = balance - $1` for two events of one account would apply one of the two.

use std::{collections::HashSet, sync::Arc};

use saga_core::{SagaId, store::StoreError};

use crate::{insert::Insert, sql::Rendered, value::Value};

/// A statement that a handler has left to be sent later.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// The saga of the event that it is for, as far as that is one.
    pub(crate) saga: Option<SagaId>,
    pub(crate) sql: &'static str,
    pub(crate) params: Vec<Value>,
}

/// Statements with one text that may be sent together: one, or an INSERT of several rows.
pub(crate) struct Group {
    pub(crate) sql: &'static str,
    /// The parameters of each.
    pub(crate) rows: Vec<Vec<Value>>,
    rendered: Arc<Rendered>,
    sagas: HashSet<SagaId>,
    keys: HashSet<Vec<Value>>,
}

impl Group {
    fn new(write: Write, rendered: Arc<Rendered>) -> Self {
        let (rows, sagas, keys) = <_>::default();
        let mut group = Self { sql: write.sql, rows, rendered, sagas, keys };
        group.add(write);
        group
    }

    fn insert(&self) -> Option<&Insert> {
        self.rendered.insert.as_ref()
    }

    fn add(&mut self, write: Write) {
        self.sagas.extend(write.saga);
        let key = self.insert().and_then(|insert| insert.key_of(&write.params));
        self.keys.extend(key);
        self.rows.push(write.params);
    }

    /// Whether the write can be a row of this statement.
    fn takes(&self, write: &Write) -> bool {
        let Some(insert) = self.insert() else { return false };
        self.sql == write.sql && insert.key_of(&write.params).is_none_or(|key| !self.keys.contains(&key))
    }

    /// Whether the write may be sent before this statement although it was made after it: this one inserts into another table,
    /// for another event. An event's own writes keep their order, since one may refer to the other; and so do all writes to one
    /// table, since the later one counts.
    fn lets_pass(&self, write: &Write, insert: &Insert) -> bool {
        self.insert().is_some_and(|own| own.of_another_table(insert))
            && write.saga.is_some_and(|saga| !self.sagas.contains(&saga))
    }

    /// Rows that may be there already are locked in the order of their keys, so that two transactions wait for each other
    /// instead of in a circle.
    fn sort(&mut self) {
        let rendered = self.rendered.clone();
        if let Some(insert) = rendered.insert.as_ref().filter(|insert| !insert.conflict.is_empty()) {
            let key = |row: &[Value]| insert.locks.iter().map(|param| row.get(param - 1).cloned()).collect::<Vec<_>>();
            self.rows.sort_by_cached_key(|row| key(row));
        }
    }

    /// The text that inserts all rows at once, once the types of the parameters are known.
    pub(crate) fn of_many(&self, types: &[&str]) -> Option<String> {
        self.insert().filter(|_| self.rows.len() > 1).map(|insert| insert.of_many(types))
    }
}

/// These writes as few statements. `render` knows their texts.
///
/// # Errors
/// Those of `render`.
pub(crate) fn grouped(
    writes: Vec<Write>,
    render: impl Fn(&'static str) -> Result<Arc<Rendered>, StoreError>,
) -> Result<Vec<Group>, StoreError> {
    let mut groups: Vec<Group> = Vec::new();
    for write in writes {
        let rendered = render(write.sql)?;
        let joined = rendered.insert.as_ref().and_then(|insert| joined(&groups, &write, insert));
        match joined {
            Some(at) => groups[at].add(write),
            None => groups.push(Group::new(write, rendered)),
        }
    }
    groups.iter_mut().for_each(Group::sort);
    Ok(groups)
}

/// The last statement that takes the write, where the write may pass all that follow it.
fn joined(groups: &[Group], write: &Write, insert: &Insert) -> Option<usize> {
    let mut later = groups.iter().enumerate().rev();
    let (at, group) = later.find(|(_, group)| group.takes(write) || !group.lets_pass(write, insert))?;
    group.takes(write).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        params,
        sql::{Cache, Dialect},
    };

    const A: &str = "INSERT INTO a (id, n) VALUES ($1, $2)";
    const B: &str = "insert into b(id)\n  values ($1)\n  on conflict do nothing";
    const UPSERT: &str = "INSERT INTO a (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n";
    const DEBIT: &str = "UPDATE account SET balance = balance - $1 WHERE id = $2";

    fn write(saga: u128, sql: &'static str, params: impl Into<Vec<Value>>) -> Write {
        Write { saga: Some(uuid::Uuid::from_u128(saga).into()), sql, params: params.into() }
    }

    fn grouped(writes: Vec<Write>) -> Vec<Group> {
        let cache = Cache::default();
        super::grouped(writes, |sql| cache.get(sql, Dialect::Postgres)).unwrap()
    }

    fn shape(writes: Vec<Write>) -> Vec<(&'static str, usize)> {
        grouped(writes).iter().map(|group| (group.sql, group.rows.len())).collect()
    }

    #[test]
    fn inserts_of_one_text_are_one_statement_and_updates_are_not() {
        let each = |saga: u128| [write(saga, A, params!["a", 1]), write(saga, B, params!["b"])];
        assert_eq!(shape((0..3).flat_map(each).collect()), [(A, 3), (B, 3)]);
        let debit = |saga| write(saga, DEBIT, params![10, "acc"]);
        assert_eq!(shape((0..3).map(debit).collect()), [(DEBIT, 1); 3]);
    }

    #[test]
    fn nothing_passes_what_it_may_depend_on() {
        // Of one event, which refers to the row before it.
        let writes = vec![write(1, B, params!["x"]), write(2, A, params!["y", 1]), write(2, B, params!["y"])];
        assert_eq!(shape(writes), [(B, 1), (A, 1), (B, 1)]);
        // An UPDATE reads what was written before it, and not what comes after it.
        let writes = vec![write(1, A, params!["x", 1]), write(1, DEBIT, params![1, "x"]), write(2, A, params!["y", 1])];
        assert_eq!(shape(writes), [(A, 1), (DEBIT, 1), (A, 1)]);
        // Of which event it is, is not known.
        let unknown = |sql, params: &[Value]| Write { saga: None, sql, params: params.to_vec() };
        let writes = vec![unknown(A, &params!["x", 1]), unknown(B, &params!["x"]), unknown(A, &params!["y", 1])];
        assert_eq!(shape(writes), [(A, 1), (B, 1), (A, 1)]);
    }

    #[test]
    fn a_key_is_updated_once_per_statement() {
        let writes = vec![
            write(1, UPSERT, params!["x", 1]),
            write(2, UPSERT, params!["y", 1]),
            write(3, UPSERT, params!["x", 2]),
            write(4, UPSERT, params!["z", 2]),
        ];
        assert_eq!(shape(writes), [(UPSERT, 2), (UPSERT, 2)]);
    }

    #[test]
    fn writes_to_one_table_keep_their_order() {
        let writes = vec![
            write(1, UPSERT, params!["y", 1]),
            write(2, UPSERT, params!["y", 2]),
            write(3, UPSERT, params!["x", 3]),
            write(4, UPSERT, params!["x", 4]),
        ];
        let rows: Vec<Vec<Vec<Value>>> = grouped(writes).into_iter().map(|group| group.rows).collect();
        let (y, x) = ("y", "x");
        assert_eq!(
            rows,
            [
                vec![params![y, 1].to_vec()],
                vec![params![x, 3].to_vec(), params![y, 2].to_vec()],
                vec![params![x, 4].to_vec()]
            ]
        );
        // Another statement on the same table, under another spelling of its name.
        const ADD: &str =
            "insert into public.A (id, n) values ($1, $2) on conflict (id) do update set n = public.A.n + excluded.n";
        let writes =
            vec![write(1, UPSERT, params!["y", 1]), write(2, ADD, params!["x", 1]), write(3, UPSERT, params!["x", 1])];
        assert_eq!(shape(writes), [(UPSERT, 1), (ADD, 1), (UPSERT, 1)]);
    }

    #[test]
    fn whatever_the_batch_the_result_is_that_of_one_write_after_the_other() {
        use std::collections::BTreeMap;
        // Two tables; the last write of a key counts. All batches of six writes over two keys.
        const C: &str = "INSERT INTO c (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n";
        let value = |row: &[Value]| (row[0].clone(), row[1].clone());
        for case in 0_u32..4096 {
            let writes: Vec<(u128, &'static str, [Value; 2])> = (0_u32..6)
                .map(|at| {
                    let bits = case >> (2 * at);
                    let key = if bits & 1 == 0 { "x" } else { "y" };
                    (u128::from(at), if bits & 2 == 0 { UPSERT } else { C }, params![key, i64::from(at)])
                })
                .collect();
            let mut expected = BTreeMap::new();
            for (_, sql, params) in &writes {
                let (key, n) = value(params);
                expected.insert((*sql, key), n);
            }
            let mut found = BTreeMap::new();
            for group in grouped(writes.into_iter().map(|(saga, sql, params)| write(saga, sql, params)).collect()) {
                for row in &group.rows {
                    let (key, n) = value(row);
                    found.insert((group.sql, key), n);
                }
            }
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn the_statement_of_many_takes_an_array_for_each_parameter() {
        let groups = grouped(vec![write(1, UPSERT, params!["x", 1]), write(2, UPSERT, params!["y", 1])]);
        assert_eq!(
            groups[0].of_many(&["text", "int8"]).as_deref(),
            Some(
                "INSERT INTO a (id, n) SELECT r.p1, r.p2 FROM unnest($1::text[], $2::int8[]) AS r(p1, p2) \
                 ON CONFLICT (id) DO UPDATE SET n = excluded.n"
            )
        );
    }
}
