//! The embedded broker and the four services, run as their binaries run them.

use std::{collections::BTreeMap, fmt::Debug, net::SocketAddr, time::Duration};

use order_service::OrderArgs;
use saga_core::{Namespace, graph::Choreography};
use saga_kafka::{EmbeddedBroker, KafkaConfig};
use saga_service::{
    Config, NoArgs, Service, ServiceError,
    config::{HttpAddr, TraceConfig},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    DemoError,
    data_dir::DataDir,
    http_client::{HttpClient, HttpError},
};
use crate::trace_export;
use saga_tools::flow::FlowTopics;

/// The default of `SAGA_TOPIC_PARTITIONS`.
const PARTITIONS: i32 = 6;
/// Most time from a service's start until it is ready.
const START: Duration = Duration::from_secs(30);
/// Most time from readiness until it has partitions. A slower service only joins later.
const JOIN: Duration = Duration::from_secs(10);
/// Incremented when a service is assigned partitions.
const ASSIGNMENTS: &str = "saga_rebalances_total ";
/// The order service's default deadline.
pub(crate) const USUAL_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// One of the four services.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum ServiceKind {
    Order,
    Inventory,
    Payment,
    Shipping,
}

impl ServiceKind {
    pub(crate) const ALL: [Self; 4] = [Self::Order, Self::Inventory, Self::Payment, Self::Shipping];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Order => order_service::service().name(),
            Self::Inventory => inventory_service::service().name(),
            Self::Payment => payment_service::service().name(),
            Self::Shipping => shipping_service::service().name(),
        }
    }

    fn usual_address(self) -> &'static str {
        match self {
            Self::Order => order_service::service().default_address(),
            Self::Inventory => inventory_service::service().default_address(),
            Self::Payment => payment_service::service().default_address(),
            Self::Shipping => shipping_service::service().default_address(),
        }
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

/// The running broker and services.
pub(crate) struct Services {
    broker: EmbeddedBroker,
    topics: Vec<String>,
    dir: DataDir,
    usual_addresses: bool,
    trace: TraceConfig,
    running: BTreeMap<ServiceKind, Running>,
    addresses: BTreeMap<ServiceKind, SocketAddr>,
    failures: mpsc::UnboundedSender<DemoError>,
}

/// Receives the errors of services that end unexpectedly.
pub(crate) type Failures = mpsc::UnboundedReceiver<DemoError>;

impl Services {
    /// Starts the broker with the flow's topics. With `usual_addresses` the services listen at their default addresses if
    /// those are free.
    pub(crate) fn new(flow: &Choreography, dir: DataDir, usual_addresses: bool) -> Result<(Self, Failures), DemoError> {
        let trace =
            if trace_export::is_configured() { TraceConfig::of(std::env::vars_os())? } else { TraceConfig::default() };
        let topics = FlowTopics::of(flow, &Namespace::default()).all();
        let broker = EmbeddedBroker::start(&topics, PARTITIONS)?;
        let (failures, receiver) = mpsc::unbounded_channel();
        let (running, addresses) = (BTreeMap::new(), BTreeMap::new());
        Ok((Self { broker, topics, dir, usual_addresses, trace, running, addresses, failures }, receiver))
    }

    pub(crate) fn topics(&self) -> &[String] {
        &self.topics
    }

    pub(crate) fn kafka(&self) -> KafkaConfig {
        self.broker.config()
    }

    pub(crate) fn bootstrap_servers(&self) -> &str {
        self.broker.bootstrap_servers()
    }

    pub(crate) fn dir(&mut self) -> &mut DataDir {
        &mut self.dir
    }

    /// The service's address, which stays the same after a restart.
    pub(crate) fn address(&self, service: ServiceKind) -> Result<SocketAddr, DemoError> {
        self.addresses.get(&service).copied().ok_or(DemoError::NotRunning(service.name()))
    }

    /// Starts a service and waits until it is ready and has partitions. The deadline applies to the order service.
    pub(crate) async fn start(
        &mut self,
        service: ServiceKind,
        deadline: Duration,
        http: &HttpClient,
    ) -> Result<(), DemoError> {
        let failed = |cause| DemoError::Service(service.name(), cause);
        let (address, running) = match service {
            ServiceKind::Order => {
                self.launch(service, order_service::service, OrderArgs { saga_deadline: deadline }).await
            }
            ServiceKind::Inventory => self.launch(service, inventory_service::service, NoArgs {}).await,
            ServiceKind::Payment => self.launch(service, payment_service::service, NoArgs {}).await,
            ServiceKind::Shipping => self.launch(service, shipping_service::service, NoArgs {}).await,
        }
        .map_err(failed)?;
        self.running.insert(service, running);
        self.addresses.insert(service, address);
        let ready = async {
            // A refused connection also means not ready.
            while !http.get(address, "/readyz").await.is_ok_and(|answer| answer.status.is_success()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(START, ready).await.is_err() {
            let why = http.get(address, "/readyz").await.map_or_else(|e: HttpError| e.to_string(), |a| a.body);
            return Err(DemoError::NotReady(service.name(), START, why));
        }
        let assigned = async {
            while !http.get(address, "/metrics").await.is_ok_and(|answer| takes_part(&answer.body)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Without partitions the service is merely late.
        let _ = tokio::time::timeout(JOIN, assigned).await;
        Ok(())
    }

    async fn launch<A: Clone + Debug + Send + Sync + 'static>(
        &self,
        service: ServiceKind,
        build: fn() -> Service<A>,
        args: A,
    ) -> Result<(SocketAddr, Running), ServiceError> {
        let name = service.name();
        let url = self.dir.url(name).map_err(|error| ServiceError::config("DATABASE_URL", error.to_string()))?;
        let config = |address: HttpAddr| {
            let mut config = Config::new(address, url.clone(), self.broker.config(), args.clone());
            config.trace = self.trace.clone();
            config
        };
        let any = || HttpAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)));
        let bound = match self.addresses.get(&service) {
            Some(again) => build().bind(config((*again).into())).await?,
            None if self.usual_addresses => {
                let usual = service.usual_address().parse().unwrap_or_else(|_| any());
                match build().bind(config(usual)).await {
                    Err(ServiceError::Listen { .. }) => build().bind(config(any())).await?,
                    bound => bound?,
                }
            }
            None => build().bind(config(any())).await?,
        };
        let address = bound.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let failures = self.failures.clone();
        let ended = tokio::spawn(async move {
            let signal = async move {
                // A dropped sender also means to stop.
                let _ = stopped.await;
            };
            if let Err(error) = bound.run(signal).await {
                // The receiver may be gone at exit.
                let _ = failures.send(DemoError::Service(name, error));
            }
        });
        Ok((address, Running { stop, ended }))
    }

    /// Stops a service gracefully, as SIGTERM does.
    pub(crate) async fn stop(&mut self, service: ServiceKind) {
        if let Some(Running { stop, ended }) = self.running.remove(&service) {
            // The service may have ended already.
            let _ = stop.send(());
            let _ = ended.await;
        }
    }

    /// Stops all services concurrently.
    pub(crate) async fn stop_all(&mut self) {
        let stopping: Vec<JoinHandle<()>> = std::mem::take(&mut self.running)
            .into_values()
            .map(|Running { stop, ended }| {
                let _ = stop.send(());
                ended
            })
            .collect();
        for ended in stopping {
            let _ = ended.await;
        }
    }
}

/// Whether the metrics show that the service has been assigned partitions.
fn takes_part(metrics: &str) -> bool {
    let assignments = metrics.lines().find_map(|line| line.strip_prefix(ASSIGNMENTS));
    assignments.is_some_and(|count| count.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_takes_part_once_it_was_given_partitions() {
        assert!(!takes_part(""));
        assert!(!takes_part("# TYPE saga_rebalances counter\nsaga_rebalances_total 0\n"));
        assert!(takes_part("# TYPE saga_rebalances counter\nsaga_rebalances_total 1\n"));
    }
}
