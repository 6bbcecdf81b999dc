//! `stats_matcher`: which figures are not shown.

use schemars::JsonSchema;
use serde::Deserialize;

/// `metrics.stats_matcher`: figures that are counted but not shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Matcher {
    /// Shows nothing of the data plane. Default false.
    pub reject_all: bool,
    /// Names of labels: figures that have one of them, such as `host`, are not shown.
    pub exclusion_labels: Vec<String>,
    /// Names of figures that are not shown, with or without their type: `request_time` or
    /// `downstream_request_time`.
    pub exclusion_keys: Vec<String>,
}

impl Matcher {
    /// Whether the figure `key` of `kind` is shown.
    pub(super) fn shows_key(&self, kind: &str, key: &str) -> bool {
        let excluded = |name: &String| {
            let bare = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('_'));
            name == key || bare == Some(key)
        };
        !self.reject_all && !self.exclusion_keys.iter().any(excluded)
    }

    /// Whether figures with a label called `label` are shown.
    pub(super) fn shows_label(&self, label: &str) -> bool {
        !self.exclusion_labels.iter().any(|name| name == label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_excluded_with_and_without_their_type() {
        let matcher = Matcher {
            exclusion_keys: vec!["request_time".into(), "upstream_request_total".into()],
            ..Matcher::default()
        };
        for (kind, key, shown) in [
            ("downstream", "request_time", false),
            ("upstream", "request_total", false),
            ("downstream", "request_total", true),
            ("downstream", "request_time_total", true),
        ] {
            assert_eq!(matcher.shows_key(kind, key), shown, "{kind} {key}");
        }
    }
}
