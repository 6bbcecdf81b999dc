//! Upstream's ways to write flags: short flags of two and three letters, long ones after one dash,
//! and flags without a command.

use std::ffi::OsString;

/// Upstream's short flags that clap cannot have, and its long names.
const FLAGS: &[(&str, &str)] = &[
    ("sm", "service-meta"),
    ("sl", "service-lables"),
    ("pns", "pod-namespace"),
    ("pn", "pod-name"),
    ("pi", "pod-ip"),
    ("ll", "logging-level"),
    ("lp", "logging-path"),
];

/// Long flags of `start`, which upstream also takes after a single dash.
const LONG: &[&str] = &[
    "config",
    "data-dir",
    "service-cluster",
    "service-node",
    "service-type",
    "service-meta",
    "service-lables",
    "cluster-domain",
    "pod-namespace",
    "pod-name",
    "pod-ip",
    "feature-gates",
    "log-level",
    "logging-level",
    "logging-path",
    "drain-time-s",
    "log-format",
    "component-log-level",
    "local-address-ip-version",
    "restart-epoch",
    "parent-shutdown-time-s",
    "max-obj-name-len",
    "concurrency",
    "log-format-prefix-with-location",
    "bootstrap-version",
    "drain-strategy",
    "disable-hot-restart",
];

/// The arguments as clap reads them: with `start` where no command is named.
pub(super) fn upstream(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut out: Vec<OsString> = arguments.next().into_iter().collect();
    let rest: Vec<OsString> = arguments.collect();
    let first = rest.first().and_then(|first| first.to_str()).unwrap_or_default();
    let is_help = matches!(
        first,
        "-h" | "--help" | "-V" | "--version" | "-help" | "-v" | "-version"
    );
    let is_start = first == "start" || (first.starts_with('-') && !is_help);
    if is_start && first != "start" {
        out.push("start".into());
    }
    if is_start {
        out.extend(rest.into_iter().map(flag));
    } else if is_help {
        out.push(
            if first.contains(['v', 'V']) {
                "--version"
            } else {
                "--help"
            }
            .into(),
        );
    } else {
        out.extend(rest);
    }
    out
}

fn flag(argument: OsString) -> OsString {
    let Some(written) = argument.to_str().and_then(|text| text.strip_prefix('-')) else {
        return argument;
    };
    let written = written.strip_prefix('-').unwrap_or(written);
    let (name, value) = match written.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (written, None),
    };
    let short = FLAGS
        .iter()
        .find(|(short, _)| *short == name)
        .map(|(_, long)| *long);
    let Some(long) = short.or_else(|| LONG.iter().copied().find(|long| *long == name)) else {
        return argument;
    };
    match value {
        Some(value) => format!("--{long}={value}").into(),
        None => format!("--{long}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from).collect();
        let out = upstream(arguments)
            .into_iter()
            .map(|word| word.into_string().unwrap());
        out.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn takes_upstreams_flags() {
        for (line, expected) in [
            (
                "layotto start -pns ns -sm a=b",
                "layotto start --pod-namespace ns --service-meta a=b",
            ),
            ("layotto -c x.json", "layotto start -c x.json"),
            ("layotto --c x.json", "layotto start --c x.json"),
            ("layotto -config=x.json", "layotto start --config=x.json"),
            ("layotto -ll=debug", "layotto start --logging-level=debug"),
            ("layotto --drain-time-s 5", "layotto start --drain-time-s 5"),
            ("layotto -h", "layotto --help"),
            ("layotto -v", "layotto --version"),
            ("layotto call -pn x", "layotto call -pn x"),
            ("layotto stop", "layotto stop"),
        ] {
            assert_eq!(rewritten(line), expected, "{line}");
        }
    }
}
