//! Flags and variables: one list for `--help` and for the checks.

use std::{ffi::OsString, fmt::Display, path::Path, str::FromStr, time::Duration};

use clap::{ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};
use saga_core::Namespace;
use saga_kafka::{KafkaConfig, bootstrap_servers};
use saga_store::DatabaseUrl;

use super::{
    Config, HttpAddr, HttpConfig, TopicConfig, TraceConfig, duration,
    fault::{ConfigError, Stop},
    kafka, trace,
};
use crate::{
    service::Service,
    telemetry::{Filter, LogConfig, LogFormat},
};

// Settings as written. An empty variable counts as unset. (A doc comment would become the help's title.)
#[derive(Args)]
struct Settings {
    /// The Kafka brokers to ask first
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", hide_env_values = true, value_name = "HOST:PORT,..")]
    #[arg(default_value = "localhost:9092", value_parser = or("localhost:9092", bootstrap_servers))]
    kafka_bootstrap_servers: String,
    /// A librdkafka property, as often as needed; KAFKA_CFG_<PROPERTY> does the same (KAFKA_CFG_SECURITY_PROTOCOL is
    /// security.protocol), and KAFKA_CFG_<PROPERTY>_FILE names a file with the value
    #[arg(long, value_name = "PROPERTY=VALUE")]
    kafka_cfg: Vec<String>,
    /// sqlite://path, which is created, or postgres://user:password@host:port/database, where the service keeps its
    /// tables in a schema named after itself
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// A file that holds the database URL
    #[arg(long, env = "DATABASE_URL_FILE", hide_env_values = true, value_name = "PATH")]
    database_url_file: Option<String>,
    /// Where to listen for HTTP
    #[arg(long, env = "HTTP_ADDR", hide_env_values = true, value_name = "ADDR:PORT")]
    http_addr: String,
    /// How long an HTTP connection is kept on which nothing is asked; longer than a load balancer in front keeps it
    #[arg(long, env = "HTTP_IDLE_TIMEOUT", hide_env_values = true, value_name = "DURATION")]
    #[arg(default_value = HttpConfig::IDLE_TIMEOUT, value_parser = or(HttpConfig::IDLE_TIMEOUT, seconds::<1, 3_600>))]
    http_idle_timeout: Duration,
    /// HTTP requests that may use the database at once
    #[arg(long, env = "HTTP_CONCURRENCY", hide_env_values = true, value_name = "N", allow_hyphen_values = true)]
    #[arg(default_value = HttpConfig::CONCURRENCY, value_parser = or(HttpConfig::CONCURRENCY, number::<1, 10_000>))]
    http_concurrency: u16,
    /// HTTP requests that may wait for their turn at the database; what is beyond is answered with 503
    #[arg(long, env = "HTTP_QUEUE", hide_env_values = true, value_name = "N", allow_hyphen_values = true)]
    #[arg(default_value = HttpConfig::QUEUE, value_parser = or(HttpConfig::QUEUE, number::<0, 10_000>))]
    http_queue: u16,
    /// How long to answer HTTP requests, without being ready, after a SIGTERM: until a load balancer has noticed
    #[arg(long, env = "SHUTDOWN_GRACE", hide_env_values = true, value_name = "DURATION")]
    #[arg(default_value = "0s", value_parser = or("0s", seconds::<0, 3_600>))]
    shutdown_grace: Duration,
    /// Partitions of a topic that is created
    #[arg(long, env = "SAGA_TOPIC_PARTITIONS", hide_env_values = true, value_name = "N", allow_hyphen_values = true)]
    #[arg(default_value = "6", value_parser = or("6", number::<1, 10_000>))]
    saga_topic_partitions: u16,
    /// Replicas of a topic that is created [default: the broker's]
    #[arg(long, env = "SAGA_TOPIC_REPLICATION_FACTOR", hide_env_values = true, value_name = "N")]
    #[arg(allow_hyphen_values = true, value_parser = optional(number::<1, 32_767>))]
    saga_topic_replication_factor: Option<Maybe<u16>>,
    /// Put before the names of topics, consumer groups, dead-letter topics and schemas (travel: travel.payment.events), so
    /// that flows share a broker and a database and never meet [default: none]
    #[arg(long, env = "SAGA_NAMESPACE", hide_env_values = true, value_name = "NAME")]
    #[arg(default_value = "", hide_default_value = true, value_parser = Namespace::from_str)]
    saga_namespace: Namespace,
    /// A name of this process that survives a restart, so that it takes its partitions back at once
    #[arg(long, env = "SAGA_INSTANCE_ID", hide_env_values = true, value_name = "NAME")]
    #[arg(value_parser = optional(instance_id))]
    saga_instance_id: Option<Maybe<String>>,
    /// What to log: a level, or levels by target, such as info,saga_core=debug
    #[arg(long, env = "RUST_LOG", hide_env_values = true, value_name = "FILTER")]
    #[arg(default_value = Filter::DEFAULT, value_parser = or(Filter::DEFAULT, Filter::parse))]
    rust_log: Filter,
    /// How to log, json or pretty [default: pretty on a terminal, json elsewhere]
    #[arg(long, env = "LOG_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    #[arg(value_parser = optional(LogFormat::parse))]
    log_format: Option<Maybe<LogFormat>>,
    /// Ask the process that runs with these settings whether it is ready, and end: exit code 0 when it is, 1 when not
    #[arg(long)]
    healthcheck: bool,
    /// Print the participant's declaration as JSON, for `saga --flow`, and end: neither broker nor database is needed
    #[arg(long, conflicts_with = "healthcheck")]
    describe: bool,
}

/// A value that may be empty.
#[derive(Clone)]
struct Maybe<T>(Option<T>);

/// The parsed command line and environment.
#[derive(Clone, Debug)]
pub struct Parsed<A> {
    /// For [`Service::run_until`](crate::Service::run_until).
    pub config: Config<A>,
    /// For [`telemetry::init`](crate::telemetry::init).
    pub log: LogConfig,
    /// `--healthcheck`: ask the process that runs with these settings, and end.
    pub healthcheck: bool,
    /// `--describe`: print the declaration, and end.
    pub describe: bool,
}

/// The command line of a service.
pub(crate) fn command<A: Args>(name: &str, http_addr: &'static str) -> Command {
    let command = Command::new(format!("{name}-service")).version(env!("CARGO_PKG_VERSION")).after_help(trace::HELP);
    let command = Settings::augment_args(command);
    let parse_addr = or(http_addr, |text| text.parse::<HttpAddr>().map(|addr| addr.to_string()));
    let command = command
        .mut_arg("http_addr", |arg| arg.required(false).default_value(http_addr).value_parser(parse_addr))
        .mut_arg("database_url", |arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            match default_database(name) {
                Some(url) => arg.help(format!("{help} [default: {url}]")),
                None => arg,
            }
        });
    // The doc comment of the service's own flags would replace the service's description.
    A::augment_args(command).about(format!("The {name} participant of the choreography")).long_about(None)
}

impl<A: Args + 'static> Service<A> {
    /// Its flags and variables.
    pub fn command(&self) -> Command {
        command::<A>(self.name, self.http_addr)
    }

    /// Parses settings from a command line and an environment.
    ///
    /// # Errors
    /// When help was asked for, or when a setting is wrong.
    pub fn parse(
        &self,
        command_line: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Parsed<A>, Stop> {
        parse(self.command(), self.name, command_line, environment)
    }
}

fn parse<A: Args>(
    mut command: Command,
    name: &str,
    command_line: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Parsed<A>, Stop> {
    let matches = match command.try_get_matches_from_mut(command_line) {
        Ok(matches) => matches,
        Err(error) => return Err(Stop::of(&error, &command)),
    };
    let environment: Vec<_> = environment.into_iter().collect();
    let settings = Settings::from_arg_matches(&matches).map_err(|error| Stop::of(&error, &command))?;
    let args = A::from_arg_matches(&matches).map_err(|error| Stop::of(&error, &command))?;

    let namespace = settings.saga_namespace.clone();
    let instance_id = settings.saga_instance_id.clone().and_then(|id| id.0);
    let kafka = KafkaConfig::new(settings.kafka_bootstrap_servers.clone())
        .with_instance_id(instance_id.map(|id| namespace.of(&id).into_owned()))
        .with_variables(kafka::variables(environment.iter().cloned())?)
        .map_err(|error| ConfigError::line(&error.to_string()))?;
    let http_addr = settings.http_addr.parse().map_err(|error| ConfigError::of("HTTP_ADDR", error))?;
    let config = Config {
        http_addr,
        http: HttpConfig {
            idle_timeout: settings.http_idle_timeout,
            concurrency: settings.http_concurrency,
            queue: settings.http_queue,
        },
        shutdown_grace: settings.shutdown_grace,
        database_url: database_url(&settings, &matches, &namespace.of(name))?,
        namespace,
        kafka: kafka::flags(kafka, &settings.kafka_cfg)?,
        topics: TopicConfig {
            partitions: settings.saga_topic_partitions,
            replication_factor: settings.saga_topic_replication_factor.and_then(|n| n.0),
        },
        trace: TraceConfig::of(environment)?,
        args,
    };
    let format = settings.log_format.and_then(|format| format.0).unwrap_or_default();
    let log = LogConfig { filter: settings.rust_log, format };
    Ok(Parsed { config, log, healthcheck: settings.healthcheck, describe: settings.describe })
}

/// A database that is named and never connected to.
pub(crate) const UNUSED_DATABASE: &str =
    if cfg!(feature = "sqlite") { "sqlite::memory:" } else { "postgres://localhost/unused" };

/// The default database: a file of the service's own, in a build that has SQLite.
fn default_database(name: &str) -> Option<String> {
    cfg!(feature = "sqlite").then(|| format!("sqlite://./data/{name}.db"))
}

/// The URL, given directly or in a file; a flag wins over a variable.
fn database_url(settings: &Settings, matches: &ArgMatches, name: &str) -> Result<DatabaseUrl, ConfigError> {
    let given = settings.database_url.as_deref().filter(|url| !url.is_empty());
    let file = settings.database_url_file.as_deref().filter(|path| !path.is_empty());
    let by_flag = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
    let (variable, text) = match (given, file) {
        (Some(_), Some(_)) if by_flag("database_url") == by_flag("database_url_file") => {
            return Err(ConfigError::of("DATABASE_URL_FILE", "DATABASE_URL is set too; set one of them"));
        }
        (Some(url), None) => ("DATABASE_URL", url.to_owned()),
        (Some(url), Some(_)) if by_flag("database_url") => ("DATABASE_URL", url.to_owned()),
        (_, Some(path)) => ("DATABASE_URL_FILE", kafka::secret("DATABASE_URL_FILE", Path::new(path))?),
        (None, None) if settings.describe || settings.healthcheck => ("DATABASE_URL", UNUSED_DATABASE.to_owned()),
        (None, None) => {
            let url = default_database(name).ok_or_else(|| {
                ConfigError::of("DATABASE_URL", "must be postgres://user:password@host:port/database")
            })?;
            ("DATABASE_URL", url)
        }
    };
    let url: DatabaseUrl = text.parse().map_err(|error| ConfigError::of(variable, error))?;
    Ok(match file {
        Some(file) if variable == "DATABASE_URL_FILE" => url.kept_in(file),
        _ => url,
    })
}

/// A parser that reads an empty text as the default.
fn or<T, E: Display>(
    default: &'static str,
    parse: impl Fn(&str) -> Result<T, E> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| parse(if text.is_empty() { default } else { text }).map_err(|error| error.to_string())
}

/// A parser that reads an empty text as none.
fn optional<T, E: Display>(
    parse: impl Fn(&str) -> Result<T, E> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<Maybe<T>, String> + Clone + Send + Sync + 'static {
    move |text| match text {
        "" => Ok(Maybe(None)),
        text => parse(text).map(|value| Maybe(Some(value))).map_err(|error| error.to_string()),
    }
}

fn number<const MIN: u16, const MAX: u16>(text: &str) -> Result<u16, String> {
    u16::from_str(text)
        .ok()
        .filter(|n| (MIN..=MAX).contains(n))
        .ok_or_else(|| format!("must be a whole number from {MIN} to {MAX}"))
}

/// A duration within these numbers of seconds.
fn seconds<const MIN: u64, const MAX: u64>(text: &str) -> Result<Duration, String> {
    duration(text, &(Duration::from_secs(MIN)..=Duration::from_secs(MAX)))
}

/// What Kafka allows in a member's name.
fn instance_id(text: &str) -> Result<String, String> {
    let fits = text.len() <= 249 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if fits && text != "." && text != ".." {
        Ok(text.to_owned())
    } else {
        Err("must be at most 249 letters, digits, dots, dashes and underscores".to_owned())
    }
}
