//! A warning about unique keys with a language's sort order: an upgrade of the C library or of ICU may change that
//! order, and the index then accepts duplicates.

use super::{connect::Target, error::classify_connect};
use crate::error::ConnectError;

/// Columns of unique indexes that do not sort by bytes. A column with the database's own collation follows its
/// provider, which servers before version 15 do not report.
const OF_A_LANGUAGE: &str = "
SELECT DISTINCT t.relname || '.' || coalesce(a.attname, x.relname)
FROM pg_index i
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_class x ON x.oid = i.indexrelid
CROSS JOIN unnest(i.indkey::int2[], i.indcollation::oid[]) AS k(attnum, collated)
JOIN pg_collation l ON l.oid = k.collated
JOIN pg_database d ON d.datname = current_database()
LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum AND k.attnum > 0
WHERE i.indisunique AND t.relnamespace = current_schema()::regnamespace
    AND NOT CASE l.collprovider
        WHEN 'd' THEN CASE coalesce(to_jsonb(d) ->> 'datlocprovider', 'c')
            WHEN 'c' THEN d.datcollate IN ('C', 'POSIX') ELSE to_jsonb(d) ->> 'datlocprovider' = 'b' END
        WHEN 'c' THEN l.collcollate IN ('C', 'POSIX')
        ELSE l.collprovider = 'b' END
ORDER BY 1";

/// Logs those columns. None of the framework's is among them.
pub(super) async fn warn(target: &Target) -> Result<(), ConnectError> {
    let link = target.connect().await?;
    let rows = link.client.query(OF_A_LANGUAGE, &[]).await.map_err(|error| classify_connect(&error))?;
    let keys: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    if !keys.is_empty() {
        let keys = keys.join(", ");
        tracing::warn!(
            keys,
            "unique keys sort as a language does, which may change with the server: give them COLLATE \"C\""
        );
    }
    Ok(())
}
