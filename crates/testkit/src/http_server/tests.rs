use tokio::io::AsyncReadExt;

use super::*;

async fn exchange(service: &HttpService, request: &str) -> String {
    let mut stream = TcpStream::connect(service.addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn echoes_and_records_names_and_order_as_sent() {
    let service = HttpService::start().await;
    let request = "POST /p?q=1 HTTP/1.1\r\nb-B: 1\r\nA: x \r\n:authority: h:1\r\nb-b: 2\r\n\
                   Content-Length: 4\r\nConnection: close\r\n\r\nbody";
    let answer = exchange(&service, request).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: "),
        "{answer}"
    );
    assert!(
        answer.contains("\r\nX-Up: yes\r\n") && answer.ends_with("\r\n\r\necho:body"),
        "{answer}"
    );

    let received = service.requests().remove(0);
    assert_eq!(
        (&*received.method, &*received.target, received.path()),
        ("POST", "/p?q=1", "/p")
    );
    let names: Vec<_> = received.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["b-B", "A", ":authority", "b-b", "Content-Length", "Connection"]
    );
    assert_eq!(received.header_values("B-b"), ["1", "2"]);
    assert_eq!(received.header(":authority"), Some("h:1"));
    assert_eq!(received.raw, request.as_bytes());
}

#[tokio::test]
async fn reads_chunked_bodies_and_keeps_the_connection() {
    let service = HttpService::start().await;
    let first = "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let second = "HEAD /b HTTP/1.1\r\nConnection: close\r\n\r\n";
    let answer = exchange(&service, &[first, second].concat()).await;
    assert!(answer.contains("echo:abcde"), "{answer}");
    assert!(
        answer.ends_with("Content-Length: 5\r\n\r\n"),
        "a HEAD has no body: {answer}"
    );
    assert_eq!(service.requests().len(), 2);
}

#[tokio::test]
async fn scripted_paths() {
    let service = HttpService::start().await;
    for (path, status, ending) in [
        ("/status/204", "204 No Content", "X-Up: yes\r\n\r\n"),
        ("/status/418", "418 Unknown", "st 418"),
        ("/json", "200 OK", r#"{"a":1}"#),
        ("/empty", "200 OK", "Content-Length: 0\r\n\r\n"),
        ("/hdrs", "200 OK", "echo:"),
        ("/bad target", "400 Bad Request", "st 400"),
    ] {
        let answer = exchange(
            &service,
            &format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{path}: {answer}"
        );
        assert!(answer.ends_with(ending), "{path}: {answer}");
    }
    let closed = exchange(&service, "GET /close HTTP/1.1\r\n\r\n").await;
    assert_eq!(closed, "");
    let headers = exchange(&service, "GET /hdrs HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(headers.contains("\r\nX-UPPER-Case: V\r\nte: x\r\n"), "{headers}");
}
