//! When sagas began and ended.

use saga_core::{
    event::SagaId,
    store::{Changes, Committed, Progress, Store},
};

use crate::support::{PATIENCE, at};

fn begin(saga_id: SagaId, time: i64) -> Changes {
    Changes { begun: vec![Progress { saga_id, at: at(time) }], ..Changes::default() }
}

fn end(saga_id: SagaId, time: i64) -> Changes {
    Changes { ended: vec![Progress { saga_id, at: at(time) }], ..Changes::default() }
}

async fn commit(db: &saga_store::Db, changes: Changes) -> Committed {
    let (tx, _) = db.begin(&[], PATIENCE).await.unwrap();
    db.commit(tx, changes).await.unwrap()
}

on_both! {
    async fn a_saga_is_unfinished_from_its_beginning_to_its_end(f: &Fixture) {
        let (old, new) = (SagaId::random(), SagaId::random());
        assert_eq!(commit(&f.db, begin(old, 1)).await, Committed { begun: 1, ended: vec![] });
        commit(&f.db, begin(new, 5)).await;
        let summary = f.db.summary().await.unwrap();
        assert_eq!((summary.unfinished_sagas, summary.unfinished_oldest), (2, Some(at(1))));
        let ended = vec![Progress { saga_id: old, at: at(1) }];
        assert_eq!(commit(&f.db, end(old, 9)).await, Committed { begun: 0, ended });
        let summary = f.db.summary().await.unwrap();
        assert_eq!((summary.unfinished_sagas, summary.unfinished_oldest), (1, Some(at(5))));
    }

    async fn beginning_and_ending_again_changes_nothing(f: &Fixture) {
        let saga = SagaId::random();
        commit(&f.db, begin(saga, 1)).await;
        assert_eq!(commit(&f.db, begin(saga, 2)).await, Committed::default());
        assert_eq!(f.db.summary().await.unwrap().unfinished_oldest, Some(at(1)));
        commit(&f.db, end(saga, 3)).await;
        assert_eq!(commit(&f.db, end(saga, 4)).await, Committed::default());
        assert_eq!(commit(&f.db, begin(saga, 5)).await, Committed::default());
        assert_eq!(f.db.summary().await.unwrap().unfinished_sagas, 0);
    }

    async fn an_end_that_comes_before_the_beginning_is_the_end(f: &Fixture) {
        let saga = SagaId::random();
        assert_eq!(commit(&f.db, end(saga, 1)).await, Committed::default());
        assert_eq!(commit(&f.db, begin(saga, 2)).await, Committed { begun: 1, ended: vec![] });
        let summary = f.db.summary().await.unwrap();
        assert_eq!((summary.unfinished_sagas, summary.unfinished_oldest), (0, None));
    }
}
