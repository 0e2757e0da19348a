//! A broker that does with each record what a test says.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use futures::future::{BoxFuture, FutureExt, ready};
use saga_core::{
    envelope::header,
    record::OutRecord,
    store::OutboxRow,
    transport::{Producer, PublishError},
};
use tokio::sync::oneshot;

/// What the broker makes of a record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Answer {
    Written,
    /// It is neither written nor answered before [`Kafka::release`].
    Later,
    Full,
    /// Not written, and not acknowledged.
    Lost,
    /// Written, and not acknowledged.
    Forgotten,
    /// Too large, for one.
    Refused,
}

pub(crate) type Judge = Box<dyn FnMut(&OutRecord) -> Answer + Send>;

/// A broker that does with each record what the test says.
#[derive(Clone)]
pub(crate) struct Kafka(Arc<Mutex<Inner>>);

pub(crate) struct Inner {
    judge: Judge,
    log: Vec<OutRecord>,
    later: VecDeque<(OutRecord, oneshot::Sender<()>)>,
}

impl Kafka {
    pub(crate) fn that(judge: impl FnMut(&OutRecord) -> Answer + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Inner { judge: Box::new(judge), log: Vec::new(), later: VecDeque::new() })))
    }

    /// From now on.
    pub(crate) fn now(&self, judge: impl FnMut(&OutRecord) -> Answer + Send + 'static) {
        self.0.lock().unwrap().judge = Box::new(judge);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().unwrap().later.len()
    }

    /// Writes and acknowledges what it was to do later.
    pub(crate) fn release(&self) {
        let mut inner = self.0.lock().unwrap();
        while let Some((record, acknowledge)) = inner.later.pop_front() {
            inner.log.push(record);
            let _ = acknowledge.send(());
        }
    }

    pub(crate) fn has(&self, row: &OutboxRow) -> bool {
        self.0.lock().unwrap().log.contains(&row.record)
    }

    /// The events of each saga, in the order in which a consumer that knows copies by their ids sees them.
    pub(crate) fn seen(&self) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
        let mut seen: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for record in &self.0.lock().unwrap().log {
            let id = record.headers.iter().find(|h| h.is(header::ID)).unwrap().value.clone().unwrap();
            let events = seen.entry(record.key.clone().unwrap()).or_default();
            if !events.contains(&id) {
                events.push(id);
            }
        }
        seen
    }
}

impl Producer for Kafka {
    fn publish(&self, records: Vec<OutRecord>) -> BoxFuture<'static, Vec<Result<(), PublishError>>> {
        let mut inner = self.0.lock().unwrap();
        let mut answers: Vec<BoxFuture<'static, Result<(), PublishError>>> = Vec::new();
        for record in records {
            let answer = (inner.judge)(&record);
            let lost = Err(PublishError::Unacknowledged("a test".to_owned()));
            answers.push(match answer {
                // By a channel, as a producer with a thread of its own answers.
                Answer::Full => {
                    let (decide, decided) = oneshot::channel();
                    let _ = decide.send(Err(PublishError::Full));
                    decided.map(Result::unwrap).boxed()
                }
                Answer::Lost => ready(lost).boxed(),
                Answer::Refused => ready(Err(PublishError::Refused("too large".to_owned()))).boxed(),
                Answer::Written | Answer::Forgotten => {
                    inner.log.push(record);
                    ready(if answer == Answer::Written { Ok(()) } else { lost }).boxed()
                }
                Answer::Later => {
                    let (acknowledge, acknowledged) = oneshot::channel();
                    inner.later.push_back((record, acknowledge));
                    acknowledged.map(|it| it.map_err(|_| PublishError::Unacknowledged("gone".to_owned()))).boxed()
                }
            });
        }
        futures::future::join_all(answers).boxed()
    }
}
