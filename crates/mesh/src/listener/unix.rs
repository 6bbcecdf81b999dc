//! A Unix socket and its file: made without a moment of wider rights, replaced only when nobody
//! answers, removed only while it is still ours.

use std::{
    fs::File,
    io::{self, ErrorKind},
    mem,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, chmod, fchmod, flock},
    io::Errno,
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{net::UnixStream, time::sleep};

use super::{Config, error::Cause};

const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A listening Unix socket that removes its file when it is dropped.
#[derive(Debug)]
pub(super) struct UnixSocket {
    // Dropped before the socket: the inode number cannot be given to another file while the socket
    // holds it, and a newcomer finds a socket that answers until the file is gone.
    file: Arc<SocketFile>,
    socket: UnixListener,
}

/// The file of a socket, known by its inode.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

pub(super) async fn bind(path: &Path, config: &Config) -> Result<UnixSocket, Cause> {
    let _lock = lock_directory(path).await?;
    remove_stale(path).await?;

    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let mode = Mode::from_raw_mode(config.socket_mode);
    // The file inherits the mode that the socket has when it is bound, less the umask. What the
    // umask took is given back below; nobody can connect before `listen`.
    fchmod(&socket, mode)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = Arc::new(SocketFile::at(path)?);
    chmod(path, mode)?;
    socket.listen(config.backlog.into())?;
    Ok(UnixSocket {
        file,
        socket: socket.into(),
    })
}

/// Locks the socket's directory, so that of two processes which find the same stale socket one
/// replaces it and the other finds it replaced.
async fn lock_directory(path: &Path) -> Result<File, Cause> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = File::open(directory)?;
    for _ in 0..LOCK_TRIES {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::WOULDBLOCK) => sleep(LOCK_PAUSE).await,
            // A file system without locks: the race is then a risk, not a reason to serve nobody.
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => return Ok(directory),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Cause::DirectoryBusy)
}

async fn remove_stale(path: &Path) -> Result<(), Cause> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(Cause::NotASocket),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error.into()),
        // It answers, has a full queue, or is a socket of another type: somebody's, in any case.
        Ok(_) | Err(_) => Err(Cause::InUse),
    }
}

impl UnixSocket {
    /// The socket alone; its file stays.
    pub(super) fn into_std(self) -> UnixListener {
        let Self { file, socket } = self;
        mem::forget(file);
        socket
    }

    /// The socket for an accept loop, and what removes the file when it is dropped.
    pub(super) fn into_parts(self) -> (Arc<SocketFile>, UnixListener) {
        (self.file, self.socket)
    }

    /// The same socket once more. The file is removed with the last of them.
    pub(super) fn twin(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.clone(),
            socket: self.socket.try_clone()?,
        })
    }
}

impl AsFd for UnixSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        // Absolute, as the working directory may be another one when the file is removed.
        let path = std::path::absolute(path)?;
        let inode = inode(&path)?;
        Ok(Self { path, inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|found| found == self.inode)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = path.symlink_metadata()?;
    Ok((found.dev(), found.ino()))
}
