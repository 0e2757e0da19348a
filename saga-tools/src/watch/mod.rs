//! Follows all sagas and shows their state at an interval.

mod bounded_set;
mod output_thread;
mod rates;
mod saga_table;
mod snapshot;
mod state_cache;
mod terminal;
mod topic_reader;
mod view;

use std::{
    io,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use saga_core::graph::Choreography;
use saga_kafka::{KafkaConfig, ReadError};
use tokio::{sync::mpsc::Receiver, time::MissedTickBehavior};

pub(crate) use topic_reader::TopicReaderError;

use self::{
    output_thread::{OutputThread, Page, PageContent},
    rates::Rates,
    saga_table::{Limits, SagaTable},
    snapshot::{BothRates, ConnectionStatus, Snapshot},
    terminal::Terminal,
    topic_reader::{ReaderUpdate, TopicReader},
};
use crate::{flow::FlowTopics, output::OutputError, signals::Signals};

/// How many ended sagas are remembered. A duplicate that arrives later counts as a saga without a start, which is
/// forgotten after a while.
const ENDED: usize = 100_000;

/// The command's settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) since: Option<Timestamp>,
    pub(crate) interval: Duration,
    /// How many unfinished sagas are followed.
    pub(crate) most: usize,
    pub(crate) json: bool,
}

/// Why watching ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error(transparent)]
    TopicReader(#[from] TopicReaderError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("reading has ended unexpectedly")]
    Ended,
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Shows the state of all sagas until a signal arrives.
pub(crate) async fn run(
    kafka: &KafkaConfig,
    flow: &Choreography,
    topics: FlowTopics,
    settings: Settings,
) -> Result<(), WatchError> {
    let (updates, missing_topics) = TopicReader::start(kafka, topics.all(), settings.since)?;
    let signals = Signals::listen().map_err(WatchError::Signals)?;
    let screen = if settings.json { None } else { Terminal::new() };
    let watch = Watch {
        servers: kafka.bootstrap_servers().to_owned(),
        settings,
        table: SagaTable::new(flow, Limits { unfinished: settings.most, ended: ENDED }),
        connection: ConnectionStatus { missing_topics, ..ConnectionStatus::default() },
        begun: Instant::now(),
        rates: Rates::default(),
        draws: screen.is_some(),
        remarks: Vec::new(),
    };
    let mut out = OutputThread::start(screen).map_err(WatchError::Thread)?;
    let ended = watch.follow(updates, signals, &mut out).await;
    out.close().await;
    ended
}

struct Watch {
    servers: String,
    settings: Settings,
    table: SagaTable,
    connection: ConnectionStatus,
    begun: Instant,
    rates: Rates,
    /// Whether a terminal is redrawn, instead of writing one line after the other.
    draws: bool,
    /// The remarks last written; used when no terminal is redrawn.
    remarks: Vec<String>,
}

impl Watch {
    async fn follow(
        mut self,
        mut updates: Receiver<ReaderUpdate>,
        mut signals: Signals,
        out: &mut OutputThread,
    ) -> Result<(), WatchError> {
        let mut tick = tokio::time::interval(self.settings.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Show updates however many records arrive.
                biased;
                _ = signals.received() => return Ok(()),
                error = out.failed() => return Err(error.into()),
                _ = tick.tick() => self.show(out)?,
                updates = updates.recv() => self.apply(updates.ok_or(WatchError::Ended)?)?,
            }
        }
    }

    fn apply(&mut self, updates: ReaderUpdate) -> Result<(), WatchError> {
        match updates {
            ReaderUpdate::Records(records) => {
                let now = Timestamp::now();
                for observed in &records {
                    // A producer's fast clock must not make other sagas look old.
                    self.table.advance_clock(observed.written.map_or(now, |written| written.min(now)));
                    self.table.add(observed);
                }
            }
            ReaderUpdate::CaughtUp => {
                self.connection.caught_up = true;
                // Events from before the start do not count as a rate.
                self.rates.record(self.begun.elapsed(), self.table.totals());
            }
            ReaderUpdate::Trouble(trouble) => self.connection.trouble = trouble,
            ReaderUpdate::Missing(topics) => self.connection.missing_topics = topics,
            ReaderUpdate::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn show(&mut self, out: &OutputThread) -> Result<(), WatchError> {
        // Without a connection, silence does not mean that a saga has stopped.
        if self.connection.caught_up && self.connection.trouble.is_none() {
            self.table.advance_clock(Timestamp::now());
        }
        // Skip an update when the reader of standard output is slow.
        let Some(permit) = out.reserve() else { return Ok(()) };
        if self.connection.caught_up {
            self.rates.record(self.begun.elapsed(), self.table.totals());
        }
        let rates = BothRates { interval: self.rates.interval(), minute: self.rates.minute() };
        let now = Snapshot::of(&self.table, &self.connection, rates, (self.settings.since, Timestamp::now()));
        let shown = match self.settings {
            _ if self.draws => PageContent::Screen(view::screen(&now, &self.servers)),
            Settings { json: true, .. } => PageContent::Line(serde_json::to_string(&now)?),
            _ => PageContent::Line(view::line(&now)),
        };
        // A redrawn terminal shows remarks at its top.
        let remarks = if self.draws { Vec::new() } else { self.remarks(&now) };
        permit.send(Page { remarks, shown });
        Ok(())
    }

    /// The remarks that are new since the last update.
    fn remarks(&mut self, now: &Snapshot) -> Vec<String> {
        // The count changes constantly, so it is reduced to whether there is any.
        let remarks = view::remarks(&Snapshot {
            totals: saga_table::Totals { untracked: now.totals.untracked.min(1), ..now.totals },
            ..now.clone()
        });
        if remarks == self.remarks {
            return Vec::new();
        }
        let mut updates: Vec<String> =
            remarks.iter().filter(|remark| !self.remarks.contains(remark)).cloned().collect();
        if remarks.is_empty() {
            updates.push("the warnings no longer apply".to_owned());
        }
        self.remarks = remarks;
        updates
    }
}
