//! The order as a service: its name, address, tables, flags and parts.

use std::time::Duration;

use saga_service::Service;

use crate::{MIGRATIONS, http, participant};

/// The order service's own flags.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OrderArgs {
    /// How long an order may take before it is cancelled, for example 5m, 90s or 2s
    #[arg(long, env = "SAGA_DEADLINE", value_name = "DURATION", default_value = DEADLINE, hide_env_values = true, value_parser = deadline)]
    pub saga_deadline: Duration,
}

const DEADLINE: &str = "5m";
const SHORTEST: Duration = Duration::from_millis(1);
/// The longest deadline. A larger value is probably a typing error.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn deadline(text: &str) -> Result<Duration, String> {
    // An empty variable counts as not set.
    let text = if text.is_empty() { DEADLINE } else { text };
    saga_service::config::duration(text, &(SHORTEST..=LONGEST))
}

/// The order service.
pub fn service() -> Service<OrderArgs> {
    Service::built("order", |args: &OrderArgs, _| Ok(participant(args.saga_deadline)))
        .http("127.0.0.1:8081")
        .migrations(MIGRATIONS)
        .routes(|deps| http::routes(deps.db.clone(), deps.outbox.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_written_with_units() {
        assert_eq!(deadline("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(deadline("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(deadline("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(deadline("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(deadline(""), deadline(DEADLINE));
        for wrong in ["5", "-2s", "0s", "2 years", "soon"] {
            assert!(deadline(wrong).is_err(), "{wrong}");
        }
    }
}
