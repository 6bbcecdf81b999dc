use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::tls::{
    server::{Acceptor, Options},
    testing::Authority,
};

/// Connects to a server with a certificate for `a.test` and 127.0.0.1.
async fn connect(
    authority: &Authority,
    context: &TlsContext,
    name: &str,
    protocols: &[Protocol],
) -> io::Result<Option<Protocol>> {
    let server = authority.server(&["a.test", "127.0.0.1"]);
    let acceptor = Acceptor::build(&[server], &Options::default()).unwrap().unwrap();
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let serve = async {
        let (stream, _) = socket.accept().await?;
        acceptor.accept(stream).await?.0.write_all(b"x").await
    };
    let ask = async {
        let connector = Connector::new(context, &[]).unwrap().unwrap();
        let stream = TcpStream::connect(address).await?;
        let mut stream = connector.connect_for(stream, name, protocols).await?;
        stream.read_u8().await?;
        Ok(agreed(&stream))
    };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn a_server_must_prove_the_name_that_it_is_asked_for() {
    let authority = Authority::new();
    let client = authority.client();
    for name in ["a.test", "127.0.0.1"] {
        connect(&authority, &client, name, &[]).await.unwrap();
    }
    for name in ["b.test", "127.0.0.2"] {
        connect(&authority, &client, name, &[]).await.unwrap_err();
    }
}

#[tokio::test]
async fn server_name_replaces_the_name_of_the_host() {
    let authority = Authority::new();
    let mut client = authority.client();
    client.server_name = "a.test".into();
    connect(&authority, &client, "10.0.0.1", &[]).await.unwrap();
    client.server_name = "b.test".into();
    connect(&authority, &client, "a.test", &[]).await.unwrap_err();
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_unless_verification_is_skipped() {
    let authority = Authority::new();
    let mut stranger = Authority::new().client();
    connect(&authority, &stranger, "a.test", &[]).await.unwrap_err();
    stranger.insecure_skip = true;
    connect(&authority, &stranger, "b.test", &[]).await.unwrap();
}

#[tokio::test]
async fn alpn_of_the_context_goes_before_what_requests_need() {
    let authority = Authority::new();
    let mut client = authority.client();
    let both = [Protocol::Http2, Protocol::Http1];
    let spoken = connect(&authority, &client, "a.test", &both).await.unwrap();
    assert_eq!(spoken, Some(Protocol::Http2));
    let spoken = connect(&authority, &client, "a.test", &[]).await.unwrap();
    assert_eq!(spoken, None);
    client.alpn = "http/1.1".into();
    let spoken = connect(&authority, &client, "a.test", &both).await.unwrap();
    assert_eq!(spoken, Some(Protocol::Http1));
}

#[test]
fn a_name_that_is_none_is_an_error() {
    let mut client = Authority::new().client();
    client.server_name = "a b".into();
    assert_eq!(Connector::new(&client, &[]).unwrap_err().path, "server_name");
}
