//! What the servers want to see before they serve: a login, and TLS.

use layotto_core::{Context, Error, ErrorKind, Result, Secret};
use zookeeper_client::{Client, Connector, Error as Cause};

use super::{Failure, tls};
use crate::client::tls::Tls;

/// The scheme of logins that servers know without being set up.
const SCHEME: &str = "digest";

/// The settings of the access, empty where there is none.
pub(crate) struct Given<'a> {
    pub(crate) username: &'a str,
    pub(crate) password: &'a Secret,
    pub(crate) enable_tls: bool,
    pub(crate) ca_cert: &'a str,
    pub(crate) client_cert: &'a str,
    pub(crate) client_key: &'a Secret,
}

/// How sessions are opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// `user:password`.
    login: Option<Secret>,
    tls: Option<Tls>,
}

impl Access {
    /// Fails for settings that cannot be used.
    pub(crate) fn new(given: &Given<'_>, cx: &Context) -> Result<Self> {
        let access = Self {
            login: login(given)?,
            tls: tls::tls(given, cx)?,
        };
        if access.login.is_some() && access.tls.is_none() {
            tracing::warn!(
                component = cx.name,
                "the password for ZooKeeper is sent in clear text"
            );
        }
        Ok(access)
    }

    /// Fails for a server that can have no certificate.
    pub(super) fn check(&self, servers: &[String]) -> Result<()> {
        if self.tls.is_some() {
            for server in servers {
                tls::name(server)?;
            }
        }
        Ok(())
    }

    /// What distinguishes sessions that cannot be shared.
    pub(super) fn identity(&self) -> String {
        let login = self.login.as_ref().map(Secret::expose);
        let shown = format!("{:?}", (login, self.tls.as_ref().map(Tls::parts)));
        // Not the text itself, which holds the password.
        let digest = ring::digest::digest(&ring::digest::SHA256, shown.as_bytes());
        format!("{digest:?}")
    }

    pub(super) async fn connect(&self, connector: Connector, servers: &str) -> Result<Client, Failure> {
        let connector = match &self.login {
            Some(login) => connector.with_auth(SCHEME, login.expose().as_bytes()),
            None => connector,
        };
        let session = match &self.tls {
            Some(tls) => tls::connect(tls, connector, servers).await,
            None => connector.connect(servers).await.map_err(Failure::from),
        };
        match session {
            Err(Failure::Zookeeper(Cause::AuthFailed)) => Err(self.refused().into()),
            session => session,
        }
    }

    fn refused(&self) -> Error {
        let text = match self.login {
            Some(_) => "zookeeper: the servers refuse the login of username and password",
            None => "zookeeper: the servers want a login, and username and password are not set",
        };
        Error::new(ErrorKind::Unauthenticated, text)
    }
}

fn login(given: &Given<'_>) -> Result<Option<Secret>> {
    let (user, password) = (given.username, given.password.expose());
    match (user.is_empty(), password.is_empty()) {
        (true, true) => Ok(None),
        (false, true) => Err(Error::invalid("password: needed by username")),
        (true, false) => Err(Error::invalid("username: needed by password")),
        (false, false) if user.contains(':') => {
            // The servers would take the rest for a part of the password.
            Err(Error::invalid("username: a user of ZooKeeper has no colon"))
        }
        (false, false) => Ok(Some(Secret::new(format!("{user}:{password}")))),
    }
}
