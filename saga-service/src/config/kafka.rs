//! `KAFKA_CFG_*` from the environment and from files, and `--kafka-cfg`.

use std::{collections::BTreeMap, ffi::OsString, fs, net::Ipv6Addr, path::Path};

use saga_kafka::{KafkaConfig, PROPERTY_PREFIX, property_name};

use super::fault::ConfigError;

const FILE_SUFFIX: &str = "_FILE";

/// The properties among these variables, those that name a file replaced by what is in it.
pub(super) fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut variables = BTreeMap::new();
    let mut files = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PROPERTY_PREFIX)).map(str::to_owned) else {
            continue;
        };
        let value = value.into_string().map_err(|_| ConfigError::of(&name, "must be UTF-8"))?;
        if value.is_empty() {
            continue;
        }
        match name.strip_suffix(FILE_SUFFIX) {
            Some(plain) if property_name(&name).is_none() => files.push((plain.to_owned(), name.clone(), value)),
            _ => {
                variables.insert(name, value);
            }
        }
    }
    for (plain, name, path) in files {
        if variables.contains_key(&plain) {
            return Err(ConfigError::of(&name, format!("{plain} is set too; set one of them")));
        }
        variables.insert(plain, secret(&name, Path::new(&path))?);
    }
    Ok(variables)
}

/// Adds `--kafka-cfg property=value`, which wins over the variables.
pub(super) fn flags(mut config: KafkaConfig, flags: &[String]) -> Result<KafkaConfig, ConfigError> {
    for flag in flags {
        let (property, value) = flag
            .split_once('=')
            .ok_or_else(|| ConfigError::of("--kafka-cfg", "must be property=value, such as security.protocol=ssl"))?;
        let checked = config.with_property(property.trim(), value);
        config = checked.map_err(|error| ConfigError::of("--kafka-cfg", error))?;
    }
    Ok(config)
}

/// What a file holds, without the line end that editors and shells leave behind.
pub(super) fn secret(variable: &str, path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::of(variable, format!("cannot read {}: {error}", path.display())))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(ConfigError::of(variable, format!("{} is empty", path.display())));
    }
    Ok(text.to_owned())
}

/// Checks `host:port`, separated by commas, each with a protocol before it or none: enough to tell a mistake from a broker
/// that is away, and a host, which is shown, from credentials.
///
/// # Errors
/// When it is something else. Does not quote it.
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
