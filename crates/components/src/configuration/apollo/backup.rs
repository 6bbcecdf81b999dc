//! What was read last, in files, for a start while Apollo is away.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::client::apollo::Release;

/// The files of one application and cluster.
#[derive(Debug)]
pub(super) struct Backup {
    folder: PathBuf,
    start: String,
}

impl Backup {
    /// Files below `data_dir`; none is made yet.
    pub(super) fn new(data_dir: &Path, app_id: &str, cluster: &str) -> Self {
        Self {
            folder: data_dir.join("apollo"),
            start: format!("{}+{}+", escape(app_id), escape(cluster)),
        }
    }

    fn path(&self, namespace: &str) -> PathBuf {
        self.folder
            .join(format!("{}{}.json", self.start, escape(namespace)))
    }

    /// Keeps a release, or forgets the one that was kept. That it cannot is logged: the release was
    /// read all the same.
    pub(super) async fn write(&self, namespace: &str, release: Option<&Arc<Release>>) {
        let path = self.path(namespace);
        let text = release
            .map(|release| json!({"releaseKey": release.key, "configurations": release.items}).to_string());
        let written = tokio::task::spawn_blocking(move || match text {
            Some(text) => replace(&path, text.as_bytes()),
            None => remove(&path),
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, namespace, "what Apollo released is not kept on disk");
        }
    }

    /// The release that was kept last, if one was and it is whole.
    pub(super) async fn read(&self, namespace: &str) -> Option<Release> {
        let path = self.path(namespace);
        let text = tokio::task::spawn_blocking(move || fs::read(path).ok())
            .await
            .ok()??;
        let kept: Value = serde_json::from_slice(&text).ok()?;
        Some(Release {
            key: kept["releaseKey"].as_str()?.to_owned(),
            items: serde_json::from_value(kept["configurations"].clone()).ok()?,
        })
    }
}

/// Whoever reads `path` finds the old text or the new one, whole.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let draft = path.with_extension(format!("{:x}", fastrand::u64(..)));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&draft)))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn escape(part: &str) -> String {
    percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
}
