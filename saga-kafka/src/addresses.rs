//! Broker addresses as they are written in settings.

use std::net::Ipv6Addr;

/// Checks a list of `host:port`, separated by commas, each with an optional protocol. Refuses what cannot be an
/// address, and what may be a password, because addresses are shown in logs.
///
/// # Errors
/// When the text is no such list. The error does not quote it.
pub fn bootstrap_servers(text: &str) -> Result<String, String> {
    let servers: Vec<_> = text.split(',').map(str::trim).collect();
    if !servers.iter().all(|server| is_server(server)) {
        return Err(
            "must be host:port, or several separated by commas, such as localhost:9092; no user and no password: \
             those are KAFKA_CFG_SASL_USERNAME and KAFKA_CFG_SASL_PASSWORD_FILE"
                .to_owned(),
        );
    }
    Ok(servers.join(","))
}

fn is_server(server: &str) -> bool {
    let (protocol, address) = server.split_once("://").unwrap_or(("", server));
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !address.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && is_name(host),
    };
    is_name(protocol) && is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_hosts_with_or_without_a_port() {
        for good in ["localhost", "localhost:9092", "a:1, b:2", "[::1]:9092", "SASL_SSL://broker.example:9093", "[::1]"]
        {
            assert!(bootstrap_servers(good).is_ok(), "{good}");
        }
        for bad in ["", " ", ",", "a:9092,", "a:0", "a:70000", ":9092", "a:port", "a b:9092", "::1:9092", "u:p@a:1"] {
            assert!(bootstrap_servers(bad).is_err(), "{bad}");
        }
    }
}
