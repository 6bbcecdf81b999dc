//! The `Zipkin` driver: spans of API calls and of proxied calls, sent to a Zipkin server. Calls never
//! wait for it: what cannot be queued or sent is dropped and counted.

use std::time::{Duration, Instant};

use http::{HeaderMap, header, request};
use layotto_api::grpc::{self, Span, Tracer};
use layotto_mesh::{
    exchange::Exchange,
    trace::{
        self,
        zipkin::{Batches, Config, Queue, Record, ServerCall, Zipkin, queue},
    },
};
use reqwest::{Client, Url};
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// How long one batch may take to be sent.
const LIMIT: Duration = Duration::from_secs(5);

/// The shortest time between two complaints.
const COMPLAINT: Duration = Duration::from_secs(30);

/// Records calls; clones share the queue.
#[derive(Clone)]
pub struct ZipkinTracer(Zipkin);

/// Sends what was recorded.
pub struct Reporter {
    client: Client,
    url: Url,
    batches: Batches,
    queue: Queue,
    told: u64,
    complained: Option<Instant>,
}

/// The driver that `config` describes, and what must run so that its spans are sent.
pub fn new(config: &Config) -> anyhow::Result<(ZipkinTracer, Reporter)> {
    let (queue, batches) = queue();
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(LIMIT)
        .user_agent(concat!("layotto/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let reporter = Reporter {
        client,
        url: config.reporter_endpoint.parse()?,
        batches,
        queue: queue.clone(),
        told: 0,
        complained: None,
    };
    Ok((ZipkinTracer(Zipkin::new(config, queue)), reporter))
}

impl Tracer for ZipkinTracer {
    fn begin(&self, path: &'static str, headers: &HeaderMap) -> Box<dyn Span> {
        let call = self.0.serve(path, headers);
        Box::new(ApiCall { path, call })
    }
}

impl trace::Tracer for ZipkinTracer {
    fn begin(&self, head: &mut request::Parts, exchange: &Exchange) -> Option<Box<dyn trace::Span>> {
        trace::Tracer::begin(&self.0, head, exchange)
    }
}

struct ApiCall {
    path: &'static str,
    call: ServerCall,
}

impl grpc::Span for ApiCall {
    fn end(self: Box<Self>, code: Code) {
        self.call.end(self.path, code.into());
    }
}

impl Reporter {
    /// Sends batches until `shutdown`, and then what is left.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let batch = tokio::select! {
                batch = self.batches.next() => batch,
                () = shutdown.cancelled() => break,
            };
            let Some(batch) = batch else { return };
            self.send(&batch).await;
        }
        self.batches.close();
        while let Some(batch) = self.batches.next().await {
            self.send(&batch).await;
        }
    }

    async fn send(&mut self, batch: &[Record]) {
        let error = self.post(batch).await.err();
        if error.is_some() {
            self.queue.drop_spans(batch.len());
        }
        let dropped = self.queue.dropped();
        let quiet = self.complained.is_some_and(|last| last.elapsed() < COMPLAINT);
        if dropped > self.told && !quiet {
            let error = error.as_deref().map(|error| error as &dyn std::error::Error);
            tracing::warn!(
                spans = dropped - self.told,
                error,
                "spans were not sent to Zipkin"
            );
            self.told = dropped;
            self.complained = Some(Instant::now());
        }
    }

    async fn post(&self, batch: &[Record]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(batch)?);
        // The URL may hold a password.
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        response.error_for_status().map_err(reqwest::Error::without_url)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use bytes::Bytes;
    use http::{Request, Response, StatusCode};
    use http_body_util::{BodyExt, Full};
    use hyper::{body::Incoming, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::{net::TcpListener, sync::mpsc};

    use super::*;

    /// A server that answers every batch with `status`, and the batches it got.
    async fn server(status: StatusCode) -> (Config, mpsc::Receiver<(String, Bytes)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (got, batches) = mpsc::channel(8);
        let answer = move |request: Request<Incoming>| {
            let got = got.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                got.send((path, body)).await.unwrap();
                let mut response = Response::new(Full::<Bytes>::default());
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(answer.clone());
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        let config = Config {
            service_name: "shop".into(),
            reporter_endpoint: format!("http://{address}/api/v2/spans"),
            recorder_host_post: "127.0.0.1:9080".into(),
            ..Config::default()
        };
        (config, batches)
    }

    fn start(config: &Config) -> (ZipkinTracer, Reporter) {
        drop(rustls::crypto::ring::default_provider().install_default());
        new(config).unwrap()
    }

    #[tokio::test]
    async fn spans_of_both_kinds_are_posted_when_the_process_ends() {
        let (config, mut batches) = server(StatusCode::ACCEPTED).await;
        let (tracer, reporter) = start(&config);
        let tracer = Arc::new(tracer);
        Tracer::begin(&*tracer, "/a.B/C", &HeaderMap::new()).end(Code::Ok);
        let exchange = Exchange::begin("web".into(), None);
        let mut head = Request::new(()).into_parts().0;
        let span = trace::Tracer::begin(&*tracer, &mut head, &exchange).unwrap();
        span.end(&trace::Ended {
            status: 200,
            grpc_status: None,
            failed: false,
            took: Duration::from_millis(1),
            exchange: &exchange,
        });
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        reporter.run(shutdown).await;
        let mut names = Vec::new();
        while let Ok((path, body)) = batches.try_recv() {
            assert_eq!(path, "/api/v2/spans");
            let spans: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
            names.extend(spans.into_iter().map(|span| span["name"].clone()));
        }
        assert_eq!(names, ["/a.B/C", "get"]);
    }

    #[tokio::test]
    async fn a_server_that_refuses_costs_spans_and_nothing_else() {
        let (config, mut batches) = server(StatusCode::INTERNAL_SERVER_ERROR).await;
        let (tracer, mut reporter) = start(&config);
        Tracer::begin(&tracer, "/a.B/C", &HeaderMap::new()).end(Code::Ok);
        let batch = reporter.batches.next().await.unwrap();
        reporter.send(&batch).await;
        assert!(batches.recv().await.is_some());
        assert_eq!(reporter.queue.dropped(), 1);
    }
}
