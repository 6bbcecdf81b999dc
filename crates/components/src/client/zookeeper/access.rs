//! What the servers want to see before they serve: a login.

use layotto_core::{Context, Error, ErrorKind, Result, Secret};
use zookeeper_client::{Client, Connector, Error as Cause};

use super::Failure;

/// The scheme of logins that servers know without being set up.
const SCHEME: &str = "digest";

/// The settings of the access, empty where there is none.
pub(crate) struct Given<'a> {
    pub(crate) username: &'a str,
    pub(crate) password: &'a Secret,
}

/// How sessions are opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// `user:password`.
    login: Option<Secret>,
}

impl Access {
    /// Fails for settings that cannot be used.
    pub(crate) fn new(given: &Given<'_>, cx: &Context) -> Result<Self> {
        let access = Self { login: login(given)? };
        if access.login.is_some() {
            tracing::warn!(
                component = cx.name,
                "the password for ZooKeeper is sent in clear text"
            );
        }
        Ok(access)
    }

    /// What distinguishes sessions that cannot be shared.
    pub(super) fn identity(&self) -> String {
        let shown = format!("{:?}", self.login.as_ref().map(Secret::expose));
        // Not the text itself, which holds the password.
        let digest = ring::digest::digest(&ring::digest::SHA256, shown.as_bytes());
        format!("{digest:?}")
    }

    pub(super) async fn connect(&self, connector: Connector, servers: &str) -> Result<Client, Failure> {
        let connector = match &self.login {
            Some(login) => connector.with_auth(SCHEME, login.expose().as_bytes()),
            None => connector,
        };
        match connector.connect(servers).await {
            Err(Cause::AuthFailed) => Err(self.refused().into()),
            session => Ok(session?),
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
