//! Settings of both dialects.

use super::{super::settings::*, *};

fn read(settings: &[(&str, &str)]) -> Result<Connection> {
    let config: Config = Settings::from_iter(settings.iter().copied())
        .parse()
        .map_err(|error| Error::invalid(error.to_string()))?
        .config;
    let cx = Context::standalone("test", std::env::temp_dir());
    config.given(&cx).connection(&cx)
}

#[test]
fn both_dialects_are_read() {
    let layotto = read(&[
        ("redisHost", "10.0.0.1:7000"),
        ("redisPassword", "p"),
        ("db", "2"),
        ("maxRetries", "3"),
        ("maxRetryBackoff", "2000000000"),
    ]);
    let layotto = layotto.unwrap();
    assert_eq!(
        (layotto.addresses[0].to_string(), layotto.db),
        ("10.0.0.1:7000".to_owned(), 2)
    );
    let dapr = read(&[
        ("redisHost", "a:1, b:2,c"),
        ("redisType", "cluster"),
        ("redisUsername", "u"),
        ("redisDB", "0"),
        ("dialTimeout", "2500"),
        ("readTimeout", "-1"),
        ("writeTimeout", "3s"),
        ("poolSize", "20"),
    ]);
    let dapr = dapr.unwrap();
    let addresses: Vec<_> = dapr.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["a:1", "b:2", "c:6379"]);
    assert_eq!(
        (dapr.dial_timeout, dapr.read_timeout),
        (Duration::from_millis(2500), None)
    );
    assert!(matches!(dapr.topology, Topology::Cluster));
}

#[test]
fn times_are_milliseconds_or_texts() {
    for (text, time) in [
        ("0", Timeout::Unset),
        ("1500", Timeout::After(Duration::from_millis(1500))),
        ("1m", Timeout::After(Duration::from_secs(60))),
        ("-1", Timeout::Never),
    ] {
        let config: Config = Settings::from_iter([("readTimeout", text)])
            .parse()
            .unwrap()
            .config;
        assert_eq!(config.read_timeout, time, "{text}");
    }
    assert!(
        Settings::from_iter([("readTimeout", "soon")])
            .parse::<Config>()
            .is_err()
    );
}

#[test]
fn addresses_have_a_host_and_perhaps_a_port() {
    for (text, address) in [
        ("h", Some("h:6379")),
        (" h:1 ", Some("h:1")),
        ("[::1]:7", Some("[::1]:7")),
        ("::1", Some("[::1]:6379")),
        ("h:0", None),
        ("h:x", None),
        (":6379", None),
        ("h:65536", None),
    ] {
        assert_eq!(
            Address::parse(text).map(|address| address.to_string()).as_deref(),
            address,
            "{text}"
        );
    }
}

// deviation: D089
#[test]
fn settings_that_contradict_each_other_are_refused() {
    for settings in [
        vec![],
        vec![("redisHost", "a,b")],
        vec![("redisHost", "a"), ("redisType", "cluster"), ("db", "1")],
        vec![("redisHost", "a"), ("redisType", "ring")],
        vec![("redisHost", "a"), ("failover", "true")],
        vec![
            ("redisHost", "a"),
            ("failover", "true"),
            ("sentinelMasterName", "m"),
            ("redisType", "cluster"),
        ],
        vec![("redisHost", "a"), ("tlsServerName", "n")],
        vec![("redisHost", "a"), ("enableTLS", "true"), ("clientCert", "c.pem")],
        vec![("redisHost", "a"), ("enableTLS", "true"), ("caCert", "none.pem")],
    ] {
        let error = read(&settings).expect_err(&format!("{settings:?}"));
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let secrets = [
        ("redisPassword", "s3cret1"),
        ("sentinelPassword", "s3cret2"),
        ("clientKey", "s3cret3"),
    ];
    let settings = Settings::from_iter(secrets.into_iter().chain([("redisHost", "a")]));
    let config: Config = settings.parse().unwrap().config;
    let connection = read(&[("redisHost", "a"), ("redisPassword", "s3cret1")]).unwrap();
    let printed = format!("{config:?} {connection:?} {}", connection.identity());
    assert!(!printed.contains("s3cret"), "{printed}");
    let error = read(&[
        ("redisHost", "a"),
        ("enableTLS", "true"),
        ("clientCert", "s3cret4"),
        ("clientKey", "s3cret5"),
    ]);
    let error = error.unwrap_err();
    assert!(!format!("{error:?}").contains("s3cret5"), "{error:?}");
}
