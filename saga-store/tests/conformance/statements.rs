//! Handlers' own SQL, written once for both databases.

use saga_core::{
    event::SagaId,
    store::{Changes, Store, StoreError},
};
use saga_store::{Rows, Value, params};

const INSERT: &str = "INSERT INTO note (id, body, number, flag, raw) \
    SELECT r.id, r.body, r.number, r.flag, r.raw \
    FROM :rows(id text, body text, number bigint, flag boolean, raw bytea) r";

on_both! {
    async fn rows_of_all_types_and_odd_texts_go_in_and_come_out(f: &Fixture) {
        let odd = ["plain", "it's \"quoted\"", "ünïcödé 🦀 \u{202e}", "$1 ?1 :rows(a text) --", "back\\slash\nnewline\t{}[]", ""];
        let mut rows: Rows = odd
            .iter()
            .enumerate()
            .map(|(i, text)| params![i.to_string(), *text, i64::MAX - i as i64, i % 2 == 0, vec![0, i as u8, 255]])
            .collect();
        rows.push(params!["null", None::<String>, None::<i64>, None::<bool>, None::<Vec<u8>>]);
        let tx = f.db.begin_plain().await.unwrap();
        assert_eq!(tx.execute_rows(INSERT, &rows, []).await.unwrap(), 7);
        f.db.commit(tx, Changes::default()).await.unwrap();
        for (i, text) in odd.iter().enumerate() {
            let sql = "SELECT body, number, flag, raw FROM note WHERE id = $1 AND body = $2 AND number > $3";
            let row = f.db.query_opt(sql, params![i.to_string(), *text, 5]).await.unwrap().unwrap();
            assert_eq!(row.get::<String>("body").unwrap(), *text);
            assert_eq!(row.get::<i64>("number").unwrap(), i64::MAX - i as i64);
            assert_eq!(row.get::<bool>("flag").unwrap(), i % 2 == 0);
            assert_eq!(row.get::<Vec<u8>>("raw").unwrap(), [0, i as u8, 255]);
        }
        let row = f.db.query_opt("SELECT body, number, flag, raw FROM note WHERE id = 'null'", []).await.unwrap().unwrap();
        assert!((0..4).all(|i| row.get::<Value>(i).unwrap() == Value::Null));
        assert_eq!(row.get::<Option<String>>(0).unwrap(), None);
    }

    async fn rows_and_scalars_meet_in_one_statement(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        let rows: Rows = [("SKU-1", 5), ("SKU-2", 7)].into_iter().map(|(sku, n)| params![sku, n]).collect();
        let upsert = "INSERT INTO stock (sku, available) SELECT r.sku, r.n * $2 FROM :rows(sku text, n bigint) r
            WHERE r.sku <> $1 ON CONFLICT (sku) DO UPDATE SET available = stock.available + excluded.available";
        assert_eq!(tx.execute_rows(upsert, &rows, params!["SKU-9", 10]).await.unwrap(), 2);
        let locked = "SELECT s.sku, s.available FROM stock s WHERE s.sku IN (SELECT r.sku FROM :rows(sku text, n bigint) r)
            AND s.available > $1 ORDER BY s.sku :for_update";
        let found = tx.query_rows(locked, &rows, params![0]).await.unwrap();
        let found: Vec<(String, i64)> = found.iter().map(|r| (r.get(0).unwrap(), r.get(1).unwrap())).collect();
        assert_eq!(found, [("SKU-1".into(), 150), ("SKU-2".into(), 70)]);
        let take = "UPDATE stock SET available = stock.available - r.n FROM :rows(sku text, n bigint) r
            WHERE stock.sku = r.sku RETURNING stock.sku AS sku, stock.available AS rest";
        assert_eq!(tx.query_rows(take, &rows, []).await.unwrap().len(), 2);
        let sum = tx.query_opt("SELECT CAST(sum(available) AS bigint) AS total FROM stock", []).await.unwrap().unwrap();
        assert_eq!(sum.get::<i64>("total").unwrap(), 208);
        assert_eq!(tx.execute_rows(take, &Rows::new(), []).await.unwrap(), 0, "no rows are fine");
    }

    async fn nul_characters_are_rejected_on_both(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        let error = tx.execute("INSERT INTO note (id) VALUES ($1)", params!["a\0b"]).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    }

    async fn nul_characters_in_rows_are_rejected_on_both(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        let rows: Rows = [params!["a\0b", None::<String>, 1, true, vec![0_u8]]].into_iter().collect();
        let error = tx.execute_rows(INSERT, &rows, []).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    }

    async fn a_broken_constraint_is_rejected_and_a_wrong_statement_is_broken(f: &Fixture) {
        for sql in [
            "INSERT INTO stock (sku, available) VALUES ('SKU-1', 1)",
            "UPDATE stock SET available = -1",
            "INSERT INTO stock (sku) VALUES ('SKU-3')",
        ] {
            let error = f.db.begin_plain().await.unwrap().execute(sql, []).await.unwrap_err();
            assert!(matches!(error, StoreError::Rejected(_)), "{sql}: {error:?}");
        }
        for sql in ["SELEC 1", "SELECT * FROM nowhere", "SELECT nothing FROM stock", "SELECT * FROM :rows(a text) r", "SELECT $1"] {
            let error = f.db.begin_plain().await.unwrap().execute(sql, []).await.unwrap_err();
            assert!(matches!(error, StoreError::Broken(_)), "{sql}: {error:?}");
        }
        let tx = f.db.begin_plain().await.unwrap();
        let error = tx.execute("UPDATE stock SET available = $1 WHERE sku = $2", params![1]).await.unwrap_err();
        assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
    }

    async fn rows_that_do_not_fit_their_declaration_are_broken(f: &Fixture) {
        for rows in [Rows::from_iter([params!["a"]]), Rows::from_iter([params![1, "a"]]), Rows::from_iter([params!["a", true]])] {
            let tx = f.db.begin_plain().await.unwrap();
            let sql = "SELECT r.a FROM :rows(a text, b bigint) r";
            let error = tx.query_rows(sql, &rows, []).await.unwrap_err();
            assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
        }
    }

    async fn a_column_that_is_not_there_is_broken_and_a_value_that_cannot_be_read_is_rejected(f: &Fixture) {
        let sql = "SELECT sku, available, CAST(NULL AS text) AS missing, CAST(3000000000 AS bigint) AS large FROM stock";
        let row = f.db.query_opt(sql, []).await.unwrap().unwrap();
        for error in [row.get::<String>("nobody").unwrap_err(), row.get::<String>(4).unwrap_err()] {
            assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
        }
        for error in [
            row.get::<i64>("sku").unwrap_err(),
            row.get::<SagaId>("sku").unwrap_err(),
            row.get::<bool>("available").unwrap_err(),
            row.get::<String>("missing").unwrap_err(),
            row.get::<i32>("large").unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Rejected(_)), "{error:?}");
        }
    }

    async fn more_than_one_row_is_not_an_option(f: &Fixture) {
        let error = f.db.query_opt("SELECT 1 AS a UNION ALL SELECT 2", []).await.unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error:?}");
        let tx = f.db.begin_plain().await.unwrap();
        let error = tx.query_opt("SELECT 1 AS a UNION ALL SELECT 2 UNION ALL SELECT 3", []).await.unwrap_err();
        assert!(matches!(&error, StoreError::Rejected(why) if why.kind() == "more than one row"), "{error:?}");
    }

    async fn statements_of_one_transaction_can_be_joined(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        let (written, read, again) = futures::join!(
            tx.execute("INSERT INTO note (id, number) VALUES ($1, $2)", params!["a", 1]),
            tx.query_opt("SELECT number FROM note WHERE id = $1", params!["a"]),
            tx.query("SELECT sku FROM stock", []),
        );
        assert_eq!(written.unwrap(), 1);
        assert_eq!(read.unwrap().unwrap().get::<i64>(0).unwrap(), 1, "they run in the order they stand in");
        assert_eq!(again.unwrap().len(), 1);
    }

    async fn the_drivers_own_api_is_inside_the_transaction(f: &Fixture) {
        let tx = f.db.begin_plain().await.unwrap();
        let insert = "INSERT INTO note (id) VALUES ('raw')";
        if let Some(client) = tx.postgres() {
            client.batch_execute(insert).await.unwrap();
        }
        tx.sqlite(|conn| conn.execute_batch(insert)).transpose().unwrap();
        assert_eq!(tx.query("SELECT id FROM note", []).await.unwrap().len(), 1);
        drop(tx);
        assert_eq!(f.count("SELECT count(*) FROM note").await, 0);
    }
}
