//! What the elements of each section look like.

/// What the elements of a section look like besides `type` and `metadata`.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Keys of the element that are settings of the component.
    pub settings: &'static [&'static str],
    /// Keys of the element that upstream reads and overwrites.
    pub ignored: &'static [&'static str],
    /// The element is `{"config": {…}}` and its name is its type.
    pub is_rpc: bool,
    /// Metadata may be a list of objects.
    pub free_metadata: bool,
    /// The element may have `biggerThan`.
    pub has_bounds: bool,
    /// Metadata that the runtime takes, whatever the component's type.
    pub runtime_keys: &'static [&'static str],
}

impl Shape {
    /// The shape of `section`; custom kinds look like any other.
    pub fn of(section: &str) -> Self {
        let plain = Self {
            settings: &[],
            ignored: &["version"],
            is_rpc: false,
            free_metadata: false,
            has_bounds: false,
            runtime_keys: &[],
        };
        match section {
            "hellos" => Self {
                settings: &["hello"],
                ..plain
            },
            "config_store" => Self {
                settings: &["address", "timeout"],
                ignored: &["version", "store_name", "app_id"],
                ..plain
            },
            "rpcs" => Self {
                is_rpc: true,
                ..plain
            },
            "file" | "oss" => Self {
                free_metadata: true,
                ..plain
            },
            "state" | "lock" => Self {
                runtime_keys: &["keyPrefix"],
                ..plain
            },
            "sequencer" => Self {
                has_bounds: true,
                runtime_keys: &["keyPrefix"],
                ..plain
            },
            // Upstream's runtime sets it, so every file may have it.
            "pub_subs" => Self {
                runtime_keys: &["consumerID"],
                ..plain
            },
            _ => plain,
        }
    }
}
