//! Compiled modules on disk. A file is named after the content it was compiled from and the engine
//! that did it, and is believed only if nobody else can have written it and its digest, kept beside
//! it, is right: what is in it runs as native code.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ring::digest;
use thiserror::Error;
use tracing::warn;
use wasmtime::Module;

use crate::hex;

/// All files together hold no more than this many bytes; the oldest go first.
const MOST: u64 = 1 << 30;

/// A compiled module could not be kept.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    #[error("not serialized")]
    Serialize(wasmtime::Error),
    #[error("not written")]
    Write(#[from] io::Error),
}

impl StoreError {
    /// With its cause, for a log.
    pub(super) fn display(&self) -> String {
        match self {
            Self::Serialize(cause) => format!("{self}: {cause}"),
            Self::Write(cause) => format!("{self}: {cause}"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// Of the engine: version, target, settings.
    environment: u64,
}

impl Cache {
    /// Uses `folder`, which must be this user's alone.
    pub(super) fn open(folder: PathBuf, engine: &wasmtime::Engine) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        if !ours(&fs::metadata(&folder)?) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the folder belongs to others, or others may write to it",
            ));
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        Ok(Self {
            folder,
            environment: hasher.finish(),
        })
    }

    /// The name under which the module is kept whose bytes have this SHA-256.
    pub(super) fn key(&self, sha256: &str) -> String {
        format!("{sha256}-{:016x}", self.environment)
    }

    /// The module of `key`, if it is there and can be believed.
    pub(super) fn load(&self, engine: &wasmtime::Engine, key: &str) -> Option<Module> {
        let path = self.path(key);
        let file = File::open(&path).ok()?;
        let loaded = self.verify(&file, key).and_then(|()| map(engine, file));
        loaded
            .inspect_err(|error| warn!(file = %path.display(), %error, "cached module refused"))
            .ok()
    }

    /// The digest is taken from the open file, which is the one that is mapped afterwards.
    fn verify(&self, file: &File, key: &str) -> Result<(), Refused> {
        let expected = fs::read(self.path(key).with_extension("sha256")).map_err(|_| Refused::Digest)?;
        if !ours(&file.metadata().map_err(|_| Refused::Foreign)?) {
            return Err(Refused::Foreign);
        }
        match digest_of(file) {
            Ok(found) if hex(found.as_ref()).as_bytes() == expected => Ok(()),
            _ => Err(Refused::Digest),
        }
    }

    /// Keeps `module`. Files appear whole or not at all.
    pub(super) fn store(&self, module: &Module, key: &str) -> Result<(), StoreError> {
        let bytes = module.serialize().map_err(StoreError::Serialize)?;
        self.make_room(bytes.len() as u64)?;
        let sum = hex(digest::digest(&digest::SHA256, &bytes).as_ref());
        let path = self.path(key);
        self.write(&path.with_extension("sha256"), sum.as_bytes())?;
        self.write(&path, &bytes)?;
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.folder.join(format!("{:016x}.tmp", fastrand::u64(..)));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&temporary, path));
        written.inspect_err(|_| {
            // Nothing more can be done about a file that cannot be removed either.
            drop(fs::remove_file(&temporary));
        })
    }

    fn make_room(&self, needed: u64) -> io::Result<()> {
        let mut files: Vec<_> = fs::read_dir(&self.folder)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let facts = entry.metadata().ok()?;
                Some((facts.mtime(), facts.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if total + needed <= MOST {
                break;
            }
            fs::remove_file(path)?;
            total -= length;
        }
        Ok(())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.cwasm"))
    }
}

/// Why a file is not used.
#[derive(Debug, Error)]
enum Refused {
    #[error("it belongs to others, or others may write to it")]
    Foreign,
    #[error("its digest is missing or wrong")]
    Digest,
    #[error("made by another engine: {0}")]
    Engine(wasmtime::Error),
}

#[allow(unsafe_code)]
fn map(engine: &wasmtime::Engine, file: File) -> Result<Module, Refused> {
    // SAFETY: the file must be what `Module::serialize` made, and must not change while it is mapped.
    // Its digest is that of what `store` wrote, only this user may write to it, and `store` replaces
    // files by others and never writes to one that has its name.
    unsafe { Module::deserialize_open_file(engine, file) }.map_err(Refused::Engine)
}

/// Whether nobody but this user (and root) can have written it.
fn ours(facts: &fs::Metadata) -> bool {
    facts.uid() == rustix::process::geteuid().as_raw() && facts.mode() & 0o022 == 0
}

fn digest_of(mut file: &File) -> io::Result<digest::Digest> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(context.finish()),
            read => context.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}
