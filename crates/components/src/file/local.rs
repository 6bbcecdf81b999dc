//! Files of this machine, by default only those below one directory.

mod failure;
mod listing;
mod open_flags;
mod reach;
mod upload;

use std::{fs::File, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use layotto_core::{
    Component, Context, Error, Metadata, Open, Result,
    file::{Content, FileStore, List, Page, Stat},
};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::{failure::Failure, open_flags::OpenFlags, reach::Reach, upload::Upload};

/// The most bytes in one piece of a file that is read.
const PIECE: usize = 102_400;

/// Keeps files in a directory of this machine. Choose it for development, for a single machine,
/// and where the directory is a mounted network share. The flags of a file that is written decide
/// whether old content is replaced, kept or appended to; confined, a new or replaced file appears
/// once its content is complete, and its directories are made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LocalConfig {
    /// The directory that holds the files; made at the first write. Default: `files` in the data
    /// directory.
    pub root: Option<PathBuf>,
    /// Whether names are kept below `root`. Default `on`.
    pub confine: Confine,
}

/// Which files a caller may name.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confine {
    /// Names relative to `root` and absolute names below it; everything else is refused.
    #[default]
    On,
    /// Any file that the process may touch, relative names from the working directory.
    Off,
}

/// The component `local`.
#[derive(Debug)]
pub struct Local {
    reach: Arc<Reach>,
}

impl Open for Local {
    const TYPE: &'static str = "local";
    type Config = LocalConfig;

    async fn open(config: LocalConfig, cx: Context) -> Result<Self> {
        let reach = match config.confine {
            Confine::Off => Reach::Anywhere,
            Confine::On => {
                let root = match config.root {
                    Some(root) => cx.resolve(root),
                    None => cx.data_dir.join("files"),
                };
                Reach::below(root)
                    .map_err(|error| Error::invalid("root cannot be used").with_source(error))?
            }
        };
        Ok(Self {
            reach: Arc::new(reach),
        })
    }
}

impl Local {
    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reach) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reach = self.reach.clone();
        off_thread(move || work(&reach)).await
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::internal("the file operation was given up").with_source(error)),
    }
}

#[async_trait]
impl Component for Local {}

#[async_trait]
impl FileStore for Local {
    async fn get(&self, name: &str, _: &Metadata) -> Result<Content> {
        let name = name.to_owned();
        let (first, rest) = self
            .blocking(move |reach| Reader::open(reach, name)?.next_piece())
            .await?;
        let rest = stream::try_unfold(rest, |reader| async move {
            // One piece for one poll: a slow reader holds no thread and no more than a piece.
            let Some(reader) = reader else { return Ok(None) };
            let (piece, rest) = off_thread(move || reader.next_piece()).await?;
            Ok(piece.map(|piece| (piece, rest)))
        });
        Ok(stream::iter(first).map(Ok).chain(rest).boxed())
    }

    async fn put(&self, name: &str, metadata: &Metadata, mut content: Content) -> Result<()> {
        let flags = OpenFlags::from_metadata(metadata)?;
        let name = name.to_owned();
        let open = move |reach: &Reach| Upload::open(reach, name, flags);
        let mut upload = self.blocking(open).await?;
        while let Some(piece) = content.try_next().await? {
            upload = off_thread(move || upload.write(&piece)).await?;
        }
        off_thread(move || upload.finish()).await
    }

    async fn list(&self, request: &List) -> Result<Page> {
        let request = request.clone();
        self.blocking(move |reach| listing::list(reach, &request)).await
    }

    async fn delete(&self, name: &str, _: &Metadata) -> Result<()> {
        let name = name.to_owned();
        self.blocking(move |reach| {
            reach
                .remove(&name)
                .map_err(|failure| failure.during("remove", &name))
        })
        .await
    }

    async fn stat(&self, name: &str, _: &Metadata) -> Result<Stat> {
        let name = name.to_owned();
        self.blocking(move |reach| {
            let found = reach
                .open(&name, OFlags::PATH, Mode::empty())
                .and_then(|fd| Ok(rustix::fs::fstat(fd)?));
            found
                .map(|found| listing::stat(&found))
                .map_err(|failure| failure.of_stat(&name))
        })
        .await
    }
}

/// A file that is read piece by piece.
struct Reader {
    file: File,
    name: String,
    size: u64,
    position: u64,
}

impl Reader {
    fn open(reach: &Reach, name: String) -> Result<Self> {
        // Without NONBLOCK, opening a named pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let opened = reach.open(&name, flags, Mode::empty()).and_then(|fd| {
            let found = rustix::fs::fstat(&fd)?;
            Ok((File::from(fd), found))
        });
        let (file, found) = opened.map_err(|failure| failure.during("open", &name))?;
        if FileType::from_raw_mode(found.st_mode).is_dir() {
            return Err(Failure::Os(Errno::ISDIR).during("read", &name));
        }
        reach
            .admit(&file)
            .map_err(|failure| failure.during("open", &name))?;
        Ok(Self {
            file,
            name,
            size: u64::try_from(found.st_size).unwrap_or(0),
            position: 0,
        })
    }

    /// The next piece, and the reader when there may be more.
    fn next_piece(mut self) -> Result<(Option<Bytes>, Option<Self>)> {
        let mut piece = Vec::with_capacity(PIECE);
        let read = rustix::io::retry_on_intr(|| {
            rustix::io::read(&self.file, rustix::buffer::spare_capacity(&mut piece))
        });
        let read = read.map_err(|errno| Failure::Os(errno).during("read", &self.name))?;
        if read == 0 {
            return Ok((None, None));
        }
        self.position += read as u64;
        piece.shrink_to_fit();
        // Saves the read that would only find the end; files of /proc say that they are empty.
        let ended = read < PIECE && self.size > 0 && self.position >= self.size;
        Ok((Some(piece.into()), (!ended).then_some(self)))
    }
}

#[cfg(test)]
mod tests;
