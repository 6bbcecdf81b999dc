//! Other servers as back ends: nginx and HAProxy in front of the origin.

use layotto_peers::{
    load::http1::{Load, run},
    origin::Origin,
    proxy::{Kind, Plan, Protocol, Proxy},
};

use super::curl;
use crate::runner::{Case, Ignored};

pub fn cases() -> Vec<Case> {
    let backs = [
        ("nginx_http1", Kind::Nginx, Protocol::Http1, "nginx"),
        ("haproxy_http1", Kind::HaProxy, Protocol::Http1, "haproxy"),
        ("haproxy_http2", Kind::HaProxy, Protocol::Http2, "haproxy"),
    ];
    let case = |(name, kind, protocol, program)| {
        Case::new(
            format!("back_end::{name}"),
            &["curl", program],
            move |lab| async move {
                if lab.kind == Kind::Nginx && protocol == Protocol::Http2 {
                    return Err(Ignored("nginx 1.22 speaks HTTP/2 to gRPC servers only".into()).into());
                }
                let origin = Origin::start().await?;
                let back = Proxy::start(kind, &Plan::of(protocol, origin.address)).await?;
                let proxy = Proxy::start(lab.kind, &Plan::of(protocol, back.address)).await?;
                curl::whole(&curl::Curl::new(protocol, proxy.address, &[lab.kind, kind])).await?;
                if protocol == Protocol::Http1 {
                    let load = Load {
                        connections: 8,
                        time: lab.seconds(1, 30),
                        ..Load::new(proxy.address, "/bytes/100")
                    };
                    run(&load).await.ensure_no_failure()?;
                }
                Ok(())
            },
        )
    };
    backs.into_iter().map(case).collect()
}
