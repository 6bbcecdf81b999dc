use std::os::fd::AsFd;

use layotto_mesh::{
    Address, Listener,
    connection::Local,
    listener::{Config, StdSocket},
};
use tower::service_fn;

use crate::support::{Server, get, hello, http1, loopback, text, until_closed};

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_listener_and_address() {
    let first = Listener::bind(&loopback()).await.unwrap();
    let taken = first.local_addr().tcp().unwrap();
    let error = Listener::bind(&Config::new("grpc", taken)).await.unwrap_err();
    assert!(error.is_in_use());
    assert_eq!(
        error.to_string(),
        format!("listener \"grpc\": cannot listen on {taken}: address already in use")
    );
}

#[tokio::test]
async fn a_port_taken_on_one_family_is_not_dodged_on_the_other() {
    let first = Listener::bind(&loopback()).await.unwrap();
    let port = first.local_addr().tcp().unwrap().port();
    let localhost = Address::Tcp {
        host: "localhost".into(),
        port,
    };
    assert!(
        Listener::bind(&Config::new("grpc", localhost))
            .await
            .unwrap_err()
            .is_in_use()
    );
}

#[tokio::test]
async fn an_unknown_host_is_an_error() {
    let address = "no.such.host.invalid:1".parse::<Address>().unwrap();
    let error = Listener::bind(&Config::new("grpc", address)).await.unwrap_err();
    let text = error.to_string();
    let expected =
        "listener \"grpc\": cannot listen on no.such.host.invalid:1: the host cannot be looked up: ";
    assert!(text.starts_with(expected), "{text}");
}

#[tokio::test]
async fn an_empty_host_serves_ipv4_clients() {
    let config = Config::new("test", ":0".parse::<Address>().unwrap());
    let server = Server::start(&config, service_fn(hello)).await;
    let port = server.tcp().port();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut client, _) = http1(stream).await;
    assert_eq!(text(client.send_request(get("/")).await.unwrap()).await, "hello");
}

#[tokio::test]
async fn a_port_can_be_bound_again_right_after_a_drain() {
    let server = Server::start(&loopback(), service_fn(hello)).await;
    let address = server.tcp();
    let mut client = server.connect().await;
    // The server closes first, so its end lingers in TIME_WAIT.
    server.signal.drain().await;
    until_closed(&mut client).await;
    Listener::bind(&Config::new("again", address)).await.unwrap();
}

#[tokio::test]
async fn a_listener_can_be_taken_apart_before_it_serves() {
    let listener = Listener::bind(&loopback()).await.unwrap();
    let address = listener.local_addr().clone();
    assert!(rustix::net::getsockname(listener.as_fd()).is_ok());
    let StdSocket::Tcp(socket) = listener.into_std() else {
        panic!("not TCP");
    };
    assert_eq!(Local::Tcp(socket.local_addr().unwrap()), address);
}
