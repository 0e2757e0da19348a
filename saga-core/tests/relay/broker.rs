//! A scripted broker: the test decides what happens to each record.

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

/// What the broker does with a record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Reaction {
    Written,
    /// Neither written nor acknowledged before [`ScriptedBroker::release`].
    Later,
    Full,
    /// Not written, and not acknowledged.
    Lost,
    /// Written, and not acknowledged.
    Forgotten,
    /// Too large, for example.
    Refused,
}

pub(crate) type Script = Box<dyn FnMut(&OutRecord) -> Reaction + Send>;

/// A broker that does with each record what the test decides.
#[derive(Clone)]
pub(crate) struct ScriptedBroker(Arc<Mutex<Inner>>);

pub(crate) struct Inner {
    script: Script,
    log: Vec<OutRecord>,
    later: VecDeque<(OutRecord, oneshot::Sender<()>)>,
}

impl ScriptedBroker {
    pub(crate) fn that(script: impl FnMut(&OutRecord) -> Reaction + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Inner { script: Box::new(script), log: Vec::new(), later: VecDeque::new() })))
    }

    /// Replaces the decision for all later records.
    pub(crate) fn now(&self, script: impl FnMut(&OutRecord) -> Reaction + Send + 'static) {
        self.0.lock().unwrap().script = Box::new(script);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().unwrap().later.len()
    }

    /// Writes and acknowledges the records that were held back.
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

    /// The events of each saga, in the order in which a consumer observes them that drops copies by their ids.
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

impl Producer for ScriptedBroker {
    fn publish(&self, records: Vec<OutRecord>) -> BoxFuture<'static, Vec<Result<(), PublishError>>> {
        let mut inner = self.0.lock().unwrap();
        let mut results: Vec<BoxFuture<'static, Result<(), PublishError>>> = Vec::new();
        for record in records {
            let reaction = (inner.script)(&record);
            let lost = Err(PublishError::Unacknowledged("a test".to_owned()));
            results.push(match reaction {
                // Through a channel, as a producer with its own thread reports.
                Reaction::Full => {
                    let (decide, decided) = oneshot::channel();
                    let _ = decide.send(Err(PublishError::Full));
                    decided.map(Result::unwrap).boxed()
                }
                Reaction::Lost => ready(lost).boxed(),
                Reaction::Refused => ready(Err(PublishError::Refused("too large".to_owned()))).boxed(),
                Reaction::Written | Reaction::Forgotten => {
                    inner.log.push(record);
                    ready(if reaction == Reaction::Written { Ok(()) } else { lost }).boxed()
                }
                Reaction::Later => {
                    let (acknowledge, acknowledged) = oneshot::channel();
                    inner.later.push_back((record, acknowledge));
                    acknowledged.map(|it| it.map_err(|_| PublishError::Unacknowledged("gone".to_owned()))).boxed()
                }
            });
        }
        futures::future::join_all(results).boxed()
    }
}
