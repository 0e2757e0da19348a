//! Writes that wait for the commit: kept in their order, and sent as few statements.
//!
//! A handler that takes one event writes one row at a time. Sent one by one, a batch of 500 events would be 500 statements.
//! Plain INSERTs of the same text become one statement of many rows, because that changes nothing that anybody can see: they
//! read nothing, and their keys differ. Whatever else is written (an UPDATE, a DELETE, an INSERT that selects) runs once per
//! event: one `UPDATE account SET balance = balance - $1` for two events of one account would apply one of the two.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use saga_core::SagaId;

use crate::value::Value;

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
    insert: Option<Arc<Insert>>,
    sagas: HashSet<SagaId>,
    keys: HashSet<Vec<Value>>,
}

impl Group {
    fn new(write: Write, insert: Option<Arc<Insert>>) -> Self {
        let mut group = Self { sql: write.sql, rows: Vec::new(), insert, sagas: HashSet::new(), keys: HashSet::new() };
        group.add(write);
        group
    }

    fn add(&mut self, write: Write) {
        self.sagas.extend(write.saga);
        if let Some(insert) = &self.insert {
            self.keys.extend(insert.key_of(&write.params));
        }
        self.rows.push(write.params);
    }

    /// Whether the write can be a row of this statement.
    fn takes(&self, write: &Write) -> bool {
        let Some(insert) = &self.insert else { return false };
        self.sql == write.sql && insert.key_of(&write.params).is_none_or(|key| !self.keys.contains(&key))
    }

    /// Whether the write may be sent before this statement although it was made after it: this one inserts into another table,
    /// for another event. An event's own writes keep their order, since one may refer to the other; and so do all writes to one
    /// table, since the later one counts.
    fn lets_pass(&self, write: &Write, insert: &Insert) -> bool {
        self.insert.as_ref().is_some_and(|own| own.of_another_table(insert))
            && write.saga.is_some_and(|saga| !self.sagas.contains(&saga))
    }

    /// Rows that may be there already are locked in the order of their keys, so that two transactions wait for each other
    /// instead of in a circle.
    fn sort(&mut self) {
        if let Some(insert) = self.insert.as_ref().filter(|insert| !insert.conflict.is_empty()) {
            let key = |row: &[Value]| insert.locks.iter().map(|param| row.get(param - 1).cloned()).collect::<Vec<_>>();
            self.rows.sort_by_cached_key(|row| key(row));
        }
    }

    /// The text that inserts all rows at once, once the types of the parameters are known.
    pub(crate) fn of_many(&self, types: &[&str]) -> Option<String> {
        self.insert.as_ref().filter(|_| self.rows.len() > 1).map(|insert| insert.of_many(types))
    }
}

/// These writes as few statements.
pub(crate) fn grouped(writes: Vec<Write>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for write in writes {
        let insert = insert(write.sql);
        let mut joined = None;
        if insert.is_some() {
            for (at, group) in groups.iter().enumerate().rev() {
                if group.takes(&write) {
                    joined = Some(at);
                    break;
                }
                if !insert.as_ref().is_some_and(|insert| group.lets_pass(&write, insert)) {
                    break;
                }
            }
        }
        match joined {
            Some(at) => groups[at].add(write),
            None => groups.push(Group::new(write, insert)),
        }
    }
    groups.iter_mut().for_each(Group::sort);
    groups
}

/// `INSERT INTO t (a, b) VALUES ($1, $2)`, with what may follow.
#[derive(Debug, PartialEq, Eq)]
struct Insert {
    table: String,
    columns: Vec<String>,
    /// For each column, which parameter, from 1.
    params: Vec<usize>,
    /// `ON CONFLICT ..`, or nothing.
    conflict: String,
    /// With `DO UPDATE`: the parameters that make the key, which one statement must not have twice.
    key: Vec<usize>,
    /// With `ON CONFLICT`: the parameters that say which row is locked; all, where that is not known.
    locks: Vec<usize>,
}

impl Insert {
    /// Names of one table may differ in their schema and in capitals.
    fn of_another_table(&self, other: &Self) -> bool {
        let name = |table: &str| table.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        name(&self.table) != name(&other.table)
    }

    fn key_of(&self, params: &[Value]) -> Option<Vec<Value>> {
        if self.key.is_empty() {
            return None;
        }
        self.key.iter().map(|param| params.get(param - 1).cloned()).collect()
    }

    fn of_many(&self, types: &[&str]) -> String {
        let arrays: Vec<String> = types.iter().enumerate().map(|(at, name)| format!("${}::{name}[]", at + 1)).collect();
        let names: Vec<String> = (1..=types.len()).map(|at| format!("p{at}")).collect();
        let values: Vec<String> = self.params.iter().map(|param| format!("r.p{param}")).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM unnest({}) AS r({}) {}",
            self.table,
            self.columns.join(", "),
            values.join(", "),
            arrays.join(", "),
            names.join(", "),
            self.conflict
        )
    }
}

/// What a statement inserts, if it is an INSERT of parameters and nothing else. Looked at once per text.
fn insert(sql: &'static str) -> Option<Arc<Insert>> {
    type Known = HashMap<&'static str, Option<Arc<Insert>>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(sql).or_insert_with(|| parse(sql).map(Arc::new)).clone()
}

fn parse(sql: &str) -> Option<Insert> {
    let rest = after_words(sql.trim_start(), &["insert", "into"])?;
    let open = rest.find('(')?;
    let (table, rest) = (rest[..open].trim(), &rest[open..]);
    let (columns, rest) = list(rest)?;
    let (values, rest) = list(after_words(rest, &["values"])?)?;
    let params: Vec<usize> = values.iter().map(|value| value.strip_prefix('$')?.parse().ok()).collect::<Option<_>>()?;
    // Each parameter once: then there are as many as columns.
    let each: HashSet<usize> = params.iter().copied().collect();
    let all = !params.is_empty() && (1..=params.len()).all(|param| each.contains(&param));
    if !all || columns.len() != params.len() || !is_name(table) || !columns.iter().all(|name| is_name(name)) {
        return None;
    }
    let (key, locks) = keys(rest, &columns, &params)?;
    let columns = columns.into_iter().map(str::to_owned).collect();
    Some(Insert { table: table.to_owned(), columns, params, conflict: rest.trim().to_owned(), key, locks })
}

/// The key of an INSERT that updates what is there (empty when it does not), and what says which row it locks. None for what
/// follows that is not understood.
fn keys(tail: &str, columns: &[&str], params: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    if tail.trim().is_empty() {
        return Some((Vec::new(), Vec::new()));
    }
    if tail.contains('$') || tail.contains(':') || tail.to_ascii_lowercase().contains("returning") {
        return None;
    }
    let rest = after_words(tail, &["on", "conflict"])?;
    if let Some(rest) = after_words(rest, &["do", "nothing"]) {
        return rest.trim().is_empty().then(|| (Vec::new(), params.to_vec()));
    }
    let (names, rest) = list(rest)?;
    let place = |name: &&str| columns.iter().position(|column| column == name).map(|at| params[at]);
    let key: Vec<usize> = names.iter().map(place).collect::<Option<_>>()?;
    if let Some(rest) = after_words(rest, &["do", "nothing"]) {
        return rest.trim().is_empty().then_some((Vec::new(), key));
    }
    after_words(rest, &["do", "update", "set"])?;
    // What it is set to reads other rows.
    if rest.to_ascii_lowercase().contains("select") {
        return None;
    }
    (!key.is_empty()).then(|| (key.clone(), key))
}

/// What follows these words, in any case and with any space between them.
fn after_words<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    let mut rest = text.trim_start();
    for word in words {
        let (head, tail) = rest.split_at_checked(word.len())?;
        let ends = !tail.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if !head.eq_ignore_ascii_case(word) || !ends {
            return None;
        }
        rest = tail.trim_start();
    }
    Some(rest)
}

/// What stands in parentheses, by its commas, and what follows. None where there are parentheses inside.
fn list(text: &str) -> Option<(Vec<&str>, &str)> {
    let inside = text.trim_start().strip_prefix('(')?;
    let end = inside.find(')')?;
    let items: Vec<&str> = inside[..end].split(',').map(str::trim).collect();
    (!inside[..end].contains('(')).then_some((items, &inside[end + 1..]))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params;

    const A: &str = "INSERT INTO a (id, n) VALUES ($1, $2)";
    const B: &str = "insert into b(id)\n  values ($1)\n  on conflict do nothing";
    const UPSERT: &str = "INSERT INTO a (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n";
    const DEBIT: &str = "UPDATE account SET balance = balance - $1 WHERE id = $2";

    fn write(saga: u128, sql: &'static str, params: impl Into<Vec<Value>>) -> Write {
        Write { saga: Some(uuid::Uuid::from_u128(saga).into()), sql, params: params.into() }
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

    #[test]
    fn what_is_not_understood_runs_once_per_event() {
        for sql in [
            "INSERT INTO a (id, n) VALUES ($1, 2)",
            "INSERT INTO a (id, n) VALUES ($1, now())",
            "INSERT INTO a (id, n) VALUES ($1, $1)",
            "INSERT INTO a (id, n) VALUES ($1, $2) RETURNING n",
            "INSERT INTO a (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = $2",
            "INSERT INTO a (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = (SELECT max(n) FROM a)",
            "INSERT INTO a (id, n) VALUES ($1, $2), ($1, $2)",
            "INSERT INTO a VALUES ($1, $2)",
            "INSERT INTO a (id) SELECT $1",
            "INSERT INTO \"odd (\" (id) VALUES ($1)",
            "WITH x AS (SELECT 1) INSERT INTO a (id) VALUES ($1)",
            DEBIT,
        ] {
            assert_eq!(parse(sql), None, "{sql}");
        }
        for sql in [A, B, UPSERT] {
            assert!(parse(sql).is_some(), "{sql}");
        }
    }
}
