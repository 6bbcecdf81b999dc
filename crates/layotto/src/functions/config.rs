//! The configuration of the stream filter `Layotto`, with upstream's keys.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::Arc,
    time::Duration,
};

use layotto_core::{GoDuration, Settings};
use layotto_mesh::config::ConfigError;
use layotto_wasm::{Allowed, Limits, Origin, Serving, Source};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::fetch::{self, Remote};

const MIB: usize = 1 << 20;

/// The key of [`Plugin::compat_errors`].
pub const COMPAT_ERRORS: &str = "compat_errors";

/// One plug-in. Every other key with a text is handed to the guest as its configuration, with `name`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Plugin {
    /// The id of the function, if the guest does not say it by `proxy_get_id`.
    pub name: String,
    /// One of [wasm_global_plugins](../mosn-config.md#global-plug-ins), whose `vm_config` and
    /// `instance_num` count then.
    pub from_wasm_plugin: String,
    /// The module and its limits, where there is no `from_wasm_plugin`.
    pub vm_config: Vm,
    /// How many requests are served at a time; 0 and less: 64. Calls of functions by functions do not
    /// count.
    pub instance_num: i64,
    /// How long a request waits for its turn before it is answered 503. Default "100ms".
    pub instance_wait: GoDuration,
    /// The id that the guest gets as the parent of the contexts of requests. Default 1.
    pub root_context_id: i32,
    /// Whether an instance serves one request after another; by default each request has a fresh one.
    pub reuse: bool,
    /// Whether callers get 200 with an empty body, as with upstream, where the function fails.
    pub compat_errors: bool,
    /// What the guest may call of the runtime API, `*` for all. Default `GetState`, `InvokeService`.
    pub allow_methods: Vec<String>,
    /// The state stores that it may use, `*` for all. Default `*`.
    pub allow_stores: Vec<String>,
    /// The clusters that `proxy_http_call` and gRPC may go to, `*` for all. Default none.
    pub allow_clusters: Vec<String>,
    #[serde(skip)]
    user_data: Vec<(String, String)>,
    #[serde(skip)]
    is_filter: bool,
}

/// The module of a plug-in, and what an instance of it may take.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Vm {
    /// Any name of upstream's: there is one engine.
    pub engine: String,
    /// The file with the module, where there is no `url`. It is loaded again when it changes, and may
    /// appear later.
    pub path: String,
    /// Where to fetch the module where there is no `path`: `http` or `https`. Without a checksum only from
    /// this machine.
    pub url: String,
    /// MD5 of the file, in hexadecimal; not compared again when the file changes. Default "": any.
    pub md5: String,
    /// SHA-256 of the file, in hexadecimal, of every version of it. Default "": any.
    pub sha256: String,
    /// How long a call may run, in milliseconds of its own doing; 0 and less: 1000.
    pub cpu: i64,
    /// How much memory an instance may have, in MiB, to 4096; 0 and less: 64.
    pub mem: i64,
}

impl Default for Plugin {
    fn default() -> Self {
        let Allowed { methods, stores, .. } = Allowed::default();
        Self {
            name: String::new(),
            from_wasm_plugin: String::new(),
            vm_config: Vm::default(),
            instance_num: 0,
            instance_wait: GoDuration::from_millis(100),
            root_context_id: 1,
            reuse: false,
            compat_errors: false,
            allow_methods: methods,
            allow_stores: stores,
            allow_clusters: Vec::new(),
            user_data: Vec::new(),
            is_filter: false,
        }
    }
}

/// Reads the plug-ins of a filter, by name.
pub fn read(config: &Value) -> Result<BTreeMap<String, Plugin>, ConfigError> {
    let items = match config {
        Value::Object(items) => items,
        // Functions that others configure are served all the same.
        Value::Null => return Ok(BTreeMap::new()),
        other => {
            let text = format!("found {other}, expected an object of plug-ins by name");
            return Err(ConfigError::new("", text));
        }
    };
    let item = |(name, item): (&String, &Value)| {
        let plugin = plugin(item).map_err(|error| error.under(name))?;
        Ok((name.clone(), plugin))
    };
    items.iter().map(item).collect()
}

fn stem(path: &str) -> Cow<'_, str> {
    Path::new(path).file_stem().unwrap_or_default().to_string_lossy()
}

/// Reads the plug-in of a filter of proxied traffic, and the name that it goes by: the same for the
/// same configuration, another for any other.
pub fn read_filter(config: &Value) -> Result<(String, Plugin), ConfigError> {
    let mut plugin = plugin(config)?;
    plugin.is_filter = true;
    if plugin.compat_errors {
        let text = "found true; what a filter cannot judge does not pass";
        return Err(ConfigError::new(COMPAT_ERRORS, text));
    }
    let vm = &plugin.vm_config;
    // Of a URL no more than the last part of its path: the rest may hold what is nobody's business.
    let path = vm
        .url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'));
    let path = path.map_or("", |(_, path)| path);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let names = [
        plugin.name.as_str().into(),
        stem(&vm.path),
        plugin.from_wasm_plugin.as_str().into(),
        stem(path),
    ];
    let shown = names
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    config.to_string().hash(&mut hasher);
    Ok((format!("{shown}#{:016x}", hasher.finish()), plugin))
}

/// Reads one plug-in.
pub fn plugin(item: &Value) -> Result<Plugin, ConfigError> {
    let Value::Object(item) = item else {
        return Err(ConfigError::new("", format!("found {item}, expected an object")));
    };
    let parsed = Settings::new(item.clone()).parse::<Plugin>();
    let mut plugin = parsed
        .map_err(|error| ConfigError::new(error.path, error.message))?
        .config;
    plugin.user_data = user_data(item);
    if plugin.from_wasm_plugin.is_empty() {
        plugin.vm_config.check()?;
    }
    Ok(plugin)
}

impl Vm {
    /// Says what is wrong with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.is_remote() {
            return fetch::check(self);
        }
        if self.path.is_empty() {
            let text = "is missing; expected the file with the module, or vm_config.url";
            return Err(ConfigError::new("vm_config.path", text));
        }
        Ok(())
    }

    /// Whether the module is fetched.
    pub fn is_remote(&self) -> bool {
        self.path.is_empty() && !self.url.is_empty()
    }

    /// Whether a checksum tells if a module is the right one.
    pub fn is_checked(&self) -> bool {
        !self.md5.is_empty() || !self.sha256.is_empty()
    }

    fn origin(&self, folder: &Path) -> Origin {
        let remote = Remote::new(self).filter(|_| self.is_remote());
        match remote {
            Some(remote) => Origin::Remote(Arc::new(remote)),
            None => Origin::File(found(Path::new(&self.path), folder)),
        }
    }
}

/// What is a text and no key of ours, but for the name.
fn user_data(item: &Map<String, Value>) -> Vec<(String, String)> {
    let own = schemars::schema_for!(Plugin).to_value();
    let own = |key: &str| key != "name" && own["properties"].get(key).is_some();
    let texts = item.iter().filter(|(key, _)| !own(key));
    texts
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

impl Plugin {
    /// Whether proxied traffic passes it.
    pub fn is_filter(&self) -> bool {
        self.is_filter
    }

    /// What the plug-in is installed with.
    pub fn config(&self, folder: &Path) -> layotto_wasm::Config {
        let vm = &self.vm_config;
        layotto_wasm::Config {
            name: Some(self.name.clone()).filter(|name| !name.is_empty()),
            is_filter: self.is_filter,
            source: Arc::new(Source {
                origin: vm.origin(folder),
                md5: vm.md5.clone(),
                sha256: vm.sha256.clone(),
            }),
            root_context: self.root_context_id.cast_unsigned(),
            limits: Limits {
                memory: positive(vm.mem).unwrap_or(64).min(4096) * MIB,
                time: Duration::from_millis(positive(vm.cpu).unwrap_or(1000) as u64),
            },
            allowed: Allowed {
                methods: self.allow_methods.clone(),
                stores: self.allow_stores.clone(),
                clusters: self.allow_clusters.clone(),
            },
            serving: Serving {
                places: usize::try_from(self.places()).unwrap_or(usize::MAX),
                wait: self.instance_wait.0,
                reuse: self.reuse,
                forgive: self.compat_errors,
            },
            vm: self.vm_pairs(),
            user_data: self.user_data.clone(),
        }
    }

    /// How many requests are served at a time.
    pub fn places(&self) -> i64 {
        match self.instance_num {
            number if number > 0 => number,
            _ => 64,
        }
    }

    /// With upstream's names, which are those of its Go struct.
    fn vm_pairs(&self) -> Vec<(String, String)> {
        let vm = &self.vm_config;
        let pairs = [
            ("Engine", vm.engine.clone()),
            ("Path", vm.path.clone()),
            // It may hold a password.
            ("Url", fetch::shown(&vm.url)),
            ("Md5", vm.md5.clone()),
            ("Cpu", vm.cpu.to_string()),
            ("Mem", vm.mem.to_string()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

fn positive(number: i64) -> Option<usize> {
    usize::try_from(number).ok().filter(|number| *number > 0)
}

/// A relative path is looked up from the working directory, then from the folder of the configuration;
/// a file that is in neither is awaited in the working directory.
fn found(path: &Path, folder: &Path) -> std::path::PathBuf {
    let beside = folder.join(path);
    match !path.exists() && beside.exists() {
        true => beside,
        false => path.to_owned(),
    }
}
