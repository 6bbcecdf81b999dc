//! `layotto function run`: a process with the stores of the built-in configuration, and the functions
//! that the command line names.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clap::Args;
use layotto_core::Registry;
use layotto_mesh::Address;
use serde_json::{Map, Value, json};
use tracing::level_filters::LevelFilter;

use super::{super::start, Failure, PORT, StartOptions};
use crate::{
    config::{self, Loaded, Terminal},
    functions::LAYOTTO,
};

const HOST: &str = "127.0.0.1";

const AFTER_HELP: &str = "\
A function has the id that it answers to proxy_get_id, or else that of --id, or else the name of its
file without .wasm. Its log lines are printed with that id. The runtime API and the actuator are
served as by `start` without a configuration file, with the same stores.

Examples:
  layotto function run hello.wasm
  layotto function run id_1.wasm id_2.wasm
  layotto function run --allow GetState,PublishEvent --mem 16 --cpu 50 orders.wasm";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct RunArgs {
    /// Modules; one that is not there yet is loaded when it appears
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Id of a function that does not say its own; for one file only
    #[arg(long)]
    id: Option<String>,
    /// Port of the functions; 0: any that is free
    #[arg(long, default_value = PORT)]
    port: u16,
    /// Port of the runtime API; 0: any that is free
    #[arg(long, default_value = "34904", value_name = "PORT")]
    api_port: u16,
    /// Port of the actuator, which shows how functions are; 0: any that is free
    #[arg(long, default_value = "34999", value_name = "PORT")]
    actuator_port: u16,
    /// Methods of the runtime API that functions may call; `*`: all
    #[arg(
        long,
        value_name = "METHOD,…",
        value_delimiter = ',',
        default_value = "GetState,InvokeService"
    )]
    allow: Vec<String>,
    /// Longest time of a call, in milliseconds of the function's own doing
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    cpu: u32,
    /// Most memory of a call, in MiB
    #[arg(long, value_name = "MIB", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=4096))]
    mem: u32,
    /// Data directory
    #[arg(
        long,
        env = "LAYOTTO_DATA_DIR",
        value_name = "DIR",
        default_value = ".layotto"
    )]
    data_dir: PathBuf,
    /// Log level: trace, debug, info, warn, error, fatal, off
    #[arg(short, long, env = "LOG_LEVEL", value_name = "LEVEL", value_parser = start::level)]
    log_level: Option<LevelFilter>,
}

pub(super) fn run(
    args: RunArgs,
    registry: &Registry,
    serve: impl FnOnce(Loaded, StartOptions) -> anyhow::Result<()>,
) -> Result<ExitCode, Failure> {
    let functions = functions(&args).map_err(Failure::usage)?;
    let loaded = configuration(&args, &functions, registry).map_err(|report| Failure {
        message: start::unusable(&report),
        code: 1,
    })?;
    let options = StartOptions {
        data_dir: args.data_dir,
        api_token: start::api_token(),
        drain_time: None,
        component_log_level: None,
    };
    serve(loaded, options)?;
    Ok(ExitCode::SUCCESS)
}

/// The plug-ins, by the names that their functions have if they do not say.
fn functions(args: &RunArgs) -> Result<Map<String, Value>, String> {
    if args.id.is_some() && args.files.len() > 1 {
        return Err("--id is for one file, and there are several".to_owned());
    }
    let mut seen = BTreeSet::new();
    let plugin = |file: &PathBuf| {
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        let name = args.id.as_deref().or(stem).unwrap_or_default();
        let path = file.to_str().filter(|_| !name.is_empty());
        let path = path.ok_or_else(|| format!("{} is no name of a file", file.display()))?;
        if !seen.insert(name.to_owned()) {
            return Err(format!("two files are called {name}"));
        }
        let plugin = json!({
            "name": name,
            "vm_config": {"engine": "wasmtime", "path": path, "cpu": args.cpu, "mem": args.mem},
            "allow_methods": args.allow,
        });
        Ok((name.to_owned(), plugin))
    };
    args.files.iter().map(plugin).collect()
}

/// The runtime and the actuator of the built-in configuration, and a listener for the functions.
fn configuration(
    args: &RunArgs,
    functions: &Map<String, Value>,
    registry: &Registry,
) -> Result<Loaded, config::Report> {
    let env = &config::process_env;
    let listener = json!({
        "name": "functions",
        "address": format!("{HOST}:{}", args.port),
        "bind_port": true,
        "filter_chains": [{"filters": [{"type": "proxy", "config": {"router_config_name": "functions"}}]}],
        "stream_filters": [{"type": LAYOTTO, "config": functions}],
    });
    let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    let routers = json!([{
        "router_config_name": "functions",
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routers": routes}],
    }]);
    let own = json!({"servers": [{"listeners": [listener], "routers": routers}]}).to_string();
    let own = config::built_in(&own, registry, env)?.config.server;
    let mut loaded = config::standalone(registry, env)?;
    let server = &mut loaded.config.server;
    for listener in &mut server.listeners {
        listener.address = Address::Tcp {
            host: HOST.to_owned(),
            port: match listener.terminal {
                Terminal::Grpc(_) => args.api_port,
                _ => args.actuator_port,
            },
        };
    }
    server.listeners.extend(own.listeners);
    server.routers = own.routers;
    server.log_level = args.log_level.or(server.log_level);
    loaded.config.metrics.clear();
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(files: &[&str], id: Option<&str>) -> RunArgs {
        RunArgs {
            files: files.iter().map(PathBuf::from).collect(),
            id: id.map(str::to_owned),
            port: 0,
            api_port: 0,
            actuator_port: 0,
            allow: vec!["GetState".to_owned()],
            cpu: 10,
            mem: 2,
            data_dir: PathBuf::new(),
            log_level: None,
        }
    }

    #[test]
    fn functions_are_called_as_their_files_unless_told_otherwise() {
        let two = functions(&args(&["a/one.wasm", "two.wasm"], None)).unwrap();
        assert_eq!(two.keys().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(two["one"]["vm_config"]["path"], "a/one.wasm");
        assert_eq!(two["two"]["vm_config"]["mem"], 2);
        let one = functions(&args(&["one.wasm"], Some("x"))).unwrap();
        assert_eq!(one["x"]["name"], "x");
    }

    #[test]
    fn two_functions_of_one_name_are_refused() {
        let same = functions(&args(&["a/one.wasm", "b/one.wasm"], None));
        assert_eq!(same.unwrap_err(), "two files are called one");
        let id = functions(&args(&["a.wasm", "b.wasm"], Some("x")));
        assert_eq!(id.unwrap_err(), "--id is for one file, and there are several");
        assert_eq!(
            functions(&args(&[".."], None)).unwrap_err(),
            ".. is no name of a file"
        );
    }
}
