//! Plain INSERTs: recognised by their text, and written as one statement of many rows.

use std::collections::HashSet;

use crate::value::Value;

/// `INSERT INTO t (a, b) VALUES ($1, $2)`, with what may follow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Insert {
    table: String,
    columns: Vec<String>,
    /// For each column, which parameter, from 1.
    params: Vec<usize>,
    /// `ON CONFLICT ..`, or nothing.
    pub(crate) conflict: String,
    /// With `DO UPDATE`: the parameters that make the key, which one statement must not have twice.
    key: Vec<usize>,
    /// With `ON CONFLICT`: the parameters that say which row is locked; all, where that is not known.
    pub(crate) locks: Vec<usize>,
}

impl Insert {
    /// Names of one table may differ in their schema and in capitals.
    pub(crate) fn of_another_table(&self, other: &Self) -> bool {
        let name = |table: &str| table.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        name(&self.table) != name(&other.table)
    }

    pub(crate) fn key_of(&self, params: &[Value]) -> Option<Vec<Value>> {
        if self.key.is_empty() {
            return None;
        }
        self.key.iter().map(|param| params.get(param - 1).cloned()).collect()
    }

    pub(crate) fn of_many(&self, types: &[&str]) -> String {
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

/// What a statement inserts, if it is an INSERT of parameters and nothing else.
pub(crate) fn parse(sql: &str) -> Option<Insert> {
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

    const A: &str = "INSERT INTO a (id, n) VALUES ($1, $2)";
    const B: &str = "insert into b(id)\n  values ($1)\n  on conflict do nothing";
    const UPSERT: &str = "INSERT INTO a (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n";
    const DEBIT: &str = "UPDATE account SET balance = balance - $1 WHERE id = $2";

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
