//! Spans that a user's own code opens, with `tracing`, while it handles an event or calls an outside system.

use std::{fmt, pin::pin, sync::Arc, task::Poll};

use futures::future::poll_fn;
use tracing::Instrument;

use super::TraceContext;

/// The user's own spans of one run of a handler or one call of an effect, collected until the transaction has
/// committed. Dropped without [`UserSpans::keep`], they are discarded: the transaction was rolled back.
pub trait UserSpans: fmt::Debug + Send + Sync {
    /// Collects the spans that are opened while `poll` runs. Must call it once.
    fn poll(&self, poll: &mut dyn FnMut());

    /// Records the collected spans, and those that end later. Spans about several sagas have their own trace; the
    /// result is then the context of the span around them, if there are any.
    fn keep(&self) -> Option<TraceContext>;
}

/// The context of a user's code: the span of its log lines, and the collector of its spans.
pub(crate) struct Around {
    pub(crate) lines: tracing::Span,
    pub(crate) spans: Option<Arc<dyn UserSpans>>,
}

impl Around {
    pub(crate) async fn run<F: Future>(self, code: F) -> F::Output {
        let mut code = pin!(code.instrument(self.lines));
        let Some(spans) = self.spans else { return code.await };
        poll_fn(|cx| {
            let mut polled = Poll::Pending;
            spans.poll(&mut || polled = code.as_mut().poll(cx));
            polled
        })
        .await
    }
}
