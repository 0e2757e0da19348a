//! Whether the database answers, asked on demand and at most once a second.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use saga_core::store::StoreError;
use tokio::{sync::Mutex, time::Instant};

/// Shorter than the second that a prober usually waits.
const PATIENCE: Duration = Duration::from_millis(900);
const FRESH: Duration = Duration::from_secs(1);

type Ask = dyn Fn() -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync;

/// Asks the database for a sign of life.
#[derive(Clone)]
pub(crate) struct DatabaseProbe {
    ask: Arc<Ask>,
    last: Arc<Mutex<Option<LastAnswer>>>,
}

/// The last answer and its time.
struct LastAnswer {
    at: Instant,
    answer: Result<(), String>,
}

impl DatabaseProbe {
    pub(crate) fn new<A>(ask: impl Fn() -> A + Send + Sync + 'static) -> Self
    where
        A: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        Self { ask: Arc::new(move || Box::pin(ask())), last: Arc::default() }
    }

    /// Whether the database answers; the reason if it does not.
    pub(super) async fn answers(&self) -> Result<(), String> {
        // Locked during the question, so that concurrent callers ask once.
        let mut last = self.last.lock().await;
        if let Some(LastAnswer { at, answer }) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = match tokio::time::timeout(PATIENCE, (self.ask)()).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        };
        *last = Some(LastAnswer { at: Instant::now(), answer: answer.clone() });
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_who_want_to_know_ask_once_a_second_and_nobody_waits_for_longer() {
        let asked = Arc::new(AtomicU32::new(0));
        let counts = asked.clone();
        let database = DatabaseProbe::new(move || {
            let turn = counts.fetch_add(1, Ordering::Relaxed);
            async move {
                match turn {
                    0 => Ok(()),
                    1 => std::future::pending().await,
                    _ => Err(StoreError::Unavailable("away".to_owned())),
                }
            }
        });
        let all = || futures::future::join_all((0..10).map(|_| database.answers()));
        assert_eq!(all().await, vec![Ok(()); 10]);
        tokio::time::advance(FRESH).await;
        let began = Instant::now();
        assert_eq!(all().await, vec![Err("no answer".to_owned()); 10]);
        assert!(began.elapsed() <= PATIENCE + Duration::from_millis(1));
        tokio::time::advance(FRESH).await;
        assert!(database.answers().await.unwrap_err().contains("away"));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
