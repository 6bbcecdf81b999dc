//! A sentinel whose answers a test decides: what real ones do in a moment can be made to last.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// The answer to a command, given in lower case, as it is written to the client; nothing where there
/// is none.
type Answers = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A running stand-in; its connections end with it.
pub(super) struct StandIn {
    pub(super) address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl StandIn {
    /// Starts one that says what every server does, and for the rest what `answers` says.
    pub(super) async fn start(answers: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Answers = Arc::new(answers);
        let accepting = async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serve(stream, Arc::clone(&answers));
                connections.push(AbortOnDropHandle::new(tokio::spawn(async move {
                    drop(serving.await);
                })));
            }
        };
        Self {
            address,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        }
    }
}

/// A list of texts.
pub(super) fn list(texts: &[&str]) -> String {
    let items = texts.iter().map(|text| format!("${}\r\n{text}\r\n", text.len()));
    format!("*{}\r\n{}", texts.len(), items.collect::<String>())
}

/// That the channel is subscribed to.
pub(super) fn subscribed(channel: &str) -> String {
    format!(
        ">3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n",
        channel.len()
    )
}

async fn serve(stream: TcpStream, answers: Answers) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let command = read(&mut stream).await?.to_lowercase();
        let answer = match command.split(' ').next() {
            Some("hello") => Some("%1\r\n$5\r\nproto\r\n:3\r\n".to_owned()),
            Some("ping") => Some("+PONG\r\n".to_owned()),
            _ => answers(&command),
        };
        if let Some(answer) = answer {
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}

/// The words of the next command.
async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut words = Vec::new();
    for _ in 0..number(stream, '*').await? {
        let mut word = vec![0; number(stream, '$').await? + 2];
        stream.read_exact(&mut word).await?;
        words.push(String::from_utf8_lossy(&word).trim_end().to_owned());
    }
    Ok(words.join(" "))
}

/// The number of the next line, which begins with `mark`.
async fn number(stream: &mut BufReader<TcpStream>, mark: char) -> io::Result<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let number = line.trim_end().strip_prefix(mark);
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
