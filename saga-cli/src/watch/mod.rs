//! All sagas, followed as they go.

mod feed;
mod ledger;
mod rates;
mod screen;
mod snapshot;
mod standing;
mod view;

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use saga_core::graph::Choreography;
use saga_kafka::{KafkaConfig, ReadError};
use tokio::time::MissedTickBehavior;

pub(crate) use feed::FeedError;

use self::{
    feed::{Feed, News},
    ledger::{Ledger, Room},
    rates::Rates,
    screen::Screen,
    snapshot::{BothRates, Link, Snapshot},
};
use crate::{
    flow::FlowTopics,
    output::{OutputError, print},
    signals::Signals,
};

/// Ended sagas that are remembered. A duplicate that comes later than so many ends is taken for a saga whose start was
/// missed, and forgotten after a while.
const ENDED: usize = 100_000;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) since: Option<Timestamp>,
    pub(crate) interval: Duration,
    /// How many unfinished sagas are followed.
    pub(crate) most: usize,
    pub(crate) json: bool,
}

/// The watching has ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the reading has ended")]
    Ended,
    #[error("no signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Shows how things stand until a signal ends it.
pub(crate) async fn run(kafka: &KafkaConfig, flow: &Choreography, settings: Settings) -> Result<(), WatchError> {
    let mut news = Feed::start(kafka, FlowTopics::of(flow).all(), settings.since)?;
    let mut signals = Signals::listen().map_err(WatchError::Signals)?;
    let mut watch = Watch::new(kafka.bootstrap_servers(), flow, settings);
    let mut tick = tokio::time::interval(settings.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // However much there is to read, it is shown.
            biased;
            _ = signals.received() => return Ok(()),
            _ = tick.tick() => watch.show()?,
            news = news.recv() => watch.hear(news.ok_or(WatchError::Ended)?)?,
        }
    }
}

struct Watch {
    servers: String,
    settings: Settings,
    ledger: Ledger,
    link: Link,
    begun: Instant,
    rates: Rates,
    screen: Option<Screen>,
    /// What was said last where nothing is redrawn.
    remarks: Vec<String>,
}

impl Watch {
    fn new(servers: &str, flow: &Choreography, settings: Settings) -> Self {
        Self {
            servers: servers.to_owned(),
            settings,
            ledger: Ledger::new(flow, Room { unfinished: settings.most, ended: ENDED }),
            link: Link::default(),
            begun: Instant::now(),
            rates: Rates::default(),
            screen: if settings.json { None } else { Screen::new() },
            remarks: Vec::new(),
        }
    }

    fn hear(&mut self, news: News) -> Result<(), WatchError> {
        match news {
            News::Records(records) => {
                let now = Timestamp::now();
                for seen in &records {
                    // A producer whose clock is ahead does not hurry the others.
                    self.ledger.pass(seen.written.map_or(now, |written| written.min(now)));
                    self.ledger.add(seen);
                }
            }
            News::CaughtUp => {
                self.link.caught_up = true;
                // What happened before is no rate.
                self.rates.note(self.begun.elapsed(), self.ledger.totals());
            }
            News::Trouble(trouble) => self.link.trouble = trouble,
            News::Missing(topics) => self.link.missing_topics = topics,
            News::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn show(&mut self) -> Result<(), WatchError> {
        if self.link.caught_up {
            self.rates.note(self.begun.elapsed(), self.ledger.totals());
            // While nothing can be heard, silence means nothing.
            if self.link.trouble.is_none() {
                self.ledger.pass(Timestamp::now());
            }
        }
        let rates = BothRates { interval: self.rates.interval(), minute: self.rates.minute() };
        let now = Snapshot::of(&self.ledger, &self.link, rates, (self.settings.since, Timestamp::now()));
        if let Some(screen) = &mut self.screen {
            return Ok(screen.draw(&view::screen(&now, &self.servers)).map_err(OutputError::from)?);
        }
        self.remark(&now);
        let line = if self.settings.json { serde_json::to_string(&now)? } else { view::line(&now) };
        Ok(print(&(line + "\n"))?)
    }

    /// Says what has changed besides the numbers.
    fn remark(&mut self, now: &Snapshot) {
        // Not how many: that changes all the time.
        let remarks = view::remarks(&Snapshot {
            totals: ledger::Totals { untracked: now.totals.untracked.min(1), ..now.totals },
            ..now.clone()
        });
        if remarks == self.remarks {
            return;
        }
        let news: Vec<&String> = remarks.iter().filter(|remark| !self.remarks.contains(remark)).collect();
        for remark in news {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "saga: {remark}");
        }
        if remarks.is_empty() {
            let _ = writeln!(io::stderr(), "saga: all is well again");
        }
        self.remarks = remarks;
    }
}
