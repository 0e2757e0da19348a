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
    dir::DataDir,
    http::{Http, HttpError},
};
use crate::otel;
use saga_tools::flow::FlowTopics;

/// As `SAGA_TOPIC_PARTITIONS` has it by default.
const PARTITIONS: i32 = 6;
/// From a service's start until it says that it is ready.
const START: Duration = Duration::from_secs(30);
/// From then on until it has its partitions. Long enough for any broker; a service that is slower is merely slow.
const JOIN: Duration = Duration::from_secs(10);
/// What a service counts when it is given partitions.
const ASSIGNMENTS: &str = "saga_rebalances_total ";
/// The order service's own default.
pub(crate) const USUAL_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// One of the four services.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Member {
    Order,
    Inventory,
    Payment,
    Shipping,
}

impl Member {
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

/// Everything that runs.
pub(crate) struct Fleet {
    broker: EmbeddedBroker,
    topics: Vec<String>,
    dir: DataDir,
    usual_addresses: bool,
    trace: TraceConfig,
    running: BTreeMap<Member, Running>,
    addresses: BTreeMap<Member, SocketAddr>,
    failures: mpsc::UnboundedSender<DemoError>,
}

/// Says when a service ends by itself.
pub(crate) type Failures = mpsc::UnboundedReceiver<DemoError>;

impl Fleet {
    /// Starts the broker, with every topic of the flow. With `usual_addresses` the services listen where their binaries
    /// do, as far as that is free.
    pub(crate) fn new(flow: &Choreography, dir: DataDir, usual_addresses: bool) -> Result<(Self, Failures), DemoError> {
        let trace = if otel::is_wanted() { TraceConfig::of(std::env::vars_os())? } else { TraceConfig::default() };
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

    /// Where the service listens; the same after a restart.
    pub(crate) fn address(&self, member: Member) -> Result<SocketAddr, DemoError> {
        self.addresses.get(&member).copied().ok_or(DemoError::NotRunning(member.name()))
    }

    /// Starts a service and waits until it is ready and takes part. The deadline is the order service's.
    pub(crate) async fn start(&mut self, member: Member, deadline: Duration, http: &Http) -> Result<(), DemoError> {
        let failed = |cause| DemoError::Service(member.name(), cause);
        let (address, running) = match member {
            Member::Order => self.launch(member, order_service::service, OrderArgs { saga_deadline: deadline }).await,
            Member::Inventory => self.launch(member, inventory_service::service, NoArgs {}).await,
            Member::Payment => self.launch(member, payment_service::service, NoArgs {}).await,
            Member::Shipping => self.launch(member, shipping_service::service, NoArgs {}).await,
        }
        .map_err(failed)?;
        self.running.insert(member, running);
        self.addresses.insert(member, address);
        let ready = async {
            // Not yet listening is not yet ready.
            while !http.get(address, "/readyz").await.is_ok_and(|answer| answer.status.is_success()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(START, ready).await.is_err() {
            let why = http.get(address, "/readyz").await.map_or_else(|e: HttpError| e.to_string(), |a| a.body);
            return Err(DemoError::NotReady(member.name(), START, why));
        }
        let assigned = async {
            while !http.get(address, "/metrics").await.is_ok_and(|answer| takes_part(&answer.body)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Without partitions it is late, not wrong.
        let _ = tokio::time::timeout(JOIN, assigned).await;
        Ok(())
    }

    async fn launch<A: Clone + Debug + Send + Sync + 'static>(
        &self,
        member: Member,
        service: fn() -> Service<A>,
        args: A,
    ) -> Result<(SocketAddr, Running), ServiceError> {
        let name = member.name();
        let url = self.dir.url(name).map_err(|error| ServiceError::config("DATABASE_URL", error.to_string()))?;
        let config = |address: HttpAddr| {
            let mut config = Config::new(address, url.clone(), self.broker.config(), args.clone());
            config.trace = self.trace.clone();
            config
        };
        let any = || HttpAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)));
        let bound = match self.addresses.get(&member) {
            Some(again) => service().bind(config((*again).into())).await?,
            None if self.usual_addresses => {
                let usual = member.usual_address().parse().unwrap_or_else(|_| any());
                match service().bind(config(usual)).await {
                    Err(ServiceError::Listen { .. }) => service().bind(config(any())).await?,
                    bound => bound?,
                }
            }
            None => service().bind(config(any())).await?,
        };
        let address = bound.local_addr()?;
        let (stop, told) = oneshot::channel::<()>();
        let failures = self.failures.clone();
        let ended = tokio::spawn(async move {
            let told = async move {
                // Dropped is told too.
                let _ = told.await;
            };
            if let Err(error) = bound.run(told).await {
                // Nobody may be listening any more.
                let _ = failures.send(DemoError::Service(name, error));
            }
        });
        Ok((address, Running { stop, ended }))
    }

    /// Stops a service as SIGTERM stops its binary.
    pub(crate) async fn stop(&mut self, member: Member) {
        if let Some(Running { stop, ended }) = self.running.remove(&member) {
            // Ended already is stopped.
            let _ = stop.send(());
            let _ = ended.await;
        }
    }

    /// Stops all of them, at the same time.
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

/// Whether these metrics are of a service that has its share of the partitions.
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
