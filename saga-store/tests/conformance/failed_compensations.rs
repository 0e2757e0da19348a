//! Compensations that failed for good: a row of each, written with the mark of its barrier row, and kept as it was first written.

use saga_core::{
    barrier::{Mark, Op},
    event::SagaId,
    record::{Header, Record},
    store::{Changes, FailedCompensation, Phase, Store, StoreError},
};
use saga_store::{Db, params};

use crate::support::{STEP, admission, at, begin, marked, marks};

fn failed(saga_id: SagaId, reason: &str) -> Changes {
    let failed = FailedCompensation {
        saga_id,
        step: STEP,
        event_id: "1\0".to_owned(),
        record: Record {
            topic: "trip.events".into(),
            partition: 3,
            offset: 5_000_000_000,
            key: Some(saga_id.to_string().into_bytes()),
            value: Some(vec![0, 255]),
            headers: vec![Header::text("ce_type", "trip.cancelled")],
        },
        attempts: 7,
        failed_at: at(3),
        reason: reason.to_owned(),
    };
    Changes { failed: vec![failed], ..marked(saga_id, Op::Compensate, Mark::Failed) }
}

/// Its reason, attempts, value and headers, as an operator reads them.
async fn stored(db: &Db) -> Vec<(String, i64, Vec<u8>, String)> {
    let sql = "SELECT reason, attempts, value, headers FROM saga_failed_compensation ORDER BY reason";
    db.transaction(async |tx| {
        let rows = tx.query(sql, params![]).await?;
        let row = |row: &saga_store::Row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        let rows = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, StoreError>((tx, rows, Vec::new()))
    })
    .await
    .unwrap()
}

on_both! {
    async fn a_failed_compensation_is_stored_with_its_mark_and_counted(f: &Fixture) {
        let sagas = [SagaId::random(), SagaId::random()];
        for (saga, reason) in sagas.into_iter().zip(["no answer\0", "refused"]) {
            let (tx, before) = begin(&f.db, &admission(saga, Op::Compensate, Phase::Whole)).await;
            assert_eq!(marks(&before), (None, None));
            f.db.commit(tx, failed(saga, reason)).await.unwrap();
        }
        let headers = r#"[["ce_type","trip.cancelled"]]"#.to_owned();
        let rows = stored(&f.db).await;
        assert_eq!(rows.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["no answer\u{fffd}", "refused"]);
        assert!(rows.iter().all(|row| (row.1, &row.2, &row.3) == (7, &vec![0, 255], &headers)), "{rows:?}");
        assert_eq!(f.db.summary().await.unwrap().failed_compensations, 2);
        let (_tx, before) = begin(&f.db, &admission(sagas[0], Op::Compensate, Phase::Whole)).await;
        assert_eq!(marks(&before), (Some(Mark::Null), Some(Mark::Failed)));
    }

    async fn one_that_is_rolled_back_is_not_stored_and_the_first_of_a_step_stays(f: &Fixture) {
        let saga = SagaId::random();
        let (tx, _) = begin(&f.db, &admission(saga, Op::Compensate, Phase::Whole)).await;
        drop(tx);
        assert_eq!(f.db.summary().await.unwrap().failed_compensations, 0);
        for reason in ["first", "second"] {
            let (tx, _) = begin(&f.db, &admission(saga, Op::Compensate, Phase::Whole)).await;
            f.db.commit(tx, failed(saga, reason)).await.unwrap();
        }
        assert_eq!(stored(&f.db).await.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["first"]);
    }
}
