//! One suite for both databases: on SQLite always, on PostgreSQL when there is one.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[macro_use]
mod support;

mod admission;
mod beginning;
mod collation;
mod connecting;
mod deferred;
mod failed_compensations;
mod failing;
mod faulty;
mod joins;
mod locks;
mod migrations;
mod outbox;
mod parking;
mod pooler;
mod progress;
mod publishing;
mod races;
mod rounds;
mod sharing;
mod statements;
mod steps;
mod timers;
mod transactions;
