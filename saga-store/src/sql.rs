//! Statements written once for both databases, with the placeholders `$1`, `:rows(..)` and `:for_update`.
//!
//! | written | PostgreSQL | SQLite |
//! |---|---|---|
//! | `$1` | `$1` | `?1` |
//! | `:rows(a text, b bigint) r` | `(SELECT * FROM unnest($n::text[], $m::bigint[]) AS t(a, b)) r` | a subselect on `json_each(?n)` |
//! | `:for_update` | `FOR UPDATE` | nothing: a SQLite transaction has the database to itself |
//!
//! Everything else is passed on as it is, so it must be SQL that both understand: `text`, `bigint`, `boolean` and
//! `bytea` columns, `CAST(x AS bigint)` rather than `x::bigint` (and around `sum`, which PostgreSQL widens to numeric),
//! `ON CONFLICT`, `RETURNING`, CTEs. On SQLite `INSERT .. SELECT .. ON CONFLICT` needs a `WHERE true` before `ON
//! CONFLICT`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use saga_core::store::StoreError;

use crate::value::{ColumnType, Value};

/// Which database a statement is rendered for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "a build may have one database"))]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// A statement rendered for one database.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) sql: String,
    /// Number of scalar parameters. The rows come after them: one array per column on PostgreSQL, one JSON text on
    /// SQLite.
    pub(crate) scalars: usize,
    /// The columns of `:rows`, if it occurs.
    pub(crate) rows: Option<Vec<ColumnType>>,
    /// What it inserts, if it is a plain INSERT.
    #[cfg(feature = "postgres")]
    pub(crate) insert: Option<crate::insert::Insert>,
}

impl Rendered {
    /// Checks the number of parameters, which a driver would panic about.
    pub(crate) fn check(&self, params: &[Value], has_rows: bool) -> Result<(), StoreError> {
        if params.len() != self.scalars {
            return Err(StoreError::Broken(format!(
                "the statement takes {} parameters and was given {}",
                self.scalars,
                params.len()
            )));
        }
        match (has_rows, self.rows.is_some()) {
            (true, false) => Err(StoreError::Broken("rows were given to a statement without :rows(..)".into())),
            (false, true) => Err(StoreError::Broken("the statement has :rows(..) and was given no rows".into())),
            _ => params.iter().try_for_each(Value::check),
        }
    }
}

/// Rendered statements, by their original text.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<&'static str, Arc<Rendered>>>);

impl Cache {
    pub(crate) fn get(&self, sql: &'static str, dialect: Dialect) -> Result<Arc<Rendered>, StoreError> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rendered) = cache.get(sql) {
            return Ok(rendered.clone());
        }
        let rendered = Arc::new(render(sql, dialect).map_err(StoreError::Broken)?);
        cache.insert(sql, rendered.clone());
        Ok(rendered)
    }
}

enum Piece<'a> {
    Text(&'a str),
    Scalar(usize),
    Rows(Vec<(&'a str, ColumnType)>),
    ForUpdate,
}

fn render(sql: &str, dialect: Dialect) -> Result<Rendered, String> {
    let pieces = split(sql)?;
    let scalars = pieces.iter().map(|p| if let Piece::Scalar(n) = p { *n } else { 0 }).max().unwrap_or(0);
    let mut rows = None;
    let mut out = String::with_capacity(sql.len() + 64);
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Scalar(n) => {
                out.push(if dialect == Dialect::Postgres { '$' } else { '?' });
                out.push_str(&n.to_string());
            }
            Piece::ForUpdate if dialect == Dialect::Postgres => out.push_str("FOR UPDATE"),
            Piece::ForUpdate => {}
            Piece::Rows(_) if rows.is_some() => return Err(":rows(..) occurs more than once; name it in a CTE".into()),
            Piece::Rows(columns) => {
                match dialect {
                    Dialect::Postgres => unnest(&mut out, &columns, scalars),
                    Dialect::Sqlite => json_each(&mut out, &columns, scalars),
                }
                rows = Some(columns.into_iter().map(|(_, kind)| kind).collect());
            }
        }
    }
    Ok(Rendered {
        #[cfg(feature = "postgres")]
        insert: crate::insert::parse(&out),
        sql: out,
        scalars,
        rows,
    })
}

fn unnest(out: &mut String, columns: &[(&str, ColumnType)], scalars: usize) {
    let arrays: Vec<String> =
        columns.iter().enumerate().map(|(i, (_, kind))| format!("${}::{}[]", scalars + 1 + i, kind.name())).collect();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    out.push_str(&format!("(SELECT * FROM unnest({}) AS t({}))", arrays.join(", "), names.join(", ")));
}

fn json_each(out: &mut String, columns: &[(&str, ColumnType)], scalars: usize) {
    let columns: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(i, (name, kind))| match kind {
            ColumnType::Bytea => format!("unhex(json_extract(value, '$[{i}]')) AS {name}"),
            _ => format!("json_extract(value, '$[{i}]') AS {name}"),
        })
        .collect();
    out.push_str(&format!("(SELECT {} FROM json_each(?{}))", columns.join(", "), scalars + 1));
}

/// Splits the text into pieces. Quotes and comments stay text.
fn split(sql: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let (mut at, mut text_from) = (0, 0);
    while let Some(next) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let skip = match next {
            '\'' | '"' => quoted(rest, next),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            ':' if rest.starts_with("::") => 2,
            ':' | '$' => {
                let (piece, len) = match placeholder(rest)? {
                    Some(found) => found,
                    None => {
                        at += 1;
                        continue;
                    }
                };
                pieces.push(Piece::Text(&sql[text_from..at]));
                pieces.push(piece);
                at += len;
                text_from = at;
                continue;
            }
            other => other.len_utf8(),
        };
        at += skip;
    }
    pieces.push(Piece::Text(&sql[text_from..]));
    Ok(pieces)
}

/// The length of a quoted text. A doubled quote counts as the end of one text and the start of the next.
fn quoted(rest: &str, quote: char) -> usize {
    rest[1..].find(quote).map_or(rest.len(), |end| end + 2)
}

fn placeholder(rest: &str) -> Result<Option<(Piece<'_>, usize)>, String> {
    if let Some(number) = rest.strip_prefix('$') {
        let len = number.bytes().take_while(u8::is_ascii_digit).count();
        return match number[..len].parse() {
            Ok(0) | Err(_) => Ok(None),
            Ok(n) if n > 1000 => Err(format!("${n} is not a sensible parameter")),
            Ok(n) => Ok(Some((Piece::Scalar(n), len + 1))),
        };
    }
    if let Some(after) = rest.strip_prefix(":for_update") {
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        return Ok(ends.then_some((Piece::ForUpdate, ":for_update".len())));
    }
    let Some(list) = rest.strip_prefix(":rows(") else { return Ok(None) };
    let end = list.find(')').ok_or(":rows( is not closed")?;
    let columns = list[..end].split(',').map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Some((Piece::Rows(columns), ":rows(".len() + end + 1)))
}

fn column(declared: &str) -> Result<(&str, ColumnType), String> {
    let wrong = || format!("{:?} in :rows(..) is not a name and one of text, bigint, boolean, bytea", declared.trim());
    let mut words = declared.split_whitespace();
    let (Some(name), Some(kind), None) = (words.next(), words.next(), words.next()) else { return Err(wrong()) };
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let kind = ColumnType::parse(kind).filter(|_| plain && !name.starts_with(|c: char| c.is_ascii_digit()));
    Ok((name, kind.ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: &str = "INSERT INTO held SELECT r.id, r.sku, r.n, $1 FROM :rows(id text, sku text, n bigint) r WHERE r.n > $2 :for_update";

    #[test]
    fn rows_become_arrays_on_postgresql_and_json_on_sqlite() {
        let postgres = render(RESERVE, Dialect::Postgres).unwrap();
        assert_eq!(
            postgres.sql,
            "INSERT INTO held SELECT r.id, r.sku, r.n, $1 FROM (SELECT * FROM unnest($3::text[], $4::text[], \
             $5::bigint[]) AS t(id, sku, n)) r WHERE r.n > $2 FOR UPDATE"
        );
        assert_eq!(postgres.scalars, 2);
        assert_eq!(postgres.rows, Some(vec![ColumnType::Text, ColumnType::Text, ColumnType::Bigint]));
        let sqlite = render(RESERVE, Dialect::Sqlite).unwrap();
        assert_eq!(
            sqlite.sql,
            "INSERT INTO held SELECT r.id, r.sku, r.n, ?1 FROM (SELECT json_extract(value, '$[0]') AS id, \
             json_extract(value, '$[1]') AS sku, json_extract(value, '$[2]') AS n FROM json_each(?3)) r WHERE r.n > ?2 "
        );
    }

    #[test]
    fn quotes_comments_and_casts_are_left_alone() {
        for sql in [
            "SELECT '$1 :rows(a text) it''s :for_update', \"a$1\"\"b\"",
            "SELECT 1 -- $1 :for_update\n, 2 /* :rows(x */",
            "SELECT x::rows, $x, :other, 'ü$1",
        ] {
            let rendered = render(sql, Dialect::Sqlite).unwrap();
            assert_eq!((rendered.sql.as_str(), rendered.scalars, &rendered.rows), (sql, 0, &None));
        }
    }

    #[test]
    fn a_malformed_rows_placeholder_says_what_is_wrong() {
        for sql in
            [":rows(a)", ":rows(a uuid)", ":rows(a text", ":rows()", ":rows(A text)", ":rows(a text) :rows(a text)"]
        {
            assert!(render(sql, Dialect::Postgres).unwrap_err().contains(":rows"), "{sql}");
        }
    }
}
