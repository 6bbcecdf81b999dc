//! Modules that are fetched over HTTP.

use std::{error::Error, net::IpAddr, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use layotto_mesh::config::ConfigError;
use layotto_wasm::{Fetch, LONGEST_MODULE};
use reqwest::{
    Client, Url,
    redirect::{Attempt, Policy},
};
use thiserror::Error;

use super::config::Vm;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How often a server may name another place.
const REDIRECTS: usize = 5;

/// Why a module was not fetched, besides what the client says.
#[derive(Debug, Error)]
enum Refusal {
    #[error("it was answered with status {0}")]
    Status(u16),
    #[error("it is longer than {LONGEST_MODULE} bytes")]
    TooLong,
    #[error("more than {REDIRECTS} redirects")]
    Redirects,
    #[error("a redirect from https leads to {0}")]
    Insecure(String),
    #[error("without a checksum, a redirect may not lead away from this machine")]
    Unchecked,
}

/// A module at a URL.
#[derive(Debug)]
pub struct Remote {
    url: Url,
    /// Whether a checksum tells if it is the right one.
    checked: bool,
}

/// Says what is wrong with the URL of a module.
pub fn check(vm: &Vm) -> Result<(), ConfigError> {
    let wrong = |text: String| Err(ConfigError::new("vm_config.url", text));
    let Ok(url) = vm.url.parse::<Url>() else {
        return wrong("is no URL".to_owned());
    };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong(format!(
            "found scheme {:?}, expected \"http\" or \"https\"",
            url.scheme()
        ));
    }
    if !vm.is_checked() && !is_local(&url) {
        return wrong("needs a checksum, md5 or sha256: others than this machine have the module".to_owned());
    }
    Ok(())
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || literal.parse().is_ok_and(is_loopback)
}

/// A URL without what may be secret in it: user, password and query.
pub fn shown(url: &str) -> String {
    match url.parse::<Url>() {
        Ok(url) => shown_url(&url),
        Err(_) => String::new(),
    }
}

fn shown_url(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

impl Remote {
    /// The module of `vm`, whose URL is right.
    pub fn new(vm: &Vm) -> Option<Self> {
        Some(Self {
            url: vm.url.parse().ok()?,
            checked: vm.is_checked(),
        })
    }

    async fn get(&self) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
        let checked = self.checked;
        let client = Client::builder()
            .redirect(Policy::custom(move |attempt| follow(attempt, checked)))
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(LIMIT)
            .user_agent(concat!("layotto/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let sent = client.get(self.url.clone()).send().await;
        // The URL may hold a password.
        let mut response = sent.map_err(reqwest::Error::without_url)?;
        if !response.status().is_success() {
            return Err(Refusal::Status(response.status().as_u16()).into());
        }
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + piece.len() > LONGEST_MODULE {
                return Err(Refusal::TooLong.into());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }
}

fn follow(attempt: Attempt<'_>, checked: bool) -> reqwest::redirect::Action {
    let secure = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    let to = attempt.url();
    let refusal = if attempt.previous().len() > REDIRECTS {
        Some(Refusal::Redirects)
    } else if secure && to.scheme() != "https" {
        Some(Refusal::Insecure(to.scheme().to_owned()))
    } else if !checked && !is_local(to) {
        Some(Refusal::Unchecked)
    } else {
        None
    };
    match refusal {
        Some(refusal) => attempt.error(refusal),
        None => attempt.follow(),
    }
}

#[async_trait]
impl Fetch for Remote {
    fn place(&self) -> String {
        shown_url(&self.url)
    }

    async fn fetch(&self) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
        self.get().await
    }
}

#[cfg(test)]
mod tests;
