//! `saga watch`: its totals, and how it ends.

use super::*;

/// A running `saga watch --json`.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(broker: &Broker, since: Timestamp) -> Self {
        let args = ["watch", "--json", "--interval", "100ms", "--since", &since.to_string()];
        let mut child = broker.saga(&args).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let now: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            if holds(&now) {
                return now;
            }
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; {now:#}");
        }
    }

    fn terminate(mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

fn total(now: &Value, what: &str) -> u64 {
    now["totals"][what].as_u64().unwrap()
}

async fn sagas_are_counted_as_they_go(broker: Broker) {
    let since = Timestamp::now();
    for saga in [Saga::confirmed(), Saga::compensated(), Saga::dead_lettered(), Saga::reserved()] {
        broker.publish(saga.records).await;
    }
    let mut watch = Watch::start(&broker, since);
    let now = watch.until("read back", |now| now["caught_up"] == true);
    // Other sagas may be on a shared broker.
    let is_ours = broker.embedded.is_some();
    assert!(total(&now, "started") >= 4 && total(&now, "finished") >= 2 && total(&now, "dead_letters") >= 1, "{now:#}");
    let charge = now["waiting"].as_array().unwrap().iter().find(|row| row["step"] == "charge").unwrap();
    assert!(charge["sagas"].as_u64().unwrap() >= 2 && charge["blocked"].as_u64().unwrap() >= 1, "{now:#}");
    if is_ours {
        assert_eq!((total(&now, "started"), total(&now, "finished"), &now["in_flight"]), (4, 2, &json!(2)));
        assert_eq!(now["ended"], json!({"order.cancelled": 1, "order.confirmed": 1}));
        assert_eq!(now["oldest"][0]["blocked_by"], "retries_exhausted");
    }
    if let Some(embedded) = &broker.embedded {
        embedded.set_reachable(false);
        watch.until("the broker is missed", |now| now["trouble"].is_string());
        embedded.set_reachable(true);
        watch.until("the broker is back", |now| now["trouble"].is_null());
    }
    let finished = total(&now, "finished");
    broker.publish(Saga::confirmed().records).await;
    watch.until("one more has ended", |now| total(now, "finished") > finished);
    assert_eq!(watch.terminate().code(), Some(0));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_counted_as_they_go_embedded() {
    sagas_are_counted_as_they_go(Broker::embedded()).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_counted_as_they_go_live() {
    if let Some(broker) = Broker::live().await {
        sagas_are_counted_as_they_go(broker).await;
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_count_whatever_their_key() {
    let broker = Broker::embedded();
    let [event, letter] = [1, 2].map(|place| Saga::dead_lettered().records[place].clone());
    for key in [None, Some("order-7")] {
        let keyed = |record: &OutRecord| OutRecord { key: key.map(|key| key.as_bytes().to_vec()), ..record.clone() };
        broker.publish(vec![keyed(&event), keyed(&letter)]).await;
    }
    let mut watch = Watch::start(&broker, Timestamp::now() - SignedDuration::from_hours(1));
    let now = watch.until("read back", |now| now["caught_up"] == true);
    // Event topics may hold records of others, with other keys.
    assert_eq!((total(&now, "dead_letters"), total(&now, "unreadable")), (2, 1), "{now:#}");
    assert_eq!(watch.terminate().code(), Some(0));
}

/// A full standard output and its reader.
#[cfg(unix)]
fn full() -> (Stdio, std::os::unix::net::UnixStream) {
    use std::os::{fd::OwnedFd, unix::net::UnixStream};
    // A pipe for which std can say when it is full.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[b'\n'; 4096]).is_ok() {}
    while ours.write(b"\n").is_ok() {}
    ours.set_nonblocking(false).unwrap();
    (OwnedFd::from(ours).into(), theirs)
}

/// The exit status; none if the process had to be killed.
#[cfg(unix)]
fn ended(mut child: Child) -> Option<ExitStatus> {
    let (id, (sender, receiver)) = (child.id().to_string(), std::sync::mpsc::channel());
    let waits = std::thread::spawn(move || sender.send(child.wait().unwrap()).unwrap());
    let status = receiver.recv_timeout(PATIENCE).ok();
    if status.is_none() {
        assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
    }
    waits.join().unwrap();
    status
}

#[cfg(unix)]
#[test]
fn a_signal_ends_watch_also_when_its_output_is_not_read() {
    let broker = Broker::with_topics(&TOPICS[..1]);
    for (signal, args) in [("-TERM", &["watch", "--json"][..]), ("-INT", &["watch"])] {
        let (stdout, _unread) = full();
        let mut child = broker.saga(args).stdout(stdout).spawn().unwrap();
        // The missing topics are reported just before the first line, which cannot be written.
        let mut remark = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut remark).unwrap();
        assert!(remark.contains("waiting for inventory.events"), "{remark}");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(ended(child).map(|status| status.code()), Some(Some(0)), "{signal}");
    }
}

#[test]
fn a_closed_pipe_ends_watch_quietly() {
    let broker = Broker::embedded();
    let mut child = broker.saga(&["watch", "--interval", "100ms"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("0 sagas in flight") && !line.contains('\u{1b}'), "{line}");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
