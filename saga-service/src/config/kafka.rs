//! `KAFKA_CFG_*` from the environment and from files, and `--kafka-cfg`.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

use saga_kafka::{KafkaConfig, PROPERTY_PREFIX, property_name};

use super::fault::ConfigError;

const FILE_SUFFIX: &str = "_FILE";

/// Kafka properties among these variables; a `*_FILE` variable is replaced by its file's content.
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

/// Adds `--kafka-cfg property=value`, which wins over variables.
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

/// A file's content without its final line end.
pub(super) fn secret(variable: &str, path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::of(variable, format!("cannot read {}: {error}", path.display())))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(ConfigError::of(variable, format!("{} is empty", path.display())));
    }
    Ok(text.to_owned())
}
