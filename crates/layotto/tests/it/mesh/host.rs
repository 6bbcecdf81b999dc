//! A host whose connections a test has in its hands.

use std::{future::Future, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A port, and who comes to it.
pub struct Host(TcpListener);

impl Host {
    /// On a free port.
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Where it is.
    pub fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    /// The next connection.
    pub async fn accept(&self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }

    /// The next connection, after something has come over it: a request that is short.
    pub async fn asked(&self) -> TcpStream {
        let mut stream = self.accept().await;
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        stream
    }

    /// Gives `asking` up once the host is asked; the connection, on which nobody answered.
    pub async fn given_up<T>(&self, asking: impl Future<Output = T>) -> TcpStream {
        // Dropping a request closes the connection of the client.
        tokio::select! {
            _ = asking => panic!("there is no reply"),
            stream = self.asked() => stream,
        }
    }
}

/// Answers with `text`.
pub async fn answer(stream: &mut TcpStream, text: &str) {
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    stream.write_all(reply.as_bytes()).await.unwrap();
}

/// Waits until the other end closes the connection.
pub async fn closed(mut stream: TcpStream) {
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 16])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}
