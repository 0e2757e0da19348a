//! Tests of the configuration.

use super::*;

fn config() -> KafkaConfig {
    KafkaConfig::new("localhost:1")
}

fn with(variable: &str, value: &str) -> Result<KafkaConfig, KafkaError> {
    config().with_variables([(variable.to_owned(), value.to_owned())])
}

#[test]
fn a_variable_names_a_property_and_wins_over_the_default() {
    let config = with("KAFKA_CFG_FETCH_WAIT_MAX_MS", "7").unwrap();
    assert_eq!(config.consumer("g").get("fetch.wait.max.ms"), Some("7"));
}

#[test]
fn an_alias_replaces_the_default_of_the_property_it_names() {
    let config = with("KAFKA_CFG_DELIVERY_TIMEOUT_MS", "60000").unwrap().producer();
    assert_eq!(config.get("message.timeout.ms"), Some("60000"));
    assert_eq!(config.get("delivery.timeout.ms"), None);
}

#[test]
fn a_property_of_one_client_is_kept_from_the_other() {
    let config =
        with("KAFKA_CFG_SESSION_TIMEOUT_MS", "6000").unwrap().with_property("compression.type", "lz4").unwrap();
    assert_eq!(config.consumer("g").get("session.timeout.ms"), Some("6000"));
    assert_eq!(config.consumer("g").get("compression.codec"), None);
    assert_eq!(config.producer().get("session.timeout.ms"), None);
    assert_eq!(config.producer().get("compression.codec"), Some("lz4"));
}

#[test]
fn an_unknown_property_is_refused_and_its_variable_named() {
    let error = with("KAFKA_CFG_SECURITY_PROTOKOL", "ssl").unwrap_err();
    assert!(matches!(error, KafkaError::UnknownProperty { .. }));
    assert!(error.to_string().contains("KAFKA_CFG_SECURITY_PROTOKOL"), "{error}");
}

#[test]
fn an_invalid_value_is_refused_and_its_variable_named() {
    let error = with("KAFKA_CFG_AUTO_OFFSET_RESET", "yesterday").unwrap_err();
    assert!(matches!(error, KafkaError::InvalidProperty { .. }));
    assert!(error.to_string().contains("KAFKA_CFG_AUTO_OFFSET_RESET"), "{error}");
}

#[test]
fn a_property_that_is_ours_is_refused_with_what_to_do_instead() {
    for variable in ["KAFKA_CFG_GROUP_ID", "KAFKA_CFG_ENABLE_AUTO_OFFSET_STORE", "KAFKA_CFG_REQUEST_REQUIRED_ACKS"] {
        let error = with(variable, "1").unwrap_err();
        assert!(matches!(error, KafkaError::OwnedProperty { .. }), "{error}");
        assert!(error.to_string().contains(variable), "{error}");
    }
    assert!(with("KAFKA_CFG_METADATA_BROKER_LIST", "h").unwrap_err().to_string().contains("KAFKA_BOOTSTRAP_SERVERS"));
}

#[test]
fn a_property_with_an_underscore_in_its_name_can_be_set() {
    assert_eq!(with("KAFKA_CFG_LOG_LEVEL", "7").unwrap().producer().get("log_level"), Some("7"));
}

#[test]
fn a_variable_that_names_a_file_with_a_secret_is_no_property() {
    assert_eq!(property_name("KAFKA_CFG_SASL_PASSWORD").as_deref(), Some("sasl.password"));
    assert_eq!(property_name("KAFKA_CFG_SASL_PASSWORD_FILE"), None);
}

#[test]
fn secrets_are_never_shown() {
    let secret = "s3cr3t-v4lue";
    let mut config = config();
    for property in [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.key.location",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.assertion.private.key.pem",
    ] {
        // Not through `with_property`: a build without TLS does not take them.
        config.overrides.insert(property.into(), (property.into(), secret.into()));
    }
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains(secret), "{shown}");
    let error = check("KAFKA_CFG_SASL_PASSWORD", "sasl.password", "s3cr3t-v4lue\0").unwrap_err();
    assert!(!format!("{error} {error:?}").contains(secret), "{error}");
}

#[test]
fn a_static_member_gets_the_time_for_a_restart() {
    assert_eq!(config().consumer("g").get("session.timeout.ms"), Some("10000"));
    let config = config().with_instance_id(Some("a".into())).consumer("g");
    assert_eq!(config.get("session.timeout.ms"), Some("45000"));
    assert_eq!(config.get("group.instance.id"), Some("a"));
}

#[test]
fn our_defaults_are_properties_that_exist() {
    config().consumer("g").create_native_config().unwrap();
    config().producer().create_native_config().unwrap();
}

#[test]
#[cfg(not(feature = "tls"))]
fn a_build_without_tls_names_the_feature_that_is_missing() {
    let error = with("KAFKA_CFG_SECURITY_PROTOCOL", "ssl").unwrap_err().to_string();
    assert!(error.contains("KAFKA_CFG_SECURITY_PROTOCOL") && error.contains("feature `tls`"), "{error}");
    let sasl = with("KAFKA_CFG_SASL_MECHANISM", "SCRAM-SHA-512").unwrap();
    let sasl = sasl.with_property("security.protocol", "sasl_plaintext").unwrap();
    let error = crate::KafkaProducer::new(&sasl).err().unwrap().to_string();
    assert!(error.contains("feature `tls`"), "{error}");
}
