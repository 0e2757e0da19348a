//! `saga demo` as a process: its output, its exit code and the files that it leaves.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

#[cfg(unix)]
use rusqlite::{Connection, OpenFlags};
#[cfg(unix)]
use saga_test_support::wait_for;
use serde_json::{Value, json};

/// A demo with its own folder for temporary files.
struct Demo {
    command: Command,
    temporary: PathBuf,
}

impl Demo {
    fn new(name: &str, args: &[&str]) -> Self {
        let temporary = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_saga"));
        command.arg("demo").args(args).env("TMPDIR", &temporary).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, temporary }
    }

    /// Starts it through another program, such as `nohup`.
    #[cfg(target_os = "linux")]
    fn run_by(&mut self, program: &[&str]) {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(self.command.get_program()).args(self.command.get_args());
        command.env("TMPDIR", &self.temporary).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = command;
    }

    fn leaves_nothing(&self) -> bool {
        fs::read_dir(&self.temporary).unwrap().next().is_none()
    }

    /// The number of orders in the database; zero while there is none.
    #[cfg(unix)]
    fn orders(&self) -> u32 {
        let Some(folder) = fs::read_dir(&self.temporary).unwrap().next() else { return 0 };
        let database = folder.unwrap().path().join("order.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let count = Connection::open_with_flags(database, flags)
            .and_then(|order| order.query_row("SELECT count(*) FROM orders", (), |row| row.get(0)));
        count.unwrap_or_default()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_ending_comes_out_and_every_invariant_holds() {
    let mut demo = Demo::new("demo-json", &["--orders", "9", "--json"]);
    let output = demo.command.output().unwrap();
    let printed: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&output.stdout), text(&output.stderr)));
    assert_eq!((output.status.code(), &printed["holds"]), (Some(0), &json!(true)), "{printed:#}");
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));

    let endings = printed["endings"].as_array().unwrap();
    assert_eq!(endings.len(), 8);
    for ending in endings {
        assert!(ending["orders"].as_u64().unwrap() >= 1, "{ending}");
        assert!(ending["p99_ms"].as_f64().unwrap() > 0.0, "{ending}");
    }
    let invariants = printed["invariants"].as_array().unwrap();
    assert_eq!(invariants.len(), 9);
    assert!(invariants.iter().all(|invariant| invariant["holds"] == true));

    let events = |ending: &str| -> Vec<String> {
        let timelines = printed["timelines"].as_array().unwrap();
        let timeline = timelines.iter().find(|timeline| timeline["ending"] == ending).unwrap();
        let events = timeline["entries"].as_array().unwrap().iter().filter_map(|entry| entry["event"].as_str());
        events.map(str::to_owned).collect()
    };
    assert_eq!(events("out_of_stock"), ["order.created", "inventory.rejected", "order.cancelled"]);
    let compensated = ["shipping.rejected", "payment.refunded", "inventory.released", "order.cancelled"];
    assert!(events("unshippable").ends_with(&compensated.map(str::to_owned)));
    assert!(events("past_deadline").contains(&"order.cancellation_requested".to_owned()));

    let topics: Vec<&str> =
        printed["poison"].as_array().unwrap().iter().map(|l| l["topic"].as_str().unwrap()).collect();
    assert!(topics.len() == 2 && topics.contains(&"order.dlq") && topics.contains(&"inventory.dlq"), "{topics:?}");
    assert!(demo.leaves_nothing());
}

#[test]
#[cfg(unix)]
fn an_interrupt_or_a_hangup_ends_it_cleanly() {
    for (signal, code) in [("-INT", 130), ("-HUP", 129)] {
        let mut demo = Demo::new(&format!("demo{signal}"), &["--orders", "1000", "--rate", "50"]);
        // Under nohup the tests ignore SIGHUP, which a child process inherits.
        #[cfg(target_os = "linux")]
        demo.run_by(&["env", "--default-signal=HUP"]);
        let mut child = demo.command.spawn().unwrap();
        // In full swing: of a thousand orders some are placed.
        wait_for(|| demo.orders(), |orders| *orders > 0);
        let told = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(told.success());
        let output = ended(child.try_wait().unwrap().is_none(), child);
        assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
        assert!(demo.leaves_nothing(), "{signal}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_hangup_does_not_end_it_under_nohup() {
    let mut demo = Demo::new("demo-nohup", &["--orders", "9"]);
    demo.run_by(&["nohup"]);
    let mut child = demo.command.spawn().unwrap();
    wait_for(|| demo.orders(), |orders| *orders > 0);
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    let output = ended(child.try_wait().unwrap().is_none(), child);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[cfg(unix)]
fn ended(ran: bool, child: Child) -> Output {
    assert!(ran, "it ended before the signal");
    child.wait_with_output().unwrap()
}

#[test]
fn it_needs_an_order_for_each_ending() {
    let output = Demo::new("demo-few", &["--orders", "7"]).command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there are 8 endings"));
}
