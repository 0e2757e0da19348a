//! Runs a handler in its own transaction, as the runtime does.

use jiff::Timestamp;
use saga_core::{
    StepError,
    handler::Cx,
    store::{Changes, Store},
};
use saga_store::Db;

/// A point in time, in seconds since 1970.
///
/// # Panics
/// When it is out of range.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Runs a handler on these events, one after the other at this time, and commits.
///
/// # Panics
/// When the handler or the database fails.
pub async fn in_step<T, O>(
    db: &Db,
    now: Timestamp,
    handler: impl AsyncFn(&mut Cx<'_, Db>, T) -> Result<O, StepError>,
    events: impl IntoIterator<Item = T>,
) -> Vec<O> {
    let each = async |cx: &mut Cx<'_, Db>, events: Vec<T>| {
        let mut ends = Vec::new();
        for event in events {
            ends.push(handler(cx, event).await?);
        }
        Ok(ends)
    };
    in_set_step(db, now, each, events).await
}

/// Runs a set-based handler on these events at this time, and commits.
///
/// # Panics
/// When the handler or the database fails.
pub async fn in_set_step<T, O>(
    db: &Db,
    now: Timestamp,
    handler: impl AsyncFn(&mut Cx<'_, Db>, Vec<T>) -> Result<Vec<O>, StepError>,
    events: impl IntoIterator<Item = T>,
) -> Vec<O> {
    let mut tx = db.begin_plain().await.unwrap();
    let ends = handler(&mut Cx::new(&mut tx, now), events.into_iter().collect()).await.unwrap();
    db.commit(tx, Changes::default()).await.unwrap();
    ends
}
