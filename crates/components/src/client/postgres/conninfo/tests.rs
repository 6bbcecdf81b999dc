use super::*;

fn parse(text: &str) -> Result<ConnInfo> {
    ConnInfo::parse(text, &Context::standalone("test", "."))
}

fn refused(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("{text} is accepted"),
        Err(error) => error.message().to_owned(),
    }
}

#[test]
fn both_forms_say_the_same() {
    for text in [
        "host=db.local port=6432 user=app password=p@ss dbname=orders sslmode=disable",
        "  host = db.local port=6432\tuser='app' password='p@ss'\ndbname = orders sslmode=disable ",
        "postgres://app:p%40ss@db.local:6432/orders?sslmode=disable",
        "postgresql://app@db.local/orders?port=6432&password=p%40ss&sslmode=disable",
    ] {
        let info = parse(text).unwrap();
        let options = &info.options;
        assert_eq!(
            (options.get_host(), options.get_port(), options.get_username()),
            ("db.local", 6432, "app"),
            "{text}"
        );
        assert_eq!(options.get_database(), Some("orders"), "{text}");
        assert!(matches!(options.get_ssl_mode(), PgSslMode::Disable), "{text}");
        let url = ConnectOptions::to_url_lossy(options);
        assert_eq!(url.password(), Some("p%40ss"), "{text}");
        assert_eq!(info.peer(), "db.local:6432");
    }
}

#[test]
fn quotes_and_backslashes_are_taken_as_libpq_takes_them() {
    let pairs = syntax::parse(r"a='x y' b='it\'s' c=back\\slash d=a\ b e='' f=x'y").unwrap();
    let expected = [
        ("a", "x y"),
        ("b", "it's"),
        ("c", r"back\slash"),
        ("d", "a b"),
        ("e", ""),
        ("f", "x'y"),
    ];
    assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn addresses_of_version_6_and_sockets_are_hosts() {
    assert_eq!(parse("postgres://[::1]:7000/d").unwrap().peer(), "::1:7000");
    let info = parse("postgres://%2Fvar%2Frun/d?sslmode=require").unwrap();
    assert_eq!(info.peer(), "/var/run/.s.PGSQL.5432");
    assert!(matches!(info.options.get_ssl_mode(), PgSslMode::Disable));
    assert_eq!(parse("host=/tmp port=1").unwrap().peer(), "/tmp/.s.PGSQL.1");
}

#[test]
fn an_error_shows_no_secret() {
    for text in [
        "host=db password=hush hush",
        "host=db password='hush",
        "host=db password=hush port=hush",
        "postgres://u:hush@db/d?sslmode=hush",
        "postgres://u:hush%FF@db/d",
        "postgres://u:hush@[::1/d",
        "hush",
        "host=db sslpassword=hush",
        "host=db options=hush",
    ] {
        let message = refused(text);
        assert!(message.starts_with("connectionString: "), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
}

// deviation: D112
#[test]
fn modes_of_tls_are_those_of_libpq() {
    let modes = |text: &str| {
        let info = parse(text).unwrap();
        format!("{:?} {:?}", info.options.get_ssl_mode(), info.second_mode)
    };
    assert_eq!(modes("host=h"), "Prefer Some(Disable)");
    assert_eq!(modes("host=h sslmode=prefer"), "Prefer Some(Disable)");
    assert_eq!(modes("host=h sslmode=allow"), "Disable Some(Require)");
    assert_eq!(modes("host=h sslmode=require"), "Require None");
    assert_eq!(modes("host=h sslmode=verify-full"), "VerifyFull None");
    assert_eq!(
        modes("host=h sslmode=verify-full sslrootcert=system"),
        "VerifyFull None"
    );
    let pem = "sslrootcert='-----BEGIN CERTIFICATE-----'";
    assert_eq!(modes(&format!("host=h sslmode=require {pem}")), "VerifyFull None");
    assert!(refused("host=h sslmode=verify-ca").contains("use verify-full"));
    assert!(refused("host=h sslcert=c").contains("sslkey"));
    assert!(refused("host=h sslmode=verify-full sslrootcert=/no/such/file").contains("cannot read"));
}

#[test]
fn unknown_keys_and_options_are_settings_of_the_session() {
    let info = parse(r"host=h statement_timeout=5s options='-c search_path=a,b --work-mem=4MB'").unwrap();
    assert_eq!(info.session, ["search_path", "statement_timeout", "work_mem"]);
    let options = info.options.get_options().unwrap();
    assert_eq!(
        options,
        "-c search_path=a,b -c statement_timeout=5s -c work_mem=4MB"
    );
    assert!(parse("host=h keepalives=1").unwrap().session.is_empty());
}

// deviation: D112
#[test]
fn what_would_not_be_kept_is_refused() {
    assert!(refused("host=a,b").contains("one server"));
    assert!(refused("host=a hostaddr=1.2.3.4").contains("together"));
    assert!(refused("host=a target_session_attrs=read-write").contains("target_session_attrs"));
}

#[test]
fn the_time_to_connect_is_bounded() {
    assert_eq!(parse("host=h").unwrap().connect_timeout, CONNECT_TIMEOUT);
    assert_eq!(
        parse("host=h connect_timeout=0").unwrap().connect_timeout,
        CONNECT_TIMEOUT
    );
    let two = parse("host=h connect_timeout=2").unwrap();
    assert_eq!(two.connect_timeout, Duration::from_secs(2));
}
