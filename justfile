# `just` lists the recipes; each only calls what can be run without just.

# Show the recipes
default:
    @just --list

# Does everything compile?
check:
    cargo check --workspace --all-targets

# Format the code
fmt:
    cargo fmt --all

# What the gate says about style
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# All tests; arguments go to cargo test
test *args:
    scripts/test {{args}}

# The whole flow in one process: embedded broker, SQLite, nothing else installed
demo *args:
    cargo run --quiet --bin saga -- demo {{args}}

# How many sagas a second the four services carry, on the broker and database that the environment names
bench *args:
    cargo build --release --bins
    target/release/saga bench {{args}}

# All tests, failing instead of skipping where Kafka, PostgreSQL or Jaeger cannot be had
live *args:
    SAGA_REQUIRE_LIVE=1 scripts/test {{args}}

# All tests, with Kafka and PostgreSQL in containers
containers *args:
    SAGA_TEST_CONTAINERS=1 scripts/test {{args}}

# The whole gate
ci:
    .ci/run

# Kafka without Docker: start, stop, kill, pause, resume, status, wipe, bootstrap
kafka command="status":
    scripts/kafka {{command}}

# PostgreSQL without Docker: start, stop, kill, pause, resume, status, wipe, url
postgres command="status":
    scripts/postgres {{command}}

# Jaeger without Docker: start, stop, kill, pause, resume, status, wipe, url, otlp
jaeger command="status":
    scripts/jaeger {{command}}

# Docker and Compose where the machine has none: start, stop, status, compose, fetch
docker command="status" *args:
    scripts/offline-images/docker {{command}} {{args}}

# Local images that stand in for the public ones: build, env, list, remove
images command="list" *args:
    scripts/offline-images/images {{command}} {{args}}

# docker-compose.yml: up, orders, traces, down
compose-test *args:
    scripts/offline-images/compose-test {{args}}

# The listing of the public API anew, after a change that is meant
public-api:
    UPDATE_PUBLIC_API=1 cargo test -p saga-public-api
