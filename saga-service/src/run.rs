//! A service's lifecycle: listen, wait for what it needs, run, stop in good order.

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
    config::{Config, UNUSED_DATABASE},
    error::ServiceError,
    http::{self, ConnectionSlots, DatabaseProbe, Limits, RequestQueue, Server, Status},
    metrics::{self, ClockSkew, ConsumerCollector, HttpMetrics, Tables},
    service::{Deps, Parts, Service},
    startup,
    tasks::{Joining, Web, Worker},
    telemetry::Traces,
};

/// Time for the runtime to finish its work, and as much again for the broker's acknowledgements.
const DRAIN: Duration = Duration::from_secs(2);
const FLUSH_GRACE: Duration = Duration::from_millis(500);
/// Time for the last spans, within what is left of `END`.
const TRACE_GRACE: Duration = Duration::from_secs(2);
const END: Duration = Duration::from_secs(9);

impl<A: Clone + Debug + Send + Sync + 'static> Service<A> {
    /// Runs the service until `stop` or a failure. It reads no environment and takes no signal, so that several
    /// services can share a process. Ends within nine seconds of `stop` and its grace.
    ///
    /// # Errors
    /// When the service cannot work: see [`ServiceError`].
    pub async fn run_until(self, config: Config<A>, stop: impl Future<Output = ()>) -> Result<(), ServiceError> {
        self.bind(config).await?.run(stop).await
    }

    /// Assembles the service and binds its address. Needs neither the database nor the broker.
    ///
    /// # Errors
    /// When the address is taken, the participant cannot work, or the settings are wrong.
    pub async fn bind(self, mut config: Config<A>) -> Result<Bound<A>, ServiceError> {
        config.kafka = config.kafka.with_client_id(self.name);
        let listen = |reason| ServiceError::Listen { addr: config.http_addr.to_string(), reason };
        let listener = config.http_addr.bind().await.map_err(listen)?;
        let parts = Assembled::of(self, &config)?;
        Ok(Bound { config, listener, parts })
    }

    /// The participant's declaration, without connecting to anything.
    ///
    /// # Errors
    /// When the service cannot be assembled.
    pub fn declaration(self, mut config: Config<A>) -> Result<Declaration, ServiceError> {
        config.database_url = UNUSED_DATABASE
            .parse()
            .map_err(|error: UrlError| ServiceError::config("DATABASE_URL", error.to_string()))?;
        let no_runtime = |error| ServiceError::System("no async runtime", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
        let parts = runtime.block_on(async { Assembled::of(self, &config) })?;
        Ok(parts.participant.declaration())
    }
}

/// The parts of a service, none of them connected.
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

/// A service that is assembled and bound, and answers nothing yet.
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
        // Several services may share a process and its log. At the highest level, so that warnings carry it even if
        // nothing lower is logged.
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
        let consumer_metrics = ConsumerCollector::register(&mut registry);
        let (skew, clock) = (ClockSkew::register(&mut registry), db.clone());
        let skew = tokio::spawn(skew.watch(async move || clock.time().await).instrument(span.clone()));
        let measured = db.clone();
        let tables = Tables::register(&mut registry, move || {
            let db = measured.clone();
            async move { db.summary().await }
        });
        let asked = db.clone();
        let database = DatabaseProbe::new(move || {
            let db = asked.clone();
            async move { db.ping().await }
        });
        let status = Status::new(health.clone(), registry, tables, database, &declaration);
        let slots = ConnectionSlots::of_this_process();
        let queue = RequestQueue::for_requests(&config.http, slots.number());
        let server = Server { listener, slots, limits: Limits::new(config.http.idle_timeout) };
        let app = http::app(routes, status.clone(), queue, http_metrics, traces.tracer());
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
            consumer_metrics.attach(consumer.metrics());
            let consumer = Joining::new(consumer, status.clone());
            let options = Options { drain: DRAIN, ..Options::default() };
            Worker::start(name, move || Runtime::new(participant, handle, options), consumer, span)
        };
        let (worker, result) = until_over(start, stop).await;

        status.stopping();
        skew.abort();
        // Other processes take the events at once, but requests still arrive until every load balancer has noticed.
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
        // Last, because everything before it may record spans.
        traces.shutdown(END.saturating_sub(stopping.elapsed()).min(TRACE_GRACE)).await;
        tracing::info!("stopped");
        result
    }
}

/// Starts the runtime and runs it until `stop` or a failure. Returns what is still running, and the result.
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
