//! Clears up after a test process, however that ends: it waits for the end of its input, and then removes what it was told.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead},
    process::{Command, Stdio},
};

/// What a test process has made and not removed yet.
#[derive(Default)]
struct Left {
    children: BTreeSet<String>,
    kafkas: BTreeSet<String>,
    /// Where to connect, and the database to drop there.
    databases: BTreeSet<(String, String)>,
    folders: BTreeSet<String>,
}

fn main() {
    let mut left = Left::default();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Some((verb, what)) = line.split_once(' ') else { continue };
        let what = what.to_owned();
        match verb {
            "child" => drop(left.children.insert(what)),
            "reaped" => drop(left.children.remove(&what)),
            "kafka" => drop(left.kafkas.insert(what)),
            "database" => {
                if let Some((url, name)) = what.rsplit_once(' ') {
                    left.databases.insert((url.to_owned(), name.to_owned()));
                }
            }
            "folder" => drop(left.folders.insert(what)),
            "keep" => drop(left.folders.remove(&what)),
            _ => {}
        }
    }
    // Whatever fails was gone already, or nobody is left to be told.
    for child in left.children {
        let _ = Command::new("kill").args(["-9", &child]).stderr(Stdio::null()).status();
    }
    for port in left.kafkas {
        let kafka = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kafka");
        let _ = Command::new(kafka).arg("wipe").env("KAFKA_PORT", port).stdout(Stdio::null()).status();
    }
    if !left.databases.is_empty()
        && let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build()
    {
        for (url, name) in left.databases {
            let _ = runtime.block_on(saga_tests::database::drop_database(&url, &name));
        }
    }
    for folder in left.folders {
        let _ = fs::remove_dir_all(folder);
    }
}
