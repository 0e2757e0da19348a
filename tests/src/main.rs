//! `cleanup`: waits until the test process that started it has ended, however it ended, and removes what that one registered.
//!
//! A line of its input is `+ KIND WHAT` for what is to be removed, and `- KIND WHAT` for what is not any more.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead},
    process::{Command, Stdio},
};

use tokio_postgres::NoTls;

fn main() {
    let mut left = BTreeSet::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("+", what)) => drop(left.insert(what.to_owned())),
            Some(("-", what)) => drop(left.remove(what)),
            _ => {}
        }
    }
    // Processes first: they use the rest. Whatever fails was gone already, or nobody is left to be told.
    for kind in ["process", "kafka", "database", "folder"] {
        for what in left.iter().filter_map(|entry| entry.strip_prefix(kind)?.strip_prefix(' ')) {
            match kind {
                "process" => drop(Command::new("kill").args(["-9", what]).stderr(Stdio::null()).status()),
                "kafka" => {
                    let kafka = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kafka");
                    let _ = Command::new(kafka).arg("wipe").env("KAFKA_PORT", what).stdout(Stdio::null()).status();
                }
                "database" => drop_database(what),
                _ => drop(fs::remove_dir_all(what)),
            }
        }
    }
}

/// Drops a database, whoever uses it. `what` is the server's URL and the database's name.
fn drop_database(what: &str) {
    let Some((server, name)) = what.rsplit_once(' ') else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let Ok((client, connection)) = tokio_postgres::connect(server, NoTls).await else { return };
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        // The connection works as long as it is polled.
        tokio::select! {
            _ = client.batch_execute(&drop) => {}
            _ = connection => {}
        }
    });
}
