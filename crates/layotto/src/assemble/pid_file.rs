//! The pid file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::data_dir::DataDir;

/// The file that tells `layotto stop` whom to end; removed at the end.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes this process down, in the configured file or in the data directory.
    pub fn write(configured: Option<&Path>, data_dir: &DataDir) -> anyhow::Result<Self> {
        let path = configured.map_or_else(|| data_dir.path().join("layotto.pid"), Path::to_owned);
        let write = || -> io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, format!("{}\n", std::process::id()))
        };
        write().with_context(|| format!("pid file {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another process that was given the same file has written itself down by now.
        let holder = fs::read_to_string(&self.0).unwrap_or_default();
        if holder.trim() != std::process::id().to_string() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "pid file not removed");
        }
    }
}
