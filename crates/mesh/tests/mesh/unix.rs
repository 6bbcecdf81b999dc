use std::{
    convert::Infallible,
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::PathBuf,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use layotto_mesh::{
    Listener,
    connection::{Info, Local, Remote},
    listener::{Config, StdSocket},
};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tower::service_fn;

use crate::support::{Server, get, hello, http1, text};

/// A directory and a listener's settings for a socket in it.
fn socket() -> (TempDir, PathBuf, Config) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.sock");
    let config = Config::new("uds", path.clone());
    (directory, path, config)
}

async fn who(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let info = Info::of(request.extensions()).unwrap();
    Ok(Response::new(Full::from(format!(
        "{:?} at {} of {}",
        info.remote(),
        info.local(),
        info.listener()
    ))))
}

#[tokio::test]
async fn serves_and_knows_the_peer() {
    let (_directory, path, config) = socket();
    let server = Server::start(&config, service_fn(who)).await;
    assert_eq!(server.local, Local::Unix(path.as_path().into()));
    let (mut client, _) = http1(UnixStream::connect(&path).await.unwrap()).await;
    let remote = Remote::Unix {
        uid: rustix::process::getuid().as_raw(),
        pid: Some(rustix::process::getpid().as_raw_nonzero().get()),
    };
    let answer = text(client.send_request(get("/")).await.unwrap()).await;
    assert_eq!(answer, format!("{remote:?} at {} of uds", path.display()));
}

#[tokio::test]
async fn connections_are_numbered_from_one() {
    let (_directory, path, config) = socket();
    let number = |request: Request<Incoming>| async move {
        let number = Info::of(request.extensions()).unwrap().number();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(number.to_string())))
    };
    let _server = Server::start(&config, service_fn(number)).await;
    for expected in ["1", "2"] {
        let (mut client, _) = http1(UnixStream::connect(&path).await.unwrap()).await;
        assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, expected);
    }
}

#[tokio::test]
async fn the_file_is_for_owner_and_group_and_goes_with_the_listener() {
    let (_directory, path, config) = socket();
    let server = Server::start(&config, service_fn(hello)).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
    server.signal.drain().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let (_directory, path, config) = socket();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _server = Server::start(&config, service_fn(hello)).await;
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn a_live_socket_is_in_use() {
    let (_directory, path, config) = socket();
    let first = Listener::bind(&config).await.unwrap();
    let error = Listener::bind(&config).await.unwrap_err();
    assert!(error.is_in_use());
    let expected = format!(
        "listener \"uds\": cannot listen on {}: address already in use",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    drop(first);
    Listener::bind(&config).await.unwrap();
}

#[tokio::test]
async fn a_socket_with_a_full_queue_is_in_use() {
    let (_directory, path, mut config) = socket();
    config.backlog = 0;
    let _first = Listener::bind(&config).await.unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = UnixStream::connect(&path).await {
        queued.push(stream);
    }
    assert!(Listener::bind(&config).await.unwrap_err().is_in_use());
}

#[tokio::test]
async fn of_many_that_find_a_stale_socket_one_gets_it() {
    let (_directory, path, config) = socket();
    drop(UnixListener::bind(&path).unwrap());
    let bound = futures::future::join_all((0..8).map(|_| Listener::bind(&config))).await;
    let (won, lost): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|lost| lost.unwrap_err().is_in_use()));
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let (directory, path, config) = socket();
    fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&config).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(": a file that is not a socket is there"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

    let link = directory.path().join("link.sock");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    Listener::bind(&Config::new("uds", link.clone()))
        .await
        .unwrap_err();
    assert!(link.is_symlink());
}

#[tokio::test]
async fn a_file_that_is_not_ours_any_more_stays() {
    let (_directory, path, config) = socket();
    let server = Server::start(&config, service_fn(hello)).await;
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    server.signal.drain().await;
    assert!(path.exists());
}

#[tokio::test]
async fn a_socket_handed_on_keeps_its_file() {
    let (_directory, path, config) = socket();
    let StdSocket::Unix(_socket) = Listener::bind(&config).await.unwrap().into_std() else {
        panic!("not a Unix socket");
    };
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn a_missing_directory_is_an_error() {
    let error = Listener::bind(&Config::new("uds", PathBuf::from("/no/such/l.sock")))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "listener \"uds\": cannot listen on /no/such/l.sock: no such directory"
    );
}
