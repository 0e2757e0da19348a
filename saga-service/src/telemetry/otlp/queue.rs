//! Finished spans that wait for their batch, counted.

use std::sync::Arc;

use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor};

use super::tally::Tally;

/// Finished spans that wait for their batch.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) processor: BatchSpanProcessor,
    pub(super) tally: Arc<Tally>,
}

impl Queue {
    pub(crate) fn push(&self, span: SpanData) {
        if self.tally.enter() {
            self.processor.on_end(span);
        }
    }

    /// Counts a span that was dropped before it was queued.
    pub(crate) fn lost(&self) {
        self.tally.lost(1);
    }
}
