//! The outbox: what is committed and not yet acknowledged.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use saga_core::{
    event::SagaId,
    store::{Changes, OutboxRow, Store},
};

use crate::support::{commit, outbox_row, unsent};

fn write(rows: &[&OutboxRow]) -> Changes {
    Changes { outbox: rows.iter().map(|row| (*row).clone()).collect(), ..Changes::default() }
}

on_both! {
    async fn rows_come_back_as_they_were_in_the_order_of_writing(f: &Fixture) {
        let rows = [1, 2, 3].map(|_| outbox_row(SagaId::random()));
        commit(&f.db, write(&[&rows[0], &rows[1]])).await;
        commit(&f.db, write(&[&rows[2]])).await;
        assert_eq!(unsent(&f.db).await, rows);
        let places = f.db.unsent(0, Duration::ZERO, 2).await.unwrap();
        assert_eq!(places.iter().map(|p| (p.id, p.saga_id)).collect::<Vec<_>>(), [0, 1].map(|i| (rows[i].id, rows[i].saga_id)));
        let rest = f.db.unsent(places[1].seq, Duration::ZERO, 2).await.unwrap();
        assert_eq!(rest.iter().map(|place| place.id).collect::<Vec<_>>(), [rows[2].id]);
        assert_eq!(f.db.unsent(rest[0].seq, Duration::ZERO, 2).await.unwrap(), []);
        let some = f.db.outbox(&[rows[2].id, uuid::Uuid::nil(), rows[0].id]).await.unwrap();
        assert_eq!(some.iter().map(|row| row.id).collect::<Vec<_>>(), [rows[0].id, rows[2].id]);
    }

    async fn how_old_a_row_is_goes_by_the_databases_clock(f: &Fixture) {
        for off in [-86_400, 0, 86_400] {
            let created_at = Timestamp::now().checked_add(SignedDuration::from_secs(off)).unwrap();
            commit(&f.db, write(&[&OutboxRow { created_at, ..outbox_row(SagaId::random()) }])).await;
        }
        let young = async |grace| f.db.unsent(0, grace, 10).await.unwrap().iter().map(|place| place.young).collect::<Vec<_>>();
        assert_eq!(young(Duration::from_secs(60)).await, [true; 3]);
        assert_eq!(young(Duration::ZERO).await, [false; 3]);
        let summary = f.db.summary().await.unwrap();
        let age = Timestamp::now().duration_since(summary.outbox_oldest.unwrap());
        assert!(age.abs() < SignedDuration::from_secs(60), "{age}");
        assert_eq!(summary.outbox_pending, 3);
    }

    async fn what_is_marked_sent_is_forgotten_alone_or_with_the_next_commit(f: &Fixture) {
        let rows = [1, 2, 3].map(|_| outbox_row(SagaId::random()));
        commit(&f.db, write(&rows.each_ref())).await;
        f.db.mark_sent(&[rows[1].id]).await.unwrap();
        assert_eq!(unsent(&f.db).await, [rows[0].clone(), rows[2].clone()]);
        commit(&f.db, Changes { sent: vec![rows[0].id, rows[1].id], ..Changes::default() }).await;
        f.db.mark_sent(&[]).await.unwrap();
        assert_eq!(unsent(&f.db).await, rows[2..]);
    }

    async fn a_tombstone_stays_one(f: &Fixture) {
        let mut row = outbox_row(SagaId::random());
        row.record.value = None;
        commit(&f.db, write(&[&row])).await;
        assert_eq!(unsent(&f.db).await, [row]);
    }

    async fn the_trace_context_stands_where_debezium_looks_for_it(f: &Fixture) {
        commit(&f.db, write(&[&outbox_row(SagaId::random())])).await;
        let row = f.db.query_opt("SELECT tracingspancontext, aggregatetype FROM saga_outbox", []).await.unwrap().unwrap();
        let context: String = row.get(0).unwrap();
        let parent = "traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n";
        assert_eq!(context, format!("{parent}spanparent=0707070707070707\n"));
        assert_eq!(row.get::<String>(1).unwrap(), f.schema);
    }
}

#[tokio::test]
async fn a_row_whose_transaction_commits_late_is_not_passed_over() {
    let Some(f) = crate::support::Fixture::postgres().await else { return };
    let (early, late) = (outbox_row(SagaId::random()), outbox_row(SagaId::random()));
    // The early row has its place in the order before the late one, and is committed after it.
    let tx = f.db.begin_plain().await.unwrap();
    tx.postgres()
        .unwrap()
        .execute(
            "INSERT INTO saga_outbox (id, aggregatetype, aggregateid, type, topic, headers, created_at)
             VALUES ($1, 'x', $2, 'x', 'x', '[]', 'epoch')",
            &[&early.id, &early.saga_id.to_string()],
        )
        .await
        .unwrap();
    commit(&f.another().await, write(&[&late])).await;
    assert_eq!(unsent(&f.db).await, std::slice::from_ref(&late));
    f.db.mark_sent(&[late.id]).await.unwrap();
    f.db.commit(tx, Changes::default()).await.unwrap();
    let left = unsent(&f.db).await;
    assert_eq!(left.iter().map(|row| row.id).collect::<Vec<_>>(), [early.id]);
}
