//! The two modes in which every test runs, and the worlds that tests share.

use std::{
    future::Future,
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError},
};

use anyhow::Result;
use tokio::{runtime::Runtime, sync::OnceCell};

use super::{Jaeger, World};
use crate::servers::Server;

/// What the services run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The embedded broker, and SQLite.
    Embedded,
    /// Kafka and PostgreSQL.
    Live,
}

impl Mode {
    /// Whether it can be had. It is said why not, once per server.
    ///
    /// # Panics
    /// When it cannot, and `SAGA_REQUIRE_LIVE=1`.
    pub fn is_available(self) -> bool {
        self == Self::Embedded || [Server::Kafka, Server::Postgres].iter().all(|server| server.source().is_some())
    }
}

/// Whether variables that a live test needs have values. It is said which has not.
///
/// # Panics
/// When one has not, and `SAGA_REQUIRE_LIVE=1`.
pub(crate) fn are_set(names: &[&str]) -> bool {
    let Some(missing) = names.iter().find(|name| std::env::var(name).unwrap_or_default().is_empty()) else {
        return true;
    };
    let required = std::env::var("SAGA_REQUIRE_LIVE").is_ok_and(|value| value == "1");
    assert!(!required, "SAGA_REQUIRE_LIVE=1 needs {missing}: scripts/test sets it");
    eprintln!("skipped: {missing} is not set (scripts/test sets it)");
    false
}

/// It outlives every test: worlds are shared.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("no async runtime: {error}"))
});

fn block_on<T>(future: impl Future<Output = Result<T>>) -> T {
    // Its causes in one line, and no backtrace: where it was seen says nothing about the services.
    RUNTIME.block_on(future).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Runs a test, and shows what the services said when it fails.
fn run(world: &World, test: impl AsyncFn(&World) -> Result<()>) {
    struct ShowLogs<'a>(&'a World);
    impl Drop for ShowLogs<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.show_logs();
            }
        }
    }
    let logs = ShowLogs(world);
    block_on(test(world));
    drop(logs);
}

/// Runs a test in the world that all tests of this process share. Every saga has an id of its own, so they do not meet.
///
/// # Panics
/// When the test fails.
pub fn shared_world(mode: Mode, test: impl AsyncFn(&World) -> Result<()>) {
    static EMBEDDED: OnceCell<Option<World>> = OnceCell::const_new();
    static LIVE: OnceCell<Option<World>> = OnceCell::const_new();
    if !mode.is_available() {
        return;
    }
    let cell = if mode == Mode::Live { &LIVE } else { &EMBEDDED };
    run_shared(cell, World::start(mode), test);
}

fn run_shared(
    cell: &OnceCell<Option<World>>,
    start: impl Future<Output = Result<World>>,
    test: impl AsyncFn(&World) -> Result<()>,
) {
    let start = async || match start.await {
        Ok(world) => Some(world),
        Err(error) => {
            eprintln!("the world does not start: {error:#}");
            None
        }
    };
    let world = RUNTIME.block_on(cell.get_or_init(start));
    let Some(world) = world else { panic!("the shared world did not start; the first test says why") };
    run(world, test);
}

/// Runs a test in a world that all traced tests of this process share, whose services tell the Jaeger of the environment
/// of their spans. Without one the test is skipped.
///
/// # Panics
/// When the test fails.
pub fn traced_world(mode: Mode, test: impl AsyncFn(&World) -> Result<()>) {
    static EMBEDDED: OnceCell<Option<World>> = OnceCell::const_new();
    static LIVE: OnceCell<Option<World>> = OnceCell::const_new();
    let jaeger = Jaeger::of_environment().unwrap_or_else(|error| panic!("{error:#}"));
    let Some(jaeger) = jaeger.filter(|_| mode.is_available()) else { return };
    let cell = if mode == Mode::Live { &LIVE } else { &EMBEDDED };
    let variables = [
        ("OTEL_SDK_DISABLED", "false"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.otlp()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ];
    run_shared(cell, World::start_with(mode, &variables), test);
}

/// Runs a test in a world that it has for itself, because it stops or kills services. The next test gets the world when
/// it was left in order, and a new one otherwise.
///
/// # Panics
/// When the test fails.
pub fn own_world(mode: Mode, test: impl AsyncFn(&World) -> Result<()>) {
    static EMBEDDED: OnceLock<Mutex<Option<Arc<World>>>> = OnceLock::new();
    static LIVE: OnceLock<Mutex<Option<Arc<World>>>> = OnceLock::new();
    if !mode.is_available() {
        return;
    }
    let cell = if mode == Mode::Live { &LIVE } else { &EMBEDDED };
    let mut turn = cell.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    // Taken out: a test that fails leaves nothing behind.
    let world = turn.take().unwrap_or_else(|| Arc::new(block_on(World::start(mode))));
    run(&world, test);
    *turn = Some(world);
}

/// Makes two tests of each of these functions, one per mode.
///
/// They are named `function::embedded` and `function::live`, so that the two run side by side.
#[macro_export]
macro_rules! in_both_modes {
    ($runner:ident: $($test:ident),* $(,)?) => {$(
        mod $test {
            #[test]
            fn embedded() {
                $crate::end_to_end::$runner($crate::end_to_end::Mode::Embedded, super::$test);
            }

            #[test]
            fn live() {
                $crate::end_to_end::$runner($crate::end_to_end::Mode::Live, super::$test);
            }
        }
    )*};
}
