//! Writes to standard output on its own thread, so that a slow reader blocks nothing else.

use std::{
    io::{self, ErrorKind},
    thread,
    time::Duration,
};

use tokio::sync::{
    mpsc::{Permit, Receiver, Sender, channel},
    oneshot,
};

use super::terminal::Terminal;
use crate::{
    output::{OutputError, print, say},
    text::Line,
};

/// How long to wait at the end for the current write and the cursor's return.
const PATIENCE: Duration = Duration::from_secs(1);

/// One update of the output.
pub(super) struct Page {
    /// Messages for standard error.
    pub(super) remarks: Vec<String>,
    pub(super) shown: PageContent,
}

pub(super) enum PageContent {
    /// Redrawn in place.
    Screen(Vec<Line>),
    Line(String),
}

/// Sends pages to the thread.
pub(super) struct OutputThread {
    pages: Sender<Page>,
    /// The thread's result; none once it was taken.
    written: Option<oneshot::Receiver<Result<(), OutputError>>>,
}

impl OutputThread {
    pub(super) fn start(screen: Option<Terminal>) -> io::Result<Self> {
        // One page is being written and one waits.
        let (pages, receiver) = channel(1);
        let (done, written) = oneshot::channel();
        // Not joined: a write may block forever.
        thread::Builder::new().name("out".into()).spawn(move || {
            // The receiver may be gone at exit.
            let _ = done.send(write(receiver, screen));
        })?;
        Ok(Self { pages, written: Some(written) })
    }

    /// Reserves room for a page; none while the reader is slow.
    pub(super) fn reserve(&self) -> Option<Permit<'_, Page>> {
        self.pages.try_reserve().ok()
    }

    /// Waits until writing fails.
    pub(super) async fn failed(&mut self) -> OutputError {
        let ended = match &mut self.written {
            Some(written) => written.await,
            None => std::future::pending().await,
        };
        self.written = None;
        match ended {
            Ok(Err(error)) => error,
            // The thread does not end without an error while pages can be sent.
            Ok(Ok(())) | Err(_) => io::Error::from(ErrorKind::Other).into(),
        }
    }

    /// Waits briefly for the page that is being written.
    pub(super) async fn close(self) {
        let Self { pages, written } = self;
        drop(pages);
        if let Some(written) = written {
            // A page that cannot be written within that time is dropped.
            let _ = tokio::time::timeout(PATIENCE, written).await;
        }
    }
}

fn write(mut pages: Receiver<Page>, mut screen: Option<Terminal>) -> Result<(), OutputError> {
    while let Some(Page { remarks, shown }) = pages.blocking_recv() {
        for remark in remarks {
            say(&remark);
        }
        match (shown, &mut screen) {
            (PageContent::Screen(lines), Some(screen)) => screen.draw(&lines)?,
            // Without a terminal nothing is redrawn.
            (PageContent::Screen(_), None) => {}
            (PageContent::Line(line), _) => print(&(line + "\n"))?,
        }
    }
    Ok(())
}
