//! `layotto function invoke`: one request to a function over HTTP.

use std::{
    io::{IsTerminal, Read, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use layotto_core::GoDuration;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::call::{duration, split_header},
    Failure, PORT,
};

/// The longest answer, in bytes.
const LONGEST: usize = 64 << 20;

const AFTER_HELP: &str = "\
The body of the answer goes to standard output as it is. Where the status is not 2xx, it goes to
standard error with the status, and the exit code is 1.

Examples:
  layotto function invoke id_1 --data 'name=book1'
  layotto function invoke hello -H 'x-user: me' --data - < request.json";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct InvokeArgs {
    /// Id of the function
    id: String,
    /// Body of the request; `-` reads it from standard input
    #[arg(short, long, default_value = "", hide_default_value = true)]
    data: String,
    /// Port of the functions, on this machine
    #[arg(short, long, default_value = PORT)]
    port: u16,
    /// Header to send, `name: value`
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Longest wait for the whole answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

pub(super) fn invoke(args: InvokeArgs) -> Result<ExitCode, Failure> {
    let request = request(&args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let answer = runtime.block_on(async { timeout(args.timeout, exchange(args.port, request)).await });
    let answer = answer.map_err(|_| anyhow::anyhow!("no answer within {}", GoDuration(args.timeout)))??;
    show(&answer)
}

fn request(args: &InvokeArgs) -> Result<Request<Full<Bytes>>, Failure> {
    let body = match args.data.as_str() {
        "-" => {
            let mut body = Vec::new();
            std::io::stdin()
                .read_to_end(&mut body)
                .context("cannot read standard input")?;
            body.into()
        }
        data => Bytes::copy_from_slice(data.as_bytes()),
    };
    let id = HeaderValue::from_str(&args.id)
        .map_err(|_| Failure::usage(format_args!("id {:?} cannot be sent in a header", args.id)))?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    for line in &args.headers {
        let (name, value) = header(line).map_err(Failure::usage)?;
        headers.append(name, value);
    }
    headers.insert("id", id);
    Ok(request)
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = split_header(line)?;
    let wrong = |what: &str| format!("header {name:?}: the {what} is not allowed in HTTP");
    let value = value.parse().map_err(|_| wrong("value"))?;
    let name = name.parse().map_err(|_| wrong("name"))?;
    Ok((name, value))
}

async fn exchange(port: u16, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.with_context(|| {
        format!("nothing serves functions on port {port}: start it with `layotto function run FILE`")
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await.context("no answer")?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, LONGEST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

fn show(answer: &Response<Bytes>) -> Result<ExitCode, Failure> {
    let body = answer.body();
    if !answer.status().is_success() {
        let text = String::from_utf8_lossy(body);
        return Err(anyhow::anyhow!("{}: {}", answer.status(), text.trim_end()).into());
    }
    let mut out = std::io::stdout().lock();
    let unended = !body.is_empty() && !body.ends_with(b"\n");
    // So that the prompt stands on a line of its own; a file or a pipe gets the bytes and no more.
    let end: &[u8] = if unended && out.is_terminal() { b"\n" } else { b"" };
    let written = out.write_all(body).and_then(|()| out.write_all(end));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
