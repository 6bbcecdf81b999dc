//! `layotto start`: flags and environment, then the configuration, then the process.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use layotto_core::{Registry, Secret};
use tracing::level_filters::LevelFilter;

use super::{Failure, warn};
use crate::{
    config::{self, DEFAULT_FILE, Loaded, Report},
    logging,
};

/// Upstream's feature gates, none of which is built.
pub(crate) const FEATURE_GATES: &[&str] = &[
    "XdsMtlsEnable",
    "PayLoadLimitEnable",
    "MultiTenantMode",
    "auto_config",
];

/// What the flags and the environment say, beside the configuration.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// Where the process keeps its data.
    pub data_dir: PathBuf,
    /// What a caller of the runtime API must show; `None` lets everybody call.
    pub api_token: Option<Secret>,
    /// How long calls may go on after the end was asked for, where the listener does not say.
    pub drain_time: Option<Duration>,
    /// The log level of components; `None`: that of the process.
    pub component_log_level: Option<LevelFilter>,
}

/// Flags that say which files a command means.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// Configuration file, JSON or YAML [default: configs/config.json if it is there, else built in]
    #[arg(short, long, env = "RUNTIME_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory
    #[arg(
        long,
        env = "LAYOTTO_DATA_DIR",
        value_name = "DIR",
        default_value = ".layotto"
    )]
    pub data_dir: PathBuf,
}

const AFTER_HELP: &str = "\
Upstream's other flags are accepted and have no effect: --service-cluster, --pod-name, --concurrency
and so on, also in their short forms (-s, -n, -p, -sm, -sl, -pns, -pn, -pi, -lp).

Environment variables besides those above:
  LAYOTTO_ADMIN_TOKEN  what callers from other machines show to change things, over admin.token
  LAYOTTO_API_TOKEN    what every call of the runtime API must carry as layotto-api-token

Examples:
  layotto start
  layotto start -c configs/config.json --data-dir /var/lib/layotto
  RUNTIME_CONFIG=my.yaml layotto start -l debug";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct StartArgs {
    #[command(flatten)]
    files: Files,
    /// Log level, over the file's: trace, debug, info, warn, error, fatal, off
    #[arg(short, long, env = "LOG_LEVEL", value_name = "LEVEL", value_parser = level)]
    log_level: Option<LevelFilter>,
    /// Log level of components
    #[arg(long, env = "LOGGING_LEVEL", value_name = "LEVEL", value_parser = level)]
    logging_level: Option<LevelFilter>,
    /// Seconds for calls to end in, where the listener has no graceful_stop_timeout [default: 30]
    #[arg(long, value_name = "SECONDS")]
    drain_time_s: Option<u64>,
    /// Feature gates, such as auto_config=false
    #[arg(short, long, env = "FEATURE_GATES", value_name = "NAME=BOOL,…", value_parser = gates)]
    feature_gates: Option<Gates>,
    #[command(flatten)]
    compatibility: Compatibility,
}

/// Flags of upstream without effect; accepted, so that its start scripts work.
#[derive(Debug, Args)]
struct Compatibility {
    #[arg(short = 's', long, env = "SERVICE_CLUSTER", hide = true)]
    service_cluster: Option<String>,
    #[arg(short = 'n', long, env = "SERVICE_NODE", hide = true)]
    service_node: Option<String>,
    #[arg(short = 'p', long, env = "SERVICE_TYPE", hide = true)]
    service_type: Option<String>,
    #[arg(long, env = "SERVICE_META", hide = true)]
    service_meta: Vec<String>,
    #[arg(long, env = "SERVICE_LAB", hide = true)]
    service_lables: Vec<String>,
    #[arg(long, env = "CLUSTER_DOMAIN", hide = true)]
    cluster_domain: Option<String>,
    #[arg(long, env = "POD_NAMESPACE", hide = true)]
    pod_namespace: Option<String>,
    #[arg(long, env = "POD_NAME", hide = true)]
    pod_name: Option<String>,
    #[arg(long, env = "POD_IP", hide = true)]
    pod_ip: Option<String>,
    #[arg(long, env = "LOGGING_PATH", hide = true)]
    logging_path: Option<PathBuf>,
    #[arg(long, hide = true)]
    log_format: Option<String>,
    #[arg(long, hide = true)]
    component_log_level: Option<String>,
    #[arg(long, hide = true)]
    local_address_ip_version: Option<String>,
    #[arg(long, hide = true)]
    restart_epoch: Option<String>,
    #[arg(long, hide = true)]
    parent_shutdown_time_s: Option<String>,
    #[arg(long, hide = true)]
    max_obj_name_len: Option<String>,
    #[arg(long, hide = true)]
    concurrency: Option<String>,
    #[arg(long, hide = true)]
    log_format_prefix_with_location: Option<String>,
    #[arg(long, hide = true)]
    bootstrap_version: Option<String>,
    #[arg(long, hide = true)]
    drain_strategy: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true)]
    disable_hot_restart: Option<Option<String>>,
}

/// Feature gates that are switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gates(Vec<String>);

pub(super) fn level(text: &str) -> Result<LevelFilter, String> {
    logging::level(text).ok_or_else(|| format!("expected one of: {}", logging::LEVELS))
}

fn gates(text: &str) -> Result<Gates, String> {
    let mut on = Vec::new();
    for gate in text.split(',').map(str::trim).filter(|gate| !gate.is_empty()) {
        let (name, value) = gate.split_once('=').ok_or("expected NAME=true or NAME=false")?;
        if !FEATURE_GATES.contains(&name) {
            return Err(format!(
                "unknown feature gate {name}, expected one of: {}",
                FEATURE_GATES.join(", ")
            ));
        }
        if value
            .parse()
            .map_err(|_| format!("{name}: expected true or false"))?
        {
            on.push(name.to_owned());
        }
    }
    Ok(Gates(on))
}

pub(super) fn start(
    args: StartArgs,
    registry: &Registry,
    run: impl FnOnce(Loaded, StartOptions) -> anyhow::Result<()>,
) -> Result<ExitCode, Failure> {
    let mut loaded = load(args.files.config.as_deref(), registry).map_err(|report| Failure {
        message: unusable(&report),
        code: 1,
    })?;
    for finding in loaded.report.warnings() {
        warn(format_args!("warning: {finding}"));
    }
    for gate in args.feature_gates.map(|gates| gates.0).unwrap_or_default() {
        warn(format_args!(
            "warning: feature gate {gate} is not supported yet and has no effect"
        ));
    }
    if args.log_level.is_some() {
        loaded.config.server.log_level = args.log_level;
    }
    let options = StartOptions {
        data_dir: args.files.data_dir,
        api_token: api_token(),
        drain_time: args.drain_time_s.map(Duration::from_secs),
        component_log_level: args.logging_level,
    };
    run(loaded, options)?;
    Ok(ExitCode::SUCCESS)
}

/// The token of the runtime API: never a flag, which every user of the machine could read.
pub(super) fn api_token() -> Option<Secret> {
    let token = config::process_env("LAYOTTO_API_TOKEN")?;
    (!token.is_empty()).then(|| Secret::new(token))
}

/// The configuration that `file` means: the file, the one in the default place, or the built-in one.
pub(super) fn load(file: Option<&Path>, registry: &Registry) -> Result<Loaded, Report> {
    let default = Path::new(DEFAULT_FILE);
    match file {
        Some(file) => config::load(file, registry, &config::process_env),
        None if default.exists() => config::load(default, registry, &config::process_env),
        None => config::standalone(registry, &config::process_env),
    }
}

pub(super) fn unusable(report: &Report) -> String {
    let mut text = match report.errors.len() {
        1 => "the configuration has an error".to_owned(),
        many => format!("the configuration has {many} errors"),
    };
    for finding in &report.errors {
        text.push_str(&format!("\n  {finding}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_feature_gates() {
        assert_eq!(
            gates("auto_config=true, MultiTenantMode=false"),
            Ok(Gates(vec!["auto_config".to_owned()]))
        );
        assert_eq!(
            gates("Other=true"),
            Err(
                "unknown feature gate Other, expected one of: XdsMtlsEnable, PayLoadLimitEnable, \
                 MultiTenantMode, auto_config"
                    .to_owned()
            )
        );
        assert_eq!(
            gates("auto_config=maybe"),
            Err("auto_config: expected true or false".to_owned())
        );
        assert_eq!(
            gates("auto_config"),
            Err("expected NAME=true or NAME=false".to_owned())
        );
    }
}
