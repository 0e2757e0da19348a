//! Where log lines go: into a bounded buffer, which a thread of its own writes out. Logging never waits for whatever
//! reads.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

/// In bytes, and as much again may be with the operating system. More than ten thousand lines.
const ROOM: usize = 4 * 1024 * 1024;
/// What a burst made it grow to is given back down to this.
const KEPT: usize = 64 * 1024;

/// Of this process, which has one log however many services run in it.
static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Lines that were not written: there was no room for them, or no way.
pub(crate) fn dropped_lines() -> Counter {
    DROPPED.clone()
}

/// Takes whole lines and never blocks: a line for which there is no room, because the others are not read, is
/// dropped and counted. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct LogWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    buffer: Mutex<Buffer>,
    filled: Condvar,
    emptied: Condvar,
    room: usize,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Buffer {
    waiting: Vec<u8>,
    is_writing: bool,
}

impl LogWriter {
    /// Writes to standard error.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn stderr() -> io::Result<Self> {
        Self::start(io::stderr(), ROOM, dropped_lines())
    }

    fn start(out: impl Write + Send + 'static, room: usize, dropped: Counter) -> io::Result<Self> {
        let shared =
            Shared { buffer: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new(), room, dropped };
        let shared = Arc::new(shared);
        let writer = shared.clone();
        // Never joined: it may be in the middle of a write for ever.
        thread::Builder::new().name("log".into()).spawn(move || writer.write_out(out))?;
        Ok(Self(shared))
    }

    /// Waits until everything is written, but no longer than this; tells whether it is.
    pub fn flush(&self, within: Duration) -> bool {
        let is_busy = |buffer: &mut Buffer| buffer.is_writing || !buffer.waiting.is_empty();
        let waited = self.0.emptied.wait_timeout_while(self.0.lock(), within, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.lock();
        if buffer.waiting.len() + line.len() <= self.0.room {
            buffer.waiting.extend_from_slice(line);
            self.0.filled.notify_one();
        } else {
            self.0.dropped.inc();
        }
        Ok(line.len())
    }

    /// Logging must not wait: see [`LogWriter::flush`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// Held for as long as it takes to copy a line.
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_out(&self, mut out: impl Write) {
        let mut reported = self.dropped.get();
        let mut lines = Vec::new();
        loop {
            self.take(&mut lines);
            let written = out.write_all(&lines).and_then(|()| out.flush());
            if written.is_err() {
                // All of them, since it is not known how many.
                self.dropped.inc_by(lines.iter().map(|byte| u64::from(*byte == b'\n')).sum());
            }
            lines.clear();
            lines.shrink_to(KEPT);
            let dropped = self.dropped.get();
            // While nothing can be written, the loss cannot be reported either.
            if written.is_ok() && dropped > reported {
                reported = dropped;
                tracing::warn!(lines = dropped, "log lines were dropped, since their reader was too slow");
            }
        }
    }

    /// Waits for something to be written, and takes all of it.
    fn take(&self, lines: &mut Vec<u8>) {
        let mut buffer = self.lock();
        buffer.is_writing = false;
        if buffer.waiting.is_empty() {
            self.emptied.notify_all();
        }
        let is_empty = |buffer: &mut Buffer| buffer.waiting.is_empty();
        let mut buffer = self.filled.wait_while(buffer, is_empty).unwrap_or_else(PoisonError::into_inner);
        mem::swap(lines, &mut buffer.waiting);
        buffer.is_writing = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// Each write waits until it is received.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer(room: usize) -> (LogWriter, Receiver<Vec<u8>>, Counter) {
        let (sender, reader) = sync_channel(0);
        let dropped = Counter::default();
        (LogWriter::start(Slow(sender), room, dropped.clone()).unwrap(), reader, dropped)
    }

    fn log(writer: &LogWriter, line: &str) {
        writer.clone().write_all(line.as_bytes()).unwrap();
    }

    /// Until the thread has taken what was logged.
    fn wait_until_it_writes(writer: &LogWriter) {
        while !writer.0.lock().is_writing {
            thread::yield_now();
        }
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted_and_hold_nobody_up() {
        let (writer, reader, dropped) = writer(8);
        log(&writer, "one\n");
        wait_until_it_writes(&writer);
        for line in ["two\n", "three\n", "four\n", "5\n"] {
            log(&writer, line);
        }
        assert_eq!(dropped.get(), 2, "there is room for `two` and `5`, and for no part of a line");
        assert!(!writer.flush(Duration::from_millis(1)), "there is no reader");
        assert_eq!(reader.recv_timeout(LONG).unwrap(), b"one\n");
        assert_eq!(reader.recv_timeout(LONG).unwrap(), b"two\n5\n");
        assert!(writer.flush(LONG));
    }

    #[test]
    fn a_flush_waits_for_what_is_being_written() {
        let (writer, reader, _) = writer(100);
        log(&writer, "one\n");
        wait_until_it_writes(&writer);
        let waiting = writer.clone();
        let flushed = thread::spawn(move || waiting.flush(LONG));
        assert_eq!(reader.recv_timeout(LONG).unwrap(), b"one\n");
        assert!(flushed.join().unwrap());
    }

    #[test]
    fn lines_for_a_closed_output_are_counted_and_forgotten() {
        let (writer, reader, dropped) = writer(100);
        drop(reader);
        for line in ["one\n", "two\n"] {
            log(&writer, line);
            assert!(writer.flush(LONG));
        }
        assert_eq!(dropped.get(), 2);
    }
}
