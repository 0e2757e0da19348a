//! All sagas, followed as they go.

mod feed;
mod ledger;
mod out;
mod rates;
mod recent;
mod screen;
mod snapshot;
mod standing;
mod view;

use std::{
    io,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use saga_core::graph::Choreography;
use saga_kafka::{KafkaConfig, ReadError};
use tokio::{sync::mpsc::Receiver, time::MissedTickBehavior};

pub(crate) use feed::FeedError;

use self::{
    feed::{Feed, News},
    ledger::{Ledger, Room},
    out::{Out, Page, Shown},
    rates::Rates,
    screen::Screen,
    snapshot::{BothRates, Link, Snapshot},
};
use crate::{flow::FlowTopics, output::OutputError, signals::Signals};

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
    #[error("no thread")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Shows how things stand until a signal ends it.
pub(crate) async fn run(
    kafka: &KafkaConfig,
    flow: &Choreography,
    topics: FlowTopics,
    settings: Settings,
) -> Result<(), WatchError> {
    let (news, missing_topics) = Feed::start(kafka, topics.all(), settings.since)?;
    let signals = Signals::listen().map_err(WatchError::Signals)?;
    let screen = if settings.json { None } else { Screen::new() };
    let watch = Watch {
        servers: kafka.bootstrap_servers().to_owned(),
        settings,
        ledger: Ledger::new(flow, Room { unfinished: settings.most, ended: ENDED }),
        link: Link { missing_topics, ..Link::default() },
        begun: Instant::now(),
        rates: Rates::default(),
        draws: screen.is_some(),
        remarks: Vec::new(),
    };
    let mut out = Out::start(screen).map_err(WatchError::Thread)?;
    let ended = watch.follow(news, signals, &mut out).await;
    out.close().await;
    ended
}

struct Watch {
    servers: String,
    settings: Settings,
    ledger: Ledger,
    link: Link,
    begun: Instant,
    rates: Rates,
    /// Whether a screen is drawn again and again, instead of line after line.
    draws: bool,
    /// What was said last where nothing is redrawn.
    remarks: Vec<String>,
}

impl Watch {
    async fn follow(mut self, mut news: Receiver<News>, mut signals: Signals, out: &mut Out) -> Result<(), WatchError> {
        let mut tick = tokio::time::interval(self.settings.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // However much there is to read, it is shown.
                biased;
                _ = signals.received() => return Ok(()),
                error = out.failed() => return Err(error.into()),
                _ = tick.tick() => self.show(out)?,
                news = news.recv() => self.hear(news.ok_or(WatchError::Ended)?)?,
            }
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

    fn show(&mut self, out: &Out) -> Result<(), WatchError> {
        // While nothing can be heard, silence means nothing.
        if self.link.caught_up && self.link.trouble.is_none() {
            self.ledger.pass(Timestamp::now());
        }
        // Whoever reads slowly is shown less.
        let Some(room) = out.room() else { return Ok(()) };
        if self.link.caught_up {
            self.rates.note(self.begun.elapsed(), self.ledger.totals());
        }
        let rates = BothRates { interval: self.rates.interval(), minute: self.rates.minute() };
        let now = Snapshot::of(&self.ledger, &self.link, rates, (self.settings.since, Timestamp::now()));
        let shown = match self.settings {
            _ if self.draws => Shown::Screen(view::screen(&now, &self.servers)),
            Settings { json: true, .. } => Shown::Line(serde_json::to_string(&now)?),
            _ => Shown::Line(view::line(&now)),
        };
        // A screen has them on top.
        let remarks = if self.draws { Vec::new() } else { self.remarks(&now) };
        room.send(Page { remarks, shown });
        Ok(())
    }

    /// What has changed besides the numbers.
    fn remarks(&mut self, now: &Snapshot) -> Vec<String> {
        // Not how many: that changes all the time.
        let remarks = view::remarks(&Snapshot {
            totals: ledger::Totals { untracked: now.totals.untracked.min(1), ..now.totals },
            ..now.clone()
        });
        if remarks == self.remarks {
            return Vec::new();
        }
        let mut news: Vec<String> = remarks.iter().filter(|remark| !self.remarks.contains(remark)).cloned().collect();
        if remarks.is_empty() {
            news.push("all is well again".to_owned());
        }
        self.remarks = remarks;
        news
    }
}
