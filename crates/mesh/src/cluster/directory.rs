//! Clusters from the configuration and from a directory of files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use layotto_core::Settings;
use serde_json::Value;

use super::config::{ClusterConfig, ClusterManager};
use crate::{ConfigError, paths};

/// The clusters of `manager`, each with the path that errors are under.
pub(super) fn clusters(
    manager: &ClusterManager,
    folders: &[PathBuf],
) -> Result<Vec<(String, ClusterConfig)>, ConfigError> {
    let listed = manager.clusters.iter().enumerate();
    match manager.clusters_configs.as_str() {
        "" => Ok(listed
            .map(|(n, config)| (format!("clusters[{n}]"), config.clone()))
            .collect()),
        _ if !manager.clusters.is_empty() => Err(ConfigError::new(
            "clusters_configs",
            "clusters are listed in \"clusters\" already; only one of the two is accepted",
        )),
        directory => read(&paths::find(directory, folders)),
    }
}

fn read(directory: &Path) -> Result<Vec<(String, ClusterConfig)>, ConfigError> {
    let wrong = |error| ConfigError::new("clusters_configs", format!("{}: {error}", directory.display()));
    let entries = fs::read_dir(directory).map_err(wrong)?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(wrong)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort_unstable();
    paths.iter().map(|path| file(path)).collect()
}

fn file(path: &Path) -> Result<(String, ClusterConfig), ConfigError> {
    let at = format!("clusters_configs({})", path.display());
    let wrong = |error: String| ConfigError::new(&at, error);
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let Value::Object(map) = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))? else {
        return Err(wrong("one cluster is expected, as an object".into()));
    };
    let parsed = Settings::new(map)
        .parse::<ClusterConfig>()
        .map_err(|error| ConfigError::new(error.path, error.message).under(&at))?;
    if !parsed.unknown.is_empty() {
        tracing::warn!(file = %path.display(), keys = ?parsed.unknown, "keys of a cluster that nothing reads");
    }
    Ok((at, parsed.config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(directory: &Path) -> ClusterManager {
        ClusterManager {
            clusters_configs: directory.to_str().unwrap().into(),
            ..ClusterManager::default()
        }
    }

    #[test]
    fn every_json_file_is_a_cluster() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name, text| fs::write(directory.path().join(name), text).unwrap();
        write(
            "b.json",
            r#"{"name": "b", "hosts": [{"address": "h:1", "weight": 3}]}"#,
        );
        write("a.json", r#"{"name": "a", "connect_timeout": "2s"}"#);
        write("notes.txt", "not read");
        let found = clusters(&manager(directory.path()), &[]).unwrap();
        let names: Vec<_> = found.iter().map(|(_, config)| config.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(found[1].1.hosts[0].weight, 3);
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        fs::write(&path, r#"{"name": "a", "connect_timeout": "soon"}"#).unwrap();
        let error = clusters(&manager(directory.path()), &[]).unwrap_err();
        assert_eq!(
            error.path,
            format!("clusters_configs({}).connect_timeout", path.display())
        );
        fs::write(&path, "[]").unwrap();
        assert!(clusters(&manager(directory.path()), &[]).is_err());
        let nowhere = manager(&directory.path().join("nowhere"));
        assert_eq!(clusters(&nowhere, &[]).unwrap_err().path, "clusters_configs");
    }

    #[test]
    fn a_list_and_a_directory_do_not_go_together() {
        let both = ClusterManager {
            clusters: vec![ClusterConfig::default()],
            ..manager(Path::new("."))
        };
        assert_eq!(clusters(&both, &[]).unwrap_err().path, "clusters_configs");
    }
}
