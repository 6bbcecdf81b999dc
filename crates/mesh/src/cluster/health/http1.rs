//! Whether a host answers a path with the right status.

use std::ops::RangeInclusive;

use http::{HeaderValue, Method, Request, header, uri::PathAndQuery};
use hyper::client::conn::http1;

use super::probe::{Failure, authority, connect, drive};
use crate::{Body, cluster::Host};

#[derive(Debug)]
pub(super) struct Check {
    pub(super) port: Option<u16>,
    pub(super) path: PathAndQuery,
    pub(super) method: Method,
    pub(super) domain: Option<HeaderValue>,
    pub(super) codes: Vec<RangeInclusive<u16>>,
}

impl Check {
    pub(super) async fn ask(&self, host: &Host) -> Result<(), Failure> {
        let request = self.request(host)?;
        let stream = connect(host, self.port).await?;
        let (mut sender, connection) = http1::handshake(stream).await?;
        let status = drive(connection, sender.send_request(request)).await?.status();
        match self.codes.iter().any(|codes| codes.contains(&status.as_u16())) {
            true => Ok(()),
            false => Err(Failure::Reply(format!("status {status}"))),
        }
    }

    fn request(&self, host: &Host) -> Result<Request<Body>, Failure> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone().into();
        let domain = match &self.domain {
            Some(domain) => domain.clone(),
            None => HeaderValue::try_from(authority(host))
                .map_err(|_| Failure::Network("the host's name is no header".into()))?,
        };
        request.headers_mut().insert(header::HOST, domain);
        request
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
        request.headers_mut().insert(
            header::USER_AGENT,
            HeaderValue::from_static("layotto-health-check"),
        );
        Ok(request)
    }
}
