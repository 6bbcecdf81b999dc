//! What a plug-in is installed with.

use std::{error, fmt, fs, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest, Md5};
use thiserror::Error;

use crate::{
    guest::{Allowed, Limits},
    hex, pairs,
    plugin::Serving,
    sha256,
};

/// A plug-in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The id of the function, if it does not say itself.
    pub name: Option<String>,
    /// Whether it is a filter of proxied traffic, which no request reaches as a function.
    pub is_filter: bool,
    /// Where its module is.
    pub source: Arc<Source>,
    /// The parent of the contexts of requests.
    pub root_context: u32,
    /// What an instance may take.
    pub limits: Limits,
    /// What it may use of the runtime.
    pub allowed: Allowed,
    /// How requests are served.
    pub serving: Serving,
    /// What the guest gets as the configuration of its virtual machine: names and values.
    pub vm: Vec<(String, String)>,
    /// What the guest gets as the configuration of its plug-in.
    pub user_data: Vec<(String, String)>,
}

impl Config {
    pub(super) fn vm_configuration(&self) -> Bytes {
        pairs::encode(&self.vm).into()
    }

    pub(super) fn configuration(&self) -> Bytes {
        pairs::encode(&self.user_data).into()
    }
}

/// Where a module comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file, the bytes themselves, or where to fetch them.
    pub origin: Origin,
    /// What MD5 of it must be, in hexadecimal; "" if it may be anything. It is not compared again
    /// when the file changes, as upstream does not.
    pub md5: String,
    /// What SHA-256 of it must be, in hexadecimal; "" if it may be anything. It holds for every
    /// version of the file.
    pub sha256: String,
}

/// A file, bytes, or another place.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A file, which is watched.
    File(PathBuf),
    /// Bytes, which do not change.
    Bytes(Bytes),
    /// Somewhere else, where it is fetched from whenever the plug-in is installed or set.
    Remote(Arc<dyn Fetch>),
}

/// Brings the bytes of a module from elsewhere.
#[async_trait]
pub trait Fetch: fmt::Debug + Send + Sync {
    /// Where that is, without secrets: for logs.
    fn place(&self) -> String;

    /// Brings them, of [`LONGEST_MODULE`](crate::LONGEST_MODULE) at most. The error has no secrets.
    async fn fetch(&self) -> Result<Bytes, Box<dyn error::Error + Send + Sync>>;
}

/// The bytes of a module cannot be had.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum SourceError {
    #[error("{} cannot be read", file.display())]
    Read {
        file: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{place} cannot be fetched")]
    Fetch {
        place: String,
        #[source]
        cause: Box<dyn error::Error + Send + Sync>,
    },
    #[error("incorrect hash of wasm bytes: {kind} is {found}, expected {expected}")]
    Checksum {
        kind: &'static str,
        found: String,
        expected: String,
    },
}

impl Source {
    /// A file without a checksum.
    pub fn file(path: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            origin: Origin::File(path.into()),
            md5: String::new(),
            sha256: String::new(),
        })
    }

    /// What comes from elsewhere; it is for [`Source::read`].
    pub(super) async fn fetch(&self) -> Result<Bytes, SourceError> {
        let Origin::Remote(remote) = &self.origin else {
            return Ok(Bytes::new());
        };
        remote.fetch().await.map_err(|cause| SourceError::Fetch {
            place: remote.place(),
            cause,
        })
    }

    /// The bytes and their SHA-256, if the checksums are right; `first`: that of MD5, too.
    pub(super) fn read(&self, fetched: Bytes, first: bool) -> Result<(Bytes, String), SourceError> {
        let bytes = match &self.origin {
            Origin::Bytes(bytes) => bytes.clone(),
            Origin::File(file) => read(file)?,
            Origin::Remote(_) => fetched,
        };
        let sha256 = sha256(&bytes);
        compare("SHA-256", &sha256, &self.sha256)?;
        if first && !self.md5.is_empty() {
            compare("MD5", &hex(&Md5::digest(&bytes)), &self.md5)?;
        }
        Ok((bytes, sha256))
    }
}

fn read(file: &PathBuf) -> Result<Bytes, SourceError> {
    let read = fs::read(file).map_err(|cause| SourceError::Read {
        file: file.clone(),
        cause,
    });
    Ok(read?.into())
}

fn compare(kind: &'static str, found: &str, expected: &str) -> Result<(), SourceError> {
    match expected.is_empty() || found.eq_ignore_ascii_case(expected) {
        true => Ok(()),
        false => Err(SourceError::Checksum {
            kind,
            found: found.to_owned(),
            expected: expected.to_owned(),
        }),
    }
}
