use std::{collections::HashMap, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// Answers each path with bytes that are written as they are; `{port}` in them is its own port.
async fn serve(answers: &[(&str, &str)]) -> (u16, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = |text: &str| text.replace("{port}", &port.to_string());
    let answers = answers
        .iter()
        .map(|(path, answer)| ((*path).to_owned(), text(answer)));
    let answers: Arc<HashMap<String, String>> = Arc::new(answers.collect());
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answers = answers.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut first = String::new();
                stream.read_line(&mut first).await.unwrap();
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                    line.clear();
                }
                let answer = answers
                    .get(&path)
                    .map_or("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", |answer| {
                        answer
                    });
                drop(stream.write_all(answer.as_bytes()).await);
            });
        }
    });
    (port, AbortOnDropHandle::new(accepting))
}

fn vm(url: &str, sha256: &str) -> Vm {
    Vm {
        url: url.to_owned(),
        sha256: sha256.to_owned(),
        ..Vm::default()
    }
}

async fn fetch(url: &str, sha256: &str) -> Result<Bytes, String> {
    // A second test of the process finds it installed.
    drop(rustls::crypto::ring::default_provider().install_default());
    let vm = vm(url, sha256);
    assert_eq!(check(&vm), Ok(()));
    let fetched = Remote::new(&vm).unwrap().fetch().await;
    fetched.map_err(|error| format!("{:#}", anyhow::Error::from_boxed(error)))
}

#[test]
fn a_url_that_is_wrong_says_why() {
    for (url, sha256, expected) in [
        ("module", "", "is no URL"),
        (
            "ftp://127.0.0.1/f",
            "",
            "found scheme \"ftp\", expected \"http\" or \"https\"",
        ),
        ("https://modules.test/f", "", "needs a checksum, md5 or sha256"),
        (
            "http://127.0.0.1.modules.test/f",
            "",
            "needs a checksum, md5 or sha256",
        ),
        (
            "http://localhost@modules.test/f",
            "",
            "needs a checksum, md5 or sha256",
        ),
    ] {
        let error = check(&vm(url, sha256)).unwrap_err();
        assert_eq!(error.path, "vm_config.url");
        assert!(error.message.starts_with(expected), "{url}: {}", error.message);
    }
    let local = [
        "http://localhost/f",
        "http://127.1.2.3:80/f",
        "https://[::1]/f",
        "http://[::ffff:127.0.0.1]/f",
    ];
    for url in local {
        assert_eq!(check(&vm(url, "")), Ok(()), "{url}");
    }
    assert_eq!(check(&vm("https://modules.test/f", "00")), Ok(()));
}

#[test]
fn what_may_be_secret_is_not_shown() {
    let shown = shown("https://user:pass@modules.test:8443/f.wasm?token=t#part");
    assert_eq!(shown, "https://modules.test:8443/f.wasm");
}

#[tokio::test]
async fn a_module_is_fetched() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\0asm";
    let moved = "HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: /f\r\n\r\n";
    let (port, _serving) = serve(&[("/f", ok), ("/moved", moved)]).await;
    for path in ["f", "moved"] {
        let url = format!("http://127.0.0.1:{port}/{path}");
        assert_eq!(fetch(&url, "").await.unwrap(), "\0asm", "{path}");
    }
}

#[tokio::test]
async fn a_module_that_is_not_there_or_too_long_is_refused() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(LONGEST_MODULE + 1));
    let (port, _serving) = serve(&[("/long", &endless)]).await;
    let error = fetch(&format!("http://127.0.0.1:{port}/none"), "")
        .await
        .unwrap_err();
    assert_eq!(error, "it was answered with status 404");
    let error = fetch(&format!("http://127.0.0.1:{port}/long"), "")
        .await
        .unwrap_err();
    assert_eq!(error, format!("it is longer than {LONGEST_MODULE} bytes"));
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_is_safe() {
    let to = |place: &str| format!("HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: {place}\r\n\r\n");
    let (around, away) = (to("/around"), to("http://modules.test/f"));
    let (port, _serving) = serve(&[("/around", &around), ("/away", &away)]).await;
    let error = fetch(&format!("http://127.0.0.1:{port}/around"), "00")
        .await
        .unwrap_err();
    assert!(error.ends_with("more than 5 redirects"), "{error}");
    let error = fetch(&format!("http://127.0.0.1:{port}/away"), "")
        .await
        .unwrap_err();
    assert!(
        error.ends_with("without a checksum, a redirect may not lead away from this machine"),
        "{error}"
    );
}

#[tokio::test]
async fn secrets_of_a_url_are_in_no_error() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for place in ["none", "around"] {
        let around = "HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: /around?token=secret\r\n\r\n";
        let (port, _serving) = serve(&[("/around?token=secret", around)]).await;
        let port = if place == "none" { free } else { port };
        let url = format!("http://user:secret@127.0.0.1:{port}/{place}?token=secret");
        let error = fetch(&url, "").await.unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_refused() {
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/f", listener.local_addr().unwrap());
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
            .accept(stream)
            .await
            .is_err()
    };
    let (error, refused) = tokio::join!(fetch(&url, ""), serving);
    assert!(refused);
    assert!(error.unwrap_err().to_lowercase().contains("certificate"));
}
