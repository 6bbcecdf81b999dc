use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::Request;
use hyper::body::Incoming;
use layotto_core::Secret;
use layotto_mesh::{
    connection::Info,
    listener::{Config, Protocol},
    tap::{ConnectionTap, ReadTap},
    tls::{
        TlsContext,
        client::{Connector, TlsStream},
        server::{Acceptor, Options, Slot},
    },
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tower::service_fn;

use crate::support::{Server, get, grpc, hello, http1, http2, loopback, text, until_closed};

/// The contexts of a server and of a client that trusts it.
fn contexts() -> (TlsContext, TlsContext) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let server = TlsContext {
        status: true,
        cert_chain: cert.pem(),
        private_key: Secret::new(signing_key.serialize_pem()),
        ..TlsContext::default()
    };
    let client = TlsContext {
        status: true,
        ca_cert: cert.pem(),
        server_name: "a.test".into(),
        ..TlsContext::default()
    };
    (server, client)
}

fn secured(context: TlsContext, options: &Options) -> Config {
    let mut config = loopback();
    config.tls = Slot::new(Acceptor::build(&[context], options).unwrap());
    config
}

async fn connect(
    context: &TlsContext,
    alpn: &str,
    address: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut context = context.clone();
    context.alpn = alpn.into();
    let connector = Connector::new(&context, &[]).unwrap().unwrap();
    connector.connect(TcpStream::connect(address).await?, "").await
}

#[tokio::test]
async fn requests_of_both_versions_go_through_tls() {
    let (server, client) = contexts();
    let server = Server::start(&secured(server, &Options::default()), service_fn(hello)).await;
    let (mut one, _) = http1(connect(&client, "http/1.1", server.tcp()).await.unwrap()).await;
    assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "hello");
    let (mut two, _) = http2(connect(&client, "h2", server.tcp()).await.unwrap()).await;
    assert_eq!(text(two.send_request(grpc("/")).await.unwrap()).await, "hello");
    // Without ALPN, the first bytes tell.
    let (mut two, _) = http2(connect(&client, "", server.tcp()).await.unwrap()).await;
    assert_eq!(text(two.send_request(grpc("/")).await.unwrap()).await, "hello");
}

#[tokio::test]
async fn a_client_must_speak_what_it_agreed_on() {
    let (server, client) = contexts();
    let server = Server::start(&secured(server, &Options::default()), service_fn(hello)).await;
    let mut stream = connect(&client, "h2", server.tcp()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(until_closed(&mut stream).await.is_empty());
}

#[tokio::test]
async fn a_listener_agrees_only_on_what_it_speaks() {
    let (server, client) = contexts();
    let options = Options {
        protocol: Protocol::Http1,
        ..Options::default()
    };
    let server = Server::start(&secured(server, &options), service_fn(hello)).await;
    connect(&client, "h2", server.tcp()).await.unwrap_err();
    let stream = connect(&client, "h2,http/1.1", server.tcp()).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn plain_text_is_served_beside_tls_with_the_inspector_only() {
    for inspector in [true, false] {
        let (context, client) = contexts();
        let options = Options {
            inspector,
            ..Options::default()
        };
        let server = Server::start(&secured(context, &options), service_fn(hello)).await;
        let mut plain = server.connect().await;
        plain
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let answer = until_closed(&mut plain).await;
        assert_eq!(answer.ends_with(b"hello"), inspector);
        let (mut one, _) = http1(connect(&client, "", server.tcp()).await.unwrap()).await;
        assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "hello");
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_is_cut() {
    let (server, _) = contexts();
    let mut config = secured(server, &Options::default());
    config.header_timeout = std::time::Duration::from_millis(50);
    let server = Server::start(&config, service_fn(hello)).await;
    let mut client = server.connect().await;
    client.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    assert!(until_closed(&mut client).await.is_empty());
}

#[tokio::test]
async fn a_new_configuration_concerns_connections_to_come() {
    let (context, client) = contexts();
    let config = secured(context, &Options::default());
    let server = Server::start(&config, service_fn(hello)).await;
    let (mut old, _) = http1(connect(&client, "", server.tcp()).await.unwrap()).await;
    assert_eq!(text(old.send_request(get("/")).await.unwrap()).await, "hello");
    let (context, next) = contexts();
    config
        .tls
        .set(Acceptor::build(&[context], &Options::default()).unwrap());
    connect(&client, "", server.tcp()).await.unwrap_err();
    let (mut new, _) = http1(connect(&next, "", server.tcp()).await.unwrap()).await;
    assert_eq!(text(new.send_request(get("/")).await.unwrap()).await, "hello");
    old.ready().await.unwrap();
    assert_eq!(text(old.send_request(get("/")).await.unwrap()).await, "hello");
    config.tls.set(None);
    let (mut plain, _) = http1(server.connect().await).await;
    assert_eq!(text(plain.send_request(get("/")).await.unwrap()).await, "hello");
}

/// How many connections were opened, and the bytes of all of them.
#[derive(Default, Clone)]
struct Notes(Arc<Mutex<(usize, Vec<u8>)>>);

impl ReadTap for Notes {
    fn open(&self, connection: &Info) -> Option<Box<dyn ConnectionTap>> {
        assert_eq!(connection.listener(), "test");
        assert!(connection.local().tcp().is_some() && connection.tls().is_some());
        self.0.lock().unwrap().0 += 1;
        Some(Box::new(self.clone()))
    }
}

impl ConnectionTap for Notes {
    fn read(&mut self, bytes: &[u8]) {
        self.0.lock().unwrap().1.extend_from_slice(bytes);
    }
}

#[tokio::test]
async fn taps_and_counters_see_each_byte_once_and_in_clear_text() {
    let (context, client) = contexts();
    let mut config = secured(context, &Options::default());
    let notes = Notes::default();
    config.taps = vec![Arc::new(notes.clone())];
    let server = Server::start(&config, service_fn(hello)).await;
    let mut stream = connect(&client, "http/1.1", server.tcp()).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert_eq!(*notes.0.lock().unwrap(), (1, request.to_vec()));
    let connections = server.connections;
    assert_eq!(
        (connections.bytes_read(), connections.bytes_written()),
        (request.len() as u64, answer.len() as u64)
    );
}

#[tokio::test]
async fn a_request_knows_who_its_client_is() {
    let (mut context, mut client) = contexts();
    context.ca_cert.clone_from(&context.cert_chain);
    context.verify_client = true;
    context.require_client_cert = true;
    client.cert_chain.clone_from(&context.cert_chain);
    client.private_key = context.private_key.clone();
    let config = secured(context, &Options::default());
    let service = service_fn(|request: Request<Incoming>| async move {
        let peer = Info::of(request.extensions()).unwrap().tls().unwrap().clone();
        let told = (
            peer.server_name.as_deref(),
            peer.certificate.is_some(),
            peer.alpn.as_deref(),
        );
        let right = told == (Some("a.test"), true, Some(&b"h2"[..]));
        Ok::<_, std::convert::Infallible>(http::Response::new(right.to_string()))
    });
    let server = Server::start(&config, service).await;
    let (mut two, _) = http2(connect(&client, "h2", server.tcp()).await.unwrap()).await;
    assert_eq!(text(two.send_request(grpc("/")).await.unwrap()).await, "true");
}
