//! Where a setting comes from, and that none is shown which is a secret.

use std::ffi::OsString;

use super::*;
use crate::{NoArgs, serve};

fn parsed(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config<NoArgs>, String> {
    let flags = ["stock-service"].iter().chain(flags).map(OsString::from);
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    let stock = serve(saga_core::Participant::named("stock")).http("127.0.0.1:8099");
    match stock.parse(flags, variables) {
        Ok(parsed) => Ok(parsed.config),
        Err(stop) => Err(format!("{stop:?}")),
    }
}

#[test]
fn everything_has_a_default() {
    let config = parsed(&[], &[]).unwrap();
    assert_eq!(config.http_addr.to_string(), "127.0.0.1:8099");
    assert_eq!(config.database_url.to_string(), "sqlite://./data/stock.db");
    // Tests on a real broker are told where it is by the same variable.
    let broker = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "localhost:9092".to_owned());
    assert_eq!(config.kafka.bootstrap_servers(), broker);
    assert_eq!(config.topics, TopicConfig { partitions: 6, replication_factor: None });
}

#[test]
fn flags_win_over_variables() {
    let flags = ["--kafka-cfg", "session.timeout.ms=7000", "--kafka-cfg=sasl.password=a=b"];
    let config = parsed(&flags, &[("KAFKA_CFG_SESSION_TIMEOUT_MS", "8000"), ("KAFKA_CFG_CLIENT_RACK", "r1")]).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("7000") && shown.contains("r1") && !shown.contains("8000"), "{shown}");
}

#[test]
fn a_secret_from_a_file_loses_its_line_end_and_is_not_shown() {
    let path = std::env::temp_dir().join(format!("saga-service-url-{}", std::process::id()));
    std::fs::write(&path, "postgres://app:hunter2@db:5432/app\r\n").unwrap();
    let path = path.to_str().unwrap();
    let config = parsed(&["--database-url-file", path], &[]).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("db:5432") && !shown.contains("hunter2"), "{shown}");
    let both = parsed(&["--database-url-file", path, "--database-url", "sqlite://x.db"], &[]).unwrap_err();
    assert!(both.contains("DATABASE_URL_FILE: DATABASE_URL is set too"), "{both}");
}

#[test]
fn what_is_asked_for_is_no_error() {
    assert!(parsed(&["--help"], &[]).unwrap_err().starts_with("Asked"));
    assert!(parsed(&["--version"], &[]).unwrap_err().starts_with("Asked"));
}

#[test]
fn an_http_address_is_an_address_or_a_name_and_a_port() {
    for good in ["127.0.0.1:8081", "0.0.0.0:0", "[::]:8081", "localhost:8081", "order.internal:80"] {
        assert!(good.parse::<HttpAddr>().is_ok(), "{good}");
    }
    for bad in ["", "8081", ":8081", "127.0.0.1", "localhost:http", "localhost:99999", "http://localhost:8081", "a b:1"]
    {
        assert!(bad.parse::<HttpAddr>().is_err(), "{bad}");
    }
}

/// Each with the variable that must be named, and whatever of it a lenient parser takes for something that is shown.
#[test]
fn an_address_with_a_password_in_it_is_refused_and_no_part_of_it_shown() {
    for (variable, value) in [
        ("DATABASE_URL", "postgres://saga:p@hunter2@db/orders"),
        ("DATABASE_URL", "postgres://saga:p/hunter2@db/orders"),
        ("DATABASE_URL", "postgres://saga:12?user=hunter2@db/orders"),
        ("DATABASE_URL", "postgres://saga:p@db/orders@hunter2"),
        ("DATABASE_URL", "postgres://saga:p@db%40hunter2/orders"),
        ("DATABASE_URL", "postgres://saga@db/orders?password=p@hunter2"),
        ("DATABASE_URL", "sqlite://saga:p@hunter2@db/orders"),
        ("KAFKA_BOOTSTRAP_SERVERS", "saga:hunter2@kafka:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "SASL_SSL://saga:p@hunter2@kafka:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "saga://hunter2@kafka:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "saga:p/hunter2:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,saga:p@hunter2:9092"),
        ("HTTP_ADDR", "saga:p@hunter2:8081"),
        ("HTTP_ADDR", "http://saga:hunter2@localhost:8081"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://saga:p@hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://saga:12/hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://saga:12?hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://saga:12#hunter2@collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://saga:p@hunter2@collector:4318/v1/traces"),
    ] {
        let flag = format!("--{}", variable.to_ascii_lowercase().replace('_', "-"));
        // Variables that are flags too are read by clap, from the environment of the process.
        let refused = match variable {
            _ if variable.starts_with("OTEL") => parsed(&[], &[(variable, value)]),
            _ => parsed(&[&flag, value], &[]),
        };
        let error = refused.expect_err(value);
        assert!(error.starts_with("Wrong") && error.contains(&format!("{variable}: ")), "{value}: {error}");
        assert!(!error.contains("hunter2"), "{value}: {error}");
    }
}
