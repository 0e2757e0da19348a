//! The life of a service: listen, wait for what it needs, run, and come to an end in good order.

use std::{
    fmt::Debug,
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::Router;
use prometheus_client::registry::Registry;
use saga_core::{
    Participant,
    clock::SystemClock,
    graph::Declaration,
    runtime::{Handle, Options, Runtime},
    store::Store,
};
use saga_kafka::{KafkaConsumer, KafkaProducer};
use saga_store::{Db, Outbox, UrlError};
use tokio::net::TcpListener;
use tracing::{Instrument, Span};

use crate::{
    config::Config,
    error::ServiceError,
    http::{self, Database, Gate, Limits, Places, Server, Status},
    metrics::{self, HttpMetrics, Lag, Skew, Tables},
    service::{Deps, Parts, Service},
    startup,
    tasks::{Joining, Web, Worker},
    telemetry::Traces,
};

/// The runtime finishes its work in this time, and then has as long again for the broker's acknowledgements.
const DRAIN: Duration = Duration::from_secs(2);
const FLUSH_GRACE: Duration = Duration::from_millis(500);
/// For the last spans, if there is as much left of the time that a service has to end in.
const TRACE_GRACE: Duration = Duration::from_secs(2);
const END: Duration = Duration::from_secs(9);

impl<A: Clone + Debug + Send + Sync + 'static> Service<A> {
    /// Runs the service until `stop`, or until it cannot go on. Reads no environment and takes no signal, so that several
    /// services can run in one process. Ends within nine seconds of `stop` and its grace.
    ///
    /// # Errors
    /// When the service cannot work: see [`ServiceError`].
    pub async fn run_until(self, config: Config<A>, stop: impl Future<Output = ()>) -> Result<(), ServiceError> {
        self.bind(config).await?.run(stop).await
    }

    /// Puts the service together and takes its address. Needs neither the database nor the broker.
    ///
    /// # Errors
    /// When the address is taken, the participant cannot work, or the settings never can.
    pub async fn bind(self, mut config: Config<A>) -> Result<Bound<A>, ServiceError> {
        config.kafka = config.kafka.with_client_id(self.name);
        let listen = |reason| ServiceError::Listen { addr: config.http_addr.to_string(), reason };
        let listener = config.http_addr.bind().await.map_err(listen)?;
        let parts = Assembled::of(self, &config)?;
        Ok(Bound { config, listener, parts })
    }

    /// What the service says of itself. Nothing is connected to.
    ///
    /// # Errors
    /// When the service cannot be put together.
    pub fn declaration(self, mut config: Config<A>) -> Result<Declaration, ServiceError> {
        // Neither made nor opened: to be put together, a service needs a database to name.
        let nowhere = "sqlite::memory:".parse();
        config.database_url =
            nowhere.map_err(|error: UrlError| ServiceError::config("DATABASE_URL", error.to_string()))?;
        let no_runtime = |error| ServiceError::System("no async runtime", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
        let parts = runtime.block_on(async { Assembled::of(self, &config) })?;
        Ok(parts.participant.declaration())
    }
}

/// What a service consists of. Nothing of it has been reached yet.
struct Assembled {
    name: &'static str,
    handle: Handle<Db, KafkaProducer, SystemClock>,
    producer: KafkaProducer,
    participant: Participant<Db>,
    routes: Router,
    db: Db,
    others: Vec<Db>,
    traces: Traces,
}

impl Assembled {
    fn of<A>(service: Service<A>, config: &Config<A>) -> Result<Self, ServiceError> {
        let Service { name, migrations, build, .. } = service;
        let db = Db::open(config.database_url.clone(), &config.namespace.schema(name), migrations)?;
        let producer = KafkaProducer::new(&config.kafka)?;
        let traces = Traces::start(&config.trace, name)?;
        let (namespace, tracer) = (config.namespace.clone(), traces.tracer());
        let handle = Handle::in_namespace(namespace, name, db.clone(), producer.clone(), SystemClock, tracer);
        let deps = Deps {
            db: db.clone(),
            outbox: Outbox::new(db.clone(), handle.outbox()),
            tracer: traces.tracer(),
            database_url: config.database_url.clone(),
            namespace: config.namespace.clone(),
        };
        let Parts { participant, routes, prepare } = build(&config.args, &deps)?;
        let participant = participant.build().map_err(ServiceError::Declaration)?;
        if participant.name() != name {
            return Err(ServiceError::Name { service: name, participant: participant.name() });
        }
        Ok(Self { name, handle, producer, participant, routes, db, others: prepare, traces })
    }
}

/// A service that is put together and has its address, but answers nothing yet.
pub struct Bound<A> {
    config: Config<A>,
    listener: TcpListener,
    parts: Assembled,
}

impl<A: Clone + Debug + Send + Sync + 'static> Bound<A> {
    /// The address it listens on.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, ServiceError> {
        self.listener.local_addr().map_err(|error| ServiceError::System("the address is unknown", error))
    }

    /// See [`Service::run_until`].
    ///
    /// # Errors
    /// See [`Service::run_until`].
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServiceError> {
        // Several services may share a process and its log. Of the highest level, so that warnings carry it also when
        // nothing less is logged.
        let span = tracing::error_span!("saga", service = self.parts.name);
        self.live(stop, span.clone()).instrument(span).await
    }

    async fn live(self, stop: impl Future<Output = ()>, span: Span) -> Result<(), ServiceError> {
        self.config.log();
        tracing::info!(addr = %self.local_addr()?, "listening");
        let Self { config, listener, parts } = self;
        let Assembled { name, handle, producer, participant, routes, db, others, traces } = parts;
        let declaration = participant.declaration();
        let health = handle.health().clone();
        let mut registry = Registry::default();
        handle.metrics().register(&mut registry);
        if let Some(spans) = traces.counters() {
            metrics::register_spans(&mut registry, &spans);
        }
        let http_metrics = HttpMetrics::register(&mut registry, name);
        let lag = Lag::register(&mut registry);
        let (skew, clock) = (Skew::register(&mut registry), db.clone());
        let skew = tokio::spawn(skew.watch(async move || clock.time().await).instrument(span.clone()));
        let measured = db.clone();
        let tables = Tables::register(&mut registry, move || {
            let db = measured.clone();
            async move { db.summary().await }
        });
        let asked = db.clone();
        let database = Database::new(move || {
            let db = asked.clone();
            async move { db.ping().await }
        });
        let status = Status::new(health.clone(), registry, tables, database, &declaration);
        let places = Places::of_this_process();
        let gate = Gate::for_requests(&config.http, places.number());
        let server = Server { listener, places, limits: Limits::new(config.http.idle_timeout) };
        let app = http::app(routes, status.clone(), gate, http_metrics, traces.tracer());
        let web = Web::start(server, app, &span);

        let start = async {
            startup::databases(&health, std::iter::once(&db).chain(&others)).await?;
            startup::steps(&health, &db, &participant).await?;
            status.prepared();
            startup::topics(&health, &config.kafka, config.topics, (&config.namespace, &declaration)).await?;
            status.connected();
            let consumed = declaration.consumed_topics();
            let topics: Vec<String> = consumed.iter().map(|topic| config.namespace.of(topic).into_owned()).collect();
            let consumer = KafkaConsumer::subscribe(&config.kafka, &config.namespace.of(name), &topics)?;
            lag.attach(consumer.metrics());
            let consumer = Joining::new(consumer, status.clone());
            let options = Options { drain: DRAIN, ..Options::default() };
            Worker::start(name, move || Runtime::new(participant, handle, options), consumer, span)
        };
        let (worker, result) = until_over(start, stop).await;

        status.stopping();
        skew.abort();
        // Events are somebody else's at once; requests come here until everybody has heard of it.
        let grace = if result.is_ok() { config.shutdown_grace } else { Duration::ZERO };
        let requests = async {
            tokio::time::sleep(grace).await;
            let closing = Instant::now();
            web.stop().await;
            closing
        };
        let events = async {
            if let Some(worker) = worker {
                worker.stop().await;
            }
        };
        let (stopping, ()) = futures::join!(requests, events);
        if !producer.flush(FLUSH_GRACE).await {
            tracing::warn!(events = producer.in_flight(), "events are not acknowledged yet; they stay in the outbox");
        }
        // Last, since everything before it may tell of spans.
        traces.shutdown(END.saturating_sub(stopping.elapsed()).min(TRACE_GRACE)).await;
        tracing::info!("stopped");
        result
    }
}

/// Starts the runtime and lets it run until it is told to stop, or until something fails. What is still running is handed
/// back with the reason.
async fn until_over(
    start: impl Future<Output = Result<Worker, ServiceError>>,
    stop: impl Future<Output = ()>,
) -> (Option<Worker>, Result<(), ServiceError>) {
    let mut stop = std::pin::pin!(stop);
    let started = tokio::select! {
        started = start => started,
        () = &mut stop => return (None, Ok(())),
    };
    match started {
        Ok(mut worker) => tokio::select! {
            ended = worker.ended() => (None, ended),
            () = &mut stop => (Some(worker), Ok(())),
        },
        Err(error) => (None, Err(error)),
    }
}
