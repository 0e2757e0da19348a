//! The sweeper: publishes the outbox rows that a crash, a failure or a full producer left in the table.

use std::{pin::pin, time::Duration};

use futures::future::select;
use uuid::Uuid;

use crate::runtime::publish::{
    backlog::Sweep,
    outbox::{FORGET_EVERY, Outbox, SWEEP_EVERY},
};
use crate::{
    clock::{Clock, after},
    store::{OutboxRow, Store, StoreError, Unsent},
    transport::Producer,
};

/// Rows younger than this are being published by the process that wrote them.
const GRACE: Duration = Duration::from_secs(2);
/// How many positions a sweep reads at once.
const PAGE: usize = 2_000;
/// How many rows a sweep reads at once.
const CHUNK: usize = 250;
/// The pause between two sweeps. It doubles while sweeps hand over nothing.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl<S: Store, P: Producer, C: Clock> Outbox<S, P, C> {
    /// Sweeps the table when something was left there, and once per interval.
    pub(crate) async fn sweeps(&self) {
        let mut sweep_at = self.0.clock.now();
        let mut pause = PAUSE;
        loop {
            // The clock may have been set back.
            let now = self.0.clock.now();
            sweep_at = sweep_at.min(after(now, SWEEP_EVERY));
            let wait = Duration::try_from(sweep_at.duration_since(now)).unwrap_or_default();
            if !wait.is_zero() && !self.state().something_is_left() {
                select(pin!(self.0.left.notified()), pin!(self.0.clock.sleep(wait))).await;
                continue;
            }
            self.wait_for_room().await;
            sweep_at = after(self.0.clock.now(), SWEEP_EVERY);
            let mut sweep = self.state().begin_sweep(self.0.clock.now());
            let result = self.sweep(&mut sweep).await;
            self.state().end_sweep(&sweep, result.is_ok());
            let trouble = result.as_ref().err().map(StoreError::to_string).or_else(|| self.state().trouble());
            pause = if sweep.handed > 0 && trouble.is_none() { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            let refusal = self.state().refusal(self.0.clock.now());
            self.0.health.set_waiting("outbox", trouble.or(refusal));
            // A long table of waiting rows is read at most half of the time.
            let reading = if sweep.waiting.is_empty() { Duration::ZERO } else { sweep.reading.min(10 * LONGEST_PAUSE) };
            self.0.clock.sleep(if result.is_err() { LONGEST_PAUSE } else { pause.max(reading) }).await;
        }
    }

    async fn wait_for_room(&self) {
        while self.room(&self.state()) == 0 {
            // Dead letters take room too, and are not notified of.
            let again = self.0.clock.sleep(FORGET_EVERY);
            select(pin!(self.0.returned.notified()), pin!(again)).await;
        }
    }

    /// Hands over the rows that the producer does not have, in the order of the table, and waits for room where there is none.
    async fn sweep(&self, sweep: &mut Sweep) -> Result<(), StoreError> {
        let mut behind = 0;
        loop {
            let began = self.0.clock.now();
            let page = self.0.store.unsent(behind, GRACE, PAGE).await?;
            sweep.read_since(began, self.0.clock.now());
            let mut rest: &[Unsent] = &page;
            while !rest.is_empty() {
                self.wait_for_room().await;
                let (chosen, examined) = {
                    let state = self.state();
                    state.choose(rest, self.room(&state).min(CHUNK), sweep)
                };
                rest = &rest[examined..];
                self.hand_over_all(&chosen, sweep).await?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE => behind = last.seq,
                _ => return Ok(()),
            }
        }
    }

    fn hand_over_rows(&self, rows: Vec<OutboxRow>, sweep: &mut Sweep) {
        let mut state = self.state();
        for row in rows {
            let saga_id = row.saga_id;
            // Checked again: something may have been committed meanwhile.
            if state.is_free(saga_id) && self.hand_over(&mut state, row) {
                sweep.handed += 1;
            } else {
                sweep.waiting.add(saga_id);
            }
        }
    }

    async fn hand_over_all(&self, chosen: &[Uuid], sweep: &mut Sweep) -> Result<(), StoreError> {
        if chosen.is_empty() {
            return Ok(());
        }
        let (began, handed) = (self.0.clock.now(), sweep.handed);
        let rows = self.0.store.outbox(chosen).await?;
        sweep.read_since(began, self.0.clock.now());
        tracing::debug!(rows = rows.len(), "publishing events that were left in the outbox");
        self.hand_over_rows(rows, sweep);
        if sweep.handed == handed {
            // The producer takes none of them, as with the broker away. The rows behind are tried too, at a slower pace.
            let took = Duration::try_from(self.0.clock.now().duration_since(began)).unwrap_or_default();
            self.0.clock.sleep((9 * took).min(LONGEST_PAUSE)).await;
        }
        Ok(())
    }
}
