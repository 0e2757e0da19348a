//! The services' tables in a database with the collation of a language: no index uses that collation.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use payment_service::SandboxGateway;
use saga_store::{
    Db,
    tokio_postgres::{self, Client, NoTls},
};
use uuid::Uuid;

/// The text columns of indexes that use the collation of a language, by their schemas.
const OF_A_LANGUAGE: &str = "
SELECT DISTINCT i.indrelid::regclass || '.' || a.attname FROM pg_index i
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY(i.indkey)
JOIN pg_collation l ON l.oid = a.attcollation
WHERE n.nspname NOT LIKE 'pg_%' AND l.collname <> 'C'";

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn no_index_uses_the_collation_of_a_language() {
    let Some(server) = saga_live::postgres() else { return };
    let name = format!("language_{}", Uuid::new_v4().simple());
    let admin = connect(&server).await;
    let create =
        format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    admin.batch_execute(&create).await.unwrap();
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    for (schema, migrations) in [
        ("order", order_service::MIGRATIONS),
        ("inventory", inventory_service::MIGRATIONS),
        ("payment", payment_service::MIGRATIONS),
        ("sandbox", SandboxGateway::LEDGER),
        ("shipping", shipping_service::MIGRATIONS),
    ] {
        // First the tables of an earlier version, then the current ones.
        for migrations in [&migrations[..1], migrations] {
            Db::connect(url.parse().unwrap(), schema, migrations).await.unwrap();
        }
    }
    let found = connect(&url).await.query(OF_A_LANGUAGE, &[]).await.unwrap();
    let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    assert_eq!(found, Vec::<String>::new());
}
