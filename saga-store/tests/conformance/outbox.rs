//! The outbox: what is committed and not yet acknowledged.

use saga_core::{
    event::SagaId,
    store::{Changes, OutboxRow, Store},
};

use crate::support::{at, commit, outbox_row};

fn write(rows: &[&OutboxRow]) -> Changes {
    Changes { outbox: rows.iter().map(|row| (*row).clone()).collect(), ..Changes::default() }
}

on_both! {
    async fn rows_come_back_as_they_were_in_the_order_of_writing(f: &Fixture) {
        let rows = [5, 3, 4].map(|created| outbox_row(SagaId::random(), created));
        commit(&f.db, write(&[&rows[0], &rows[1]])).await;
        commit(&f.db, write(&[&rows[2]])).await;
        assert_eq!(f.db.unsent(at(6), &[], 10).await.unwrap(), rows);
        assert_eq!(f.db.unsent(at(5), &[], 10).await.unwrap(), rows[1..]);
        assert_eq!(f.db.unsent(at(6), &[], 1).await.unwrap(), rows[..1]);
        let summary = f.db.summary().await.unwrap();
        assert_eq!((summary.outbox_pending, summary.outbox_oldest), (3, Some(at(3))));
    }

    async fn what_is_marked_sent_is_forgotten_alone_or_with_the_next_commit(f: &Fixture) {
        let rows = [1, 2, 3].map(|created| outbox_row(SagaId::random(), created));
        commit(&f.db, write(&rows.each_ref())).await;
        f.db.mark_sent(&[rows[1].id]).await.unwrap();
        assert_eq!(f.db.unsent(at(9), &[], 10).await.unwrap(), [rows[0].clone(), rows[2].clone()]);
        commit(&f.db, Changes { sent: vec![rows[0].id, rows[1].id], ..Changes::default() }).await;
        f.db.mark_sent(&[]).await.unwrap();
        assert_eq!(f.db.unsent(at(9), &[], 10).await.unwrap(), rows[2..]);
    }

    async fn a_tombstone_stays_one(f: &Fixture) {
        let mut row = outbox_row(SagaId::random(), 1);
        row.record.value = None;
        commit(&f.db, write(&[&row])).await;
        assert_eq!(f.db.unsent(at(2), &[], 10).await.unwrap(), [row]);
    }

    async fn the_trace_context_stands_where_debezium_looks_for_it(f: &Fixture) {
        commit(&f.db, write(&[&outbox_row(SagaId::random(), 1)])).await;
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
    let (early, late) = (outbox_row(SagaId::random(), 1), outbox_row(SagaId::random(), 2));
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
    assert_eq!(f.db.unsent(at(9), &[], 10).await.unwrap(), std::slice::from_ref(&late));
    f.db.mark_sent(&[late.id]).await.unwrap();
    f.db.commit(tx, Changes::default()).await.unwrap();
    let unsent = f.db.unsent(at(9), &[], 10).await.unwrap();
    assert_eq!(unsent.iter().map(|row| row.id).collect::<Vec<_>>(), [early.id]);
}
