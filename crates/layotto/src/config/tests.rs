use super::*;

mod errors;
mod golden;
mod model;
mod never_panics;

/// Where `grpc_config` stands in the files of [`around`].
const GRPC: &str = "servers[0].listeners[0].filter_chains[0].filters[0].config.grpc_config";

fn registry() -> Registry {
    let mut registry = Registry::default();
    layotto_components::register(&mut registry);
    registry
}

/// A whole file with this `grpc_config`, which begins on line 2.
fn around(grpc_config: &str) -> String {
    [
        r#"{"servers": [{"listeners": [{"name": "grpc", "address": "127.0.0.1:0", "bind_port": true,
        "filter_chains": [{"filters": [{"type": "grpc", "config": {"grpc_config":"#
            .replace('\n', "")
            .as_str(),
        grpc_config,
        "}}]}]}]}]}",
    ]
    .join("\n")
}

fn env(name: &str) -> Option<String> {
    match name {
        "NAME" => Some("value".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn read_text(text: &str, format: Format) -> (Config, Report) {
    let read = read(text.as_bytes(), format, &"f".into(), &registry(), &env);
    (read.config, read.report)
}

/// The report of a file, with the long path shortened to `GRPC`.
fn report_of(text: &str, format: Format) -> String {
    read_text(text, format).1.to_string().replace(GRPC, "GRPC")
}

fn runtime_of(grpc_config: &str) -> RuntimeConfig {
    let (config, report) = read_text(&around(grpc_config), Format::Json);
    assert!(report.is_usable(), "{report}");
    match config.server.listeners.into_iter().next().unwrap().terminal {
        Terminal::Grpc(grpc) => grpc.runtime,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_built_in_configuration_passes_the_check() {
    let loaded = standalone(&registry(), &env).unwrap();
    assert_eq!(loaded.report.to_string(), "");
    assert_eq!(loaded.file, None);
    let addresses: Vec<_> = loaded
        .config
        .server
        .listeners
        .iter()
        .map(|l| l.address.to_string())
        .collect();
    assert_eq!(addresses, ["127.0.0.1:34904", "127.0.0.1:34999"]);
    assert_eq!(loaded.config.metrics[0].port, 34903);
    let Terminal::Grpc(grpc) = &loaded.config.server.listeners[0].terminal else {
        panic!("the first listener is the runtime API");
    };
    let components: Vec<_> = grpc
        .runtime
        .components()
        .map(|c| format!("{}:{}", c.name, c.type_name))
        .collect();
    assert_eq!(
        components,
        [
            "secret_demo:local.env",
            "config_demo:embedded",
            "helloworld:helloworld",
            "state_demo:embedded",
            "bindings_demo:http",
            "pub_subs_demo:embedded",
            "file_demo:local",
            "lock_demo:embedded",
            "sequencer_demo:embedded",
        ]
    );
}

#[test]
fn the_examples_pass_the_check() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut checked = 0;
    for example in examples.read_dir().unwrap() {
        let example = example.unwrap().path();
        for name in ["config.json", "config.yaml"] {
            let file = example.join(name);
            if file.exists() {
                let loaded = load(&file, &registry(), &|_| None).unwrap_or_else(|report| panic!("{report}"));
                assert_eq!(loaded.report.to_string(), "", "{}", file.display());
                assert_eq!(loaded.dir, example);
                checked += 1;
            }
        }
    }
    assert!(checked >= 4, "{checked} examples");
    assert_eq!(
        std::fs::read_to_string(examples.join("standalone/config.json")).unwrap(),
        STANDALONE
    );
}

#[test]
fn a_file_that_is_not_there_is_an_error_of_the_report() {
    let report = load(Path::new("no/such.json"), &registry(), &env).unwrap_err();
    assert_eq!(
        report.to_string(),
        "error: no/such.json: cannot be read: No such file or directory (os error 2)\n"
    );
}

#[test]
fn the_pid_is_read_even_from_a_wrong_file() {
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(file.path(), r#"{"PID": "/run/${NAME}.pid", "servers": 5}"#).unwrap();
    assert_eq!(
        pid_file(file.path(), &env).unwrap(),
        Some("/run/value.pid".into())
    );
    std::fs::write(file.path(), "{}").unwrap();
    assert_eq!(pid_file(file.path(), &env).unwrap(), None);
}

#[test]
fn the_admin_token_of_the_environment_wins() {
    let with_token = |name: &str| (name == "LAYOTTO_ADMIN_TOKEN").then(|| "from env".to_owned());
    let text = STANDALONE.replace(
        "\"metrics\":",
        "\"admin\": {\"token\": \"from file\"}, \"metrics\":",
    );
    for (env, expected) in [
        (&with_token as Env<'_>, "from env"),
        (&|_: &str| None, "from file"),
    ] {
        let Outcome { config, report, .. } =
            read(text.as_bytes(), Format::Json, &"f".into(), &registry(), env);
        assert!(report.is_clean(), "{report}");
        assert_eq!(config.admin.token.unwrap().expose(), expected);
    }
}
